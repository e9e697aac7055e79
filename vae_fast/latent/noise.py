"""The noise: Philox4x32-10 (Salmon et al. 2011) and Box-Muller, in plain PyTorch.

As the kernels have it (csrc/formulas/philox.h), to rounding: specification, oracle of the tests,
fallback. The element i of z, in row-major order, belongs to block b = i // 64; within its block its
place is 16 * component + lane. The counter of (b, lane) is 16 b + lane, and gives four components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vae_fast.engine.dtypes import promoted_dtype, result_dtype, sum_dtype
from vae_fast.engine.shapes import broadcast_shape

_LANES = 16
_COMPONENTS = 4
_BLOCK = _LANES * _COMPONENTS

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of 32-bit words held in int64 tensors, which broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The products wrap around in int64: their 64 bits are right, only the sign is not.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32 & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            (p0 >> 32 & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _box_muller(a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two independent standard normals from two 32-bit words."""
    # A float32 in every dtype: near 1 the radius hangs on its last bits.
    uniform = (a >> 1).to(torch.float32) * 2.0**-31 + 2.0**-32
    radius = torch.sqrt(-2 * torch.log(uniform.to(dtype)))
    # The angle is (q + f) quarter turns, f in [-1/2, 1/2), where sine and cosine are best.
    quarter = b >> 30
    fraction = ((b & 0x3FFFFFFF) ^ 0x20000000) - 0x20000000
    angle = fraction.to(dtype) * (2.0**-30 * (math.pi / 2))
    sine, cosine = torch.sin(angle), torch.cos(angle)
    is_odd = (quarter & 1) == 1
    sine, cosine = torch.where(is_odd, cosine, sine), torch.where(is_odd, -sine, cosine)
    sign = 1 - (quarter & 2).to(dtype)
    return radius * sign * sine, radius * sign * cosine


def normal_noise(seed: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Standard normal noise, a function of the seed alone.

    Args:
        seed: (rows, 2) int64: key and offset; row q drives the q-th equal share of the elements.
        shape: Of the result.
        dtype: float32 or float64: of the arithmetic too.
    """
    rows = seed.shape[0]
    share = math.prod(shape) // rows
    blocks = (share + _BLOCK - 1) // _BLOCK
    index = torch.arange(blocks * _LANES, device=seed.device)
    key, offset = seed[:, :1], seed[:, 1:]
    words = philox4x32(
        (index & _WORD, index >> 32, offset & _WORD, offset >> 32 & _WORD),
        (key & _WORD, key >> 32 & _WORD),
    )
    normals = (*_box_muller(words[0], words[1], dtype), *_box_muller(words[2], words[3], dtype))
    lanes = torch.stack([n.reshape(rows, blocks, _LANES) for n in normals], dim=2)
    return lanes.reshape(rows, blocks * _BLOCK)[:, :share].reshape(shape)


def draw_seed(
    generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Key and offset of the noise, (1, 2) int64 on ``device``: two 64-bit draws from a generator.

    From the CPU's the same two words as the compiled op draws (but for one value in 2^64), by way
    of randint, which knows torch.func.vmap's modes of randomness.
    """
    lowest = -(2**63)
    device = torch.device("cpu") if device is None else device
    source = device if generator is None else generator.device
    seed = torch.randint(lowest, 2**63 - 1, (1, 2), generator=generator, device=source) ^ lowest
    return seed.to(device)


def sample(operands: Sequence[Tensor], seed: Tensor) -> Tensor:
    """Samples z = mu + exp(logvar / 2) eps in the operands' broadcast shape."""
    dtype = sum_dtype(promoted_dtype(operands))
    seed = seed.to(operands[0].device)
    return moved(operands, normal_noise(seed, broadcast_shape(operands), dtype))


def moved(operands: Sequence[Tensor], noise: Tensor) -> Tensor:
    """Of mu, logvar and what else z has its dtype from: z = mu + exp(logvar / 2) noise."""
    mu, logvar = operands[:2]
    dtype = sum_dtype(promoted_dtype(operands))
    z = mu.to(dtype) + torch.exp(0.5 * logvar.to(dtype)) * noise.to(dtype)
    return z.to(result_dtype(operands))
