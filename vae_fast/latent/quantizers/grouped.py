"""A vector in parts, each with a codebook of its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vae_fast.latent.quantizers.base import Quantized, Quantizer
from vae_fast.latent.quantizers.composed import ComposedQuantizer, joined


class GroupedQuantizer(ComposedQuantizer):
    """A vector's parts quantized each by itself (product quantization; Jegou et al. 2011).

    K codes in each of G parts are K^G codes for the whole, at the price of G K.

    Args:
        quantizers: Of the parts, from the front; the vector is as long as all of theirs together.
            Each one's own ``dim`` is not used.
        dim: Which dimension of x the vectors are along.

    Raises:
        ValueError: There is none.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import GroupedQuantizer, VectorQuantizer
        >>> quantizer = GroupedQuantizer(VectorQuantizer(64, 4) for _ in range(2))
        >>> quantizer(torch.randn(16, 8)).indices.shape
        torch.Size([16, 2])
    """

    def __init__(self, quantizers: Iterable[Quantizer], *, dim: int = -1) -> None:
        parts = list(quantizers)
        if not parts:
            raise ValueError("GroupedQuantizer: quantizers is empty, expected at least one")
        super().__init__(parts, sum(part.code_dim for part in parts), dim)

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        parts = self.parts
        vectors = torch.split(x, [part.code_dim for part in parts], -1)
        found = [part.quantize(vector) for part, vector in zip(parts, vectors, strict=True)]
        return joined(found, torch.cat([each.quantized for each in found], -1))

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        return torch.cat(self.lookups(indices), -1)
