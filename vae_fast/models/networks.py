"""The encoders and decoders of this package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from vae_fast.models.fused import FusedSequential

# A convolution of stride 2 with this kernel and padding halves any size, rounding down.
_KERNEL, _STRIDE, _PADDING = 4, 2, 1


def mlp(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear layers of these sizes with ReLU between them, (B, sizes[0]) to (B, sizes[-1])."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return layers[:-1]


def mlp_encoder(
    shape: Sequence[int], hidden: Sequence[int], outputs: int, *, reads_csr: bool = False
) -> FusedSequential:
    """(B, *shape) to (B, outputs) through linear layers.

    Where `outputs` are the two heads of a VAE, one layer for both computes what two layers would,
    and starts in the same distribution: `nn.Linear` draws by its number of inputs alone.

    `reads_csr`: the first layer's weight is held transposed, as `sparse_linear` reads it.
    """
    layers = mlp([math.prod(shape), *hidden, outputs])
    if reads_csr:
        weight = cast(nn.Parameter, layers[0].weight)
        layers[0].weight = nn.Parameter(weight.detach().t().contiguous().t())
    return FusedSequential(nn.Flatten(), *layers)


def mlp_decoder(inputs: int, hidden: Sequence[int], shape: Sequence[int]) -> FusedSequential:
    """(B, inputs) to (B, *shape) through linear layers."""
    sizes = [inputs, *reversed(hidden), math.prod(shape)]
    return FusedSequential(*mlp(sizes), nn.Unflatten(1, tuple(shape)))


class ResidualBlock(nn.Module):
    """x + f(x) of pictures (B, C, H, W): ReLU, a convolution of 3 x 3, ReLU, and one of 1 x 1.

    That of the VQ-VAE (van den Oord et al. 2017, section 4.1).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape."""
        return x + cast(Tensor, self.body(x))


def conv_encoder(
    shape: Sequence[int],
    channels: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    *,
    blocks: int = 0,
) -> FusedSequential:
    """(B, C, H, W) to (B, outputs): each convolution halves the picture, linear layers follow.

    `blocks`: residual ones behind each of them.
    """
    sizes = _sizes(shape, channels)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise([shape[0], *channels]):
        layers += [
            nn.Conv2d(before, after, _KERNEL, _STRIDE, _PADDING),
            *(ResidualBlock(after) for _ in range(blocks)),
            nn.ReLU(inplace=True),
        ]
    features = channels[-1] * math.prod(sizes[-1])
    return FusedSequential(*layers, nn.Flatten(), *mlp([features, *hidden, outputs]))


def conv_decoder(
    inputs: int,
    channels: Sequence[int],
    hidden: Sequence[int],
    shape: Sequence[int],
    *,
    blocks: int = 0,
) -> FusedSequential:
    """(B, inputs) to (B, C, H, W): the mirror of `conv_encoder`."""
    sizes = _sizes(shape, channels)
    smallest = (channels[-1], *sizes[-1])
    layers: list[nn.Module] = [
        *mlp([inputs, *reversed(hidden), math.prod(smallest)]),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, smallest),
    ]
    steps = zip(
        itertools.pairwise([*reversed(channels), shape[0]]),
        itertools.pairwise(reversed(sizes)),
        strict=True,
    )
    for (before, after), (small, large) in steps:
        odd = (large[0] - _STRIDE * small[0], large[1] - _STRIDE * small[1])
        layers += [
            *(ResidualBlock(before) for _ in range(blocks)),
            nn.ConvTranspose2d(before, after, _KERNEL, _STRIDE, _PADDING, output_padding=odd),
            nn.ReLU(inplace=True),
        ]
    return FusedSequential(*layers[:-1])


def _sizes(shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width before and after each convolution."""
    sizes = [(shape[1] // 2**level, shape[2] // 2**level) for level in range(len(channels) + 1)]
    if min(sizes[-1]) < 1:
        raise ValueError(
            f"channels {tuple(channels)} halve the picture {len(channels)} times, "
            f"too often for {shape[1]} x {shape[2]} pixels"
        )
    return sizes
