"""The table of what is measured: one row per function, size and dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import vae_fast as vf
from vae_fast.bench import plain

Draw = Callable[[tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Case:
    """A row: the same computation, forward and backward, by this package and in plain PyTorch.

    `fused` and `plain` take the operands, in their order, and give a loss, or z and a loss.

    Attributes:
        op: the function's name.
        size: of every operand; of pictures the batch and the pixels' numbers; of a mixture how many
            data, components and numbers.
        draws: an operand each, in float64.
        fused: by this package.
        plain: in plain PyTorch.
        dtype: of the operands.
        target_dtype: of the last operand, where it is data and has no gradient.
    """

    op: str
    size: tuple[int, ...]
    draws: tuple[Draw, ...]
    fused: Callable[..., Any]
    plain: Callable[..., Any]
    dtype: torch.dtype = torch.float32
    target_dtype: torch.dtype | None = None

    @property
    def name(self) -> str:
        """The size, and the dtypes if they are not the usual ones."""
        parts = ["x".join(map(str, self.size))]
        if self.dtype != torch.float32:
            parts.append(str(self.dtype).removeprefix("torch."))
        if self.target_dtype not in (None, self.dtype):
            parts.append(f"{self.target_dtype} target".removeprefix("torch."))
        return " ".join(parts)

    def inputs(self, device: str) -> list[Tensor]:
        """The operands, the same in every run."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn = [draw(self.size) for draw in self.draws]
        return [self._operand(k, x.to(device)) for k, x in enumerate(drawn)]

    def _operand(self, k: int, drawn: Tensor) -> Tensor:
        if self.target_dtype is None or k < len(self.draws) - 1:
            return drawn.to(self.dtype).requires_grad_()
        return (255 * drawn if self.target_dtype == torch.uint8 else drawn).to(self.target_dtype)


