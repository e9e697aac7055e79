"""Several codes for a vector, each of what the ones before left over."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

from torch import Tensor

from vae_fast.engine.checks import check_choice
from vae_fast.latent.quantizers.base import Quantized, Quantizer
from vae_fast.latent.quantizers.composed import ComposedQuantizer, joined
from vae_fast.latent.quantizers.gradients import GRADIENTS, Gradient


class ResidualQuantizer(ComposedQuantizer):
    """A vector as a sum of codes (residual VQ; Zeghidour et al. 2021, "SoundStream", algorithm 1).

    Args:
        quantizers: One after another; each one's own ``dim`` and ``gradient`` are not used.
        gradient: Of the sum for x, as in :class:`VectorQuantizer`.
        dim: Which dimension of x the vectors are along.

    Raises:
        ValueError: There is none, or they are of vectors of different sizes.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import ResidualQuantizer, VectorQuantizer
        >>> quantizer = ResidualQuantizer(VectorQuantizer(64, 8) for _ in range(4))
        >>> quantizer(torch.randn(16, 8)).indices.shape
        torch.Size([16, 4])
    """

    def __init__(
        self,
        quantizers: Iterable[Quantizer],
        *,
        gradient: Gradient = "straight_through",
        dim: int = -1,
    ) -> None:
        parts = list(quantizers)
        check_choice("ResidualQuantizer", "gradient", gradient, GRADIENTS)
        sizes = sorted({part.code_dim for part in parts})
        if len(sizes) != 1:
            raise ValueError(
                f"ResidualQuantizer: quantizers are of vectors of sizes {sizes}, expected at least "
                f"one quantizer, all of one size"
            )
        super().__init__(parts, sizes[0], dim)
        self.gradient = gradient

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        found: list[Quantized] = []
        rest = x
        for part in self.parts:
            found.append(part.quantize(rest))
            rest = rest - found[-1].quantized.detach()
        # Not the sum of their gradients, which would be x's as often as there are quantizers.
        code = _total([each.quantized.detach() for each in found])
        return joined(found, GRADIENTS[self.gradient](x, code))

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        return _total(self.lookups(indices))


def _total(codes: list[Tensor]) -> Tensor:
    """In order, so that what is decoded is what was quantized to the bit."""
    return functools.reduce(operator.add, codes)
