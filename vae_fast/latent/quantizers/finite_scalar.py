"""Finite scalar quantization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vae_fast.latent.quantizers.base import Quantized, Quantizer, counts_of_some, usage_of
from vae_fast.latent.quantizers.gradients import straight_through

# Keeps what is rounded off the halves at the ends (the paper's appendix A.1).
_MARGIN = 1e-3


class FSQ(Quantizer):
    """Each number rounded to one of a few levels (Mentzer et al. 2023, "FSQ: VQ-VAE made simple").

    Nothing is learned, no code can die, and there is no loss. Of L levels, x becomes
    round(tanh(x + shift) h - offset) / (L // 2) with h = (L - 1) (1 - 0.001) / 2, where of an even
    L the offset is 1/2 and shift = tan(offset / h), of an odd one both are 0: appendix A.1 of the
    paper, with its tangent (an inverse hyperbolic one, which others put there, has no value for 2
    levels). The gradient passes through the rounding as it is, and through the rest exactly.

    The paper's levels (table 1), by the size of the codebook that they stand for:

    ====  =================  ====  ==================
    2^8   8, 6, 5            2^14  8, 8, 8, 6, 5
    2^10  8, 5, 5, 5         2^16  8, 8, 8, 5, 5, 5
    2^12  7, 5, 5, 5, 5
    ====  =================  ====  ==================

    `vector-quantize-pytorch` 1.32 gives the same codes and indices, but of what is within 0.005 of
    an edge between two levels: there the 0.001 has the other sign, and the shift is inverse
    hyperbolic.

    Args:
        levels: Of each of the D numbers, each at least 2.
        dim: Which dimension of x the vectors are along.

    Raises:
        TypeError: A level is no whole number.
        ValueError: There is none, or one is below 2, or the codes are more than int64 counts.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import FSQ
        >>> quantizer = FSQ([8, 5, 5, 5])
        >>> quantizer.num_codes
        1000
        >>> found = quantizer(torch.tensor([[-9.0, 0.0, 0.3, 9.0]]))
        >>> found.quantized
        tensor([[-1.0000,  0.0000,  0.5000,  1.0000]])
        >>> found.indices, quantizer.decode(found.indices)
        (tensor([936]), tensor([[-1.0000,  0.0000,  0.5000,  1.0000]]))
    """

    levels: Tensor
    steps: Tensor

    def __init__(self, levels: Sequence[int], *, dim: int = -1) -> None:
        for level in levels:
            self._require_whole("levels", level, 2)
        num_codes = math.prod(levels)
        if not levels or num_codes >= 2**63:
            raise ValueError(
                f"FSQ: levels is {levels!r}, expected at least one, and less than 2**63 codes"
            )
        super().__init__(len(levels), num_codes, dim)
        # What an index is counted with: the first number's level changes fastest.
        steps = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels))
        self.register_buffer("steps", torch.tensor(steps))

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        bounded = self._bounded(x)
        rounded = bounded.detach().round()
        middle = self.levels // 2
        indices = ((rounded.long() + middle) * self.steps).sum(-1)
        nothing = x.new_zeros(())
        return Quantized(
            quantized=straight_through(bounded, rounded) / middle,
            indices=indices,
            loss=nothing,
            commitment=nothing,
            codebook=nothing,
            entropy=nothing,
            **usage_of(counts_of_some(indices), self.num_codes),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        middle = self.levels // 2
        of_each = indices.unsqueeze(-1) // self.steps % self.levels
        return (of_each - middle) / middle

    def _bounded(self, x: Tensor) -> Tensor:
        """What is rounded: within the levels, and 0 near x = 0."""
        half = (self.levels - 1).to(x.dtype) * (1 - _MARGIN) / 2
        offset = 0.5 * (1 - self.levels % 2).to(x.dtype)
        return torch.tanh(x + torch.tan(offset / half)) * half - offset

    def extra_repr(self) -> str:
        """The settings, as print(module) shows them."""
        return f"{self.levels.tolist()}, dim={self.dim}"