def moved_bytes(inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """What any implementation must move: every operand read and every gradient written once.

    Where z is among the outputs, the backward needs z's gradient, and so comes later: z is written,
    its gradient read, and the operands are read a second time.
    """
    reads = sum(x.nbytes for x in inputs)
    gradients = sum(x.nbytes for x in inputs if x.requires_grad)
    samples = sum(x.nbytes for x in outputs if x.dim() > 0)
    return reads + gradients + (reads + 2 * samples if samples else 0)


def likelihood(
    op: str,
    draws: tuple[Draw, ...],
    fused: Callable[..., Any],
    elementwise: Callable[..., Tensor],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    target_dtype: torch.dtype | None = None,
) -> Case:
    """A likelihood, summed and divided by the batch size; its last operand is data."""
    whole = plain.batch_mean(elementwise)
    return Case(op, size, draws, fused, whole, dtype, target_dtype or dtype)


def _normal(scale: float) -> Draw:
    return lambda shape: scale * torch.randn(shape, dtype=torch.float64)


def _intensities(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _bernoulli(rows: int, columns: int, *dtypes: torch.dtype) -> Case:
    draws = (_normal(3.0), _intensities)
    size = (rows, columns)
    return likelihood("bernoulli_nll", draws, vf.bernoulli_nll, plain.bernoulli_nll, size, *dtypes)


def _gaussian(rows: int, columns: int) -> Case:
    draws = (_normal(1.0),) * 3
    size = (rows, columns)
    return likelihood("gaussian_nll", draws, _gaussian_nll, plain.gaussian_nll, size)


def _gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    return vf.gaussian_nll(mean, target, logvar)


def _counts(shape: tuple[int, ...]) -> Tensor:
    """Mostly none, as what users have clicked on or documents contain."""
    return torch.poisson(torch.full(shape, 0.01, dtype=torch.float64))


def _multinomial(rows: int, columns: int) -> Case:
    draws = (_normal(1.0), _counts)
    size = (rows, columns)
    return likelihood("multinomial_nll", draws, vf.multinomial_nll, plain.multinomial_nll, size)


def _mixed_pixels(shape: tuple[int, ...]) -> Tensor:
    """What a decoder gives for square pictures of three channels: of ten logistics, narrow ones."""
    side = math.isqrt(shape[1] // 3)
    logits, *numbers = torch.randn(10, shape[0], 10, side, side, dtype=torch.float64)
    for log_scales in numbers[1::3]:
        log_scales -= 2
    return torch.cat((logits, *numbers), 1)


def _pictures(shape: tuple[int, ...]) -> Tensor:
    side = math.isqrt(shape[1] // 3)
    levels = (255 * _intensities((shape[0], 3, side, side))).round()
    return levels / 255  # what lies between them is at an edge for some, and not for others


def _mixture(rows: int, columns: int) -> Case:
    op, draws, size = (
        "discretized_logistic_mixture_nll",
        (_mixed_pixels, _pictures),
        (rows, columns),
    )
    return likelihood(op, draws, getattr(vf, op), getattr(plain, op), size)


def _latent(op: str, rows: int, columns: int) -> Case:
    draws = (_normal(1.0), _normal(0.5))
    return Case(op, (rows, columns), draws, getattr(vf, op), getattr(plain, op))


def _pairs(fused: Callable[..., Tensor], rows: int, components: int, dims: int) -> Case:
    """Data against the components of a mixture."""
    op = fused.__name__.removeprefix("_")

    def of(count: int) -> Draw:
        return lambda _: torch.randn(count, dims, dtype=torch.float64)

    draws = (of(rows), *(of(components),) * 2)
    return Case(op, (rows, components, dims), draws, fused, getattr(plain, op))


def _gaussian_mixture_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return vf.gaussian_mixture_log_prob(x, mean, logvar).sum()


def _aggregated_posterior_log_prob(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    joint, marginals = vf.aggregated_posterior_log_prob(z, mu, logvar)
    return joint.sum() + marginals.sum()


_KERNELS = (
    _bernoulli(128, 784),
    _bernoulli(512, 3072),
    _bernoulli(128, 20000),
    _bernoulli(4096, 3136),
    _bernoulli(512, 3072, torch.float32, torch.uint8),
    _bernoulli(512, 3072, torch.bfloat16),
    _gaussian(512, 3072),
    _gaussian(128, 20000),
    _multinomial(512, 20000),
    _mixture(16, 3072),
    _latent("gaussian_kl", 128, 20),
    _latent("gaussian_kl", 4096, 128),
    _latent("reparameterize_kl", 128, 20),
    _latent("reparameterize_kl", 512, 64),
    _latent("reparameterize_kl", 4096, 128),
    _latent("reparameterize_kl", 8, 16384),
    _pairs(_gaussian_mixture_log_prob, 128, 500, 40),
    _pairs(_gaussian_mixture_log_prob, 512, 512, 64),
    _pairs(_aggregated_posterior_log_prob, 128, 128, 10),
    _pairs(_aggregated_posterior_log_prob, 512, 512, 64),
)

# Where a GPU's memory decides, and neither its cache nor the tens of microseconds of a call.
_ON_A_GPU = (
    _bernoulli(8192, 8192),
    _bernoulli(8192, 8192, torch.bfloat16),
    _gaussian(8192, 8192),
    _latent("gaussian_kl", 8192, 8192),
    _latent("reparameterize_kl", 8192, 8192),
)

# Where a call's overhead is all there is: a batch's latent variables, and a single vector.
SMALL = tuple(
    case
    for size in ((128, 20), (1, 16))
    for case in (
        _bernoulli(*size),
        _gaussian(*size),
        *(_latent(op, *size) for op in ("gaussian_kl", "reparameterize", "reparameterize_kl")),
    )
)


def growing(op: str, elements: int) -> Case:
    """A likelihood or a sampler on one datum of so many elements."""
    return _bernoulli(1, elements) if op == "bernoulli_nll" else _latent(op, 1, elements)


def kernels(device: str) -> tuple[Case, ...]:
    """The rows for a device."""
    return _KERNELS + (_ON_A_GPU if device == "cuda" else ())
