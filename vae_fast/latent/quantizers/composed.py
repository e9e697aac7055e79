"""Quantizers made of others: their indices side by side, their losses added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vae_fast.latent.quantizers.base import Quantized, Quantizer


class ComposedQuantizer(Quantizer):
    """What a residual and a grouped quantizer share.

    Args:
        parts: Each one's own ``dim`` is not used.
        code_dim: Of the whole.
        dim: Which dimension of x the vectors are along.
    """

    def __init__(self, parts: Sequence[Quantizer], code_dim: int, dim: int) -> None:
        super().__init__(code_dim, math.prod(part.num_codes for part in parts), dim)
        self.quantizers = nn.ModuleList(parts)

    @property
    def parts(self) -> list[Quantizer]:
        """The quantizers."""
        return cast(list[Quantizer], list(self.quantizers))

    def lookups(self, indices: Tensor) -> list[Tensor]:
        """The code of each part; (*batch, parts) indices."""
        parts = zip(self.parts, indices.unbind(-1), strict=True)
        return [part.lookup(index) for part, index in parts]


def joined(found: Sequence[Quantized], quantized: Tensor) -> Quantized:
    """What the parts gave, as one."""
    losses = ("loss", "commitment", "codebook", "entropy")
    others = ("indices", "perplexity", "usage")
    return Quantized(
        quantized=quantized,
        **{name: torch.stack([getattr(f, name) for f in found]).sum(0) for name in losses},
        **{name: torch.stack([getattr(f, name) for f in found], -1) for name in others},
    )
