"""Lookup-free quantization."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast.engine.checks import is_number
from vae_fast.latent.quantizers.base import (
    Quantized,
    Quantizer,
    counts_of_some,
    mean_square,
    usage_of,
)
from vae_fast.latent.quantizers.gradients import straight_through

_MOST_BITS = 62  # whose codes int64 counts
# Bits whose joint distribution is made: of twice as many, 2^18 codes, MAGVIT-v2's codebook.
_HALF = 9


class LFQ(Quantizer):
    """Each number becomes its sign, a bit (Yu et al. 2023, "MAGVIT-v2", section 3.1).

    loss = entropy_weight * entropy + commitment_weight * commitment, where entropy is
    E[H(code | x)] - H(code) (equation 5): codes that are sure of themselves, and all in use. The
    codes of x are those of softmax(-|x - code|^2 / temperature). Given x their bits are
    independent, each with the logit 4 x / temperature, so that E[H(code | x)] is the sum of the
    bits' entropies, exactly. Over a batch they are not, but H(code) is exact, too, for up to 18
    bits: the batch's 2^D probabilities are one matrix product of those of the first and of the
    second half of the bits, where the softmax would take N x 2^D numbers. More bits are taken in
    groups of up to 18, whose entropies are added: an upper bound of H(code).

    Codes and entropies are those of `vector-quantize-pytorch` 1.32 with ``inv_temperature`` 1.

    Args:
        num_bits: D, from 1 to 62; there are 2^D codes.
        entropy_weight: Of the entropy term.
        commitment_weight: Of |x - sg(code)|^2, as in :class:`VectorQuantizer`.
        temperature: Of the softmax that the entropies are of.
        dim: Which dimension of x the vectors are along.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import LFQ
        >>> quantizer = LFQ(4)
        >>> found = quantizer(torch.tensor([[0.3, -0.2, 2.0, -1.0]]))
        >>> found.quantized, found.indices  # the first number is the lowest bit
        (tensor([[ 1., -1.,  1., -1.]]), tensor([5]))
        >>> quantizer.decode(found.indices)
        tensor([[ 1., -1.,  1., -1.]])
    """

    bits: Tensor

    def __init__(
        self,
        num_bits: int,
        *,
        entropy_weight: float = 0.1,
        commitment_weight: float = 0.25,
        temperature: float = 1.0,
        dim: int = -1,
    ) -> None:
        self._require_whole("num_bits", num_bits, 1)
        if num_bits > _MOST_BITS:
            raise ValueError(f"LFQ: num_bits is {num_bits}, expected at most {_MOST_BITS}")
        for name, value in (
            ("entropy_weight", entropy_weight),
            ("commitment_weight", commitment_weight),
            ("temperature", temperature),
        ):
            if not is_number(value):
                raise TypeError(f"LFQ: {name} is of type {type(value).__name__}, expected float")
            if not 0 <= value < float("inf") or (value == 0 and name == "temperature"):
                least = "more than" if name == "temperature" else "at least"
                raise ValueError(f"LFQ: {name} is {value}, expected a number of {least} 0")
        super().__init__(num_bits, 2**num_bits, dim)
        self.entropy_weight = float(entropy_weight)
        self.commitment_weight = float(commitment_weight)
        self.temperature = float(temperature)
        self.register_buffer("bits", 2 ** torch.arange(num_bits), persistent=False)

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        is_on = x.detach() > 0
        code = torch.where(is_on, 1.0, -1.0).to(x.dtype)
        indices = (is_on * self.bits).sum(-1)
        logits = x.flatten(0, -2) * (4 / self.temperature)
        entropy = _bit_entropies(logits).sum(-1).mean() - _batch_entropy(logits)
        commitment = mean_square(x - code)
        return Quantized(
            quantized=straight_through(x, code),
            indices=indices,
            loss=self.entropy_weight * entropy + self.commitment_weight * commitment,
            commitment=commitment,
            codebook=torch.zeros_like(commitment),
            entropy=entropy,
            **usage_of(counts_of_some(indices), self.num_codes),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        is_on = (indices.unsqueeze(-1) & self.bits) > 0
        return torch.where(is_on, 1.0, -1.0)

    def extra_repr(self) -> str:
        """The settings, as print(module) shows them."""
        return (
            f"{self.code_dim}, entropy_weight={self.entropy_weight}, "
            f"commitment_weight={self.commitment_weight}, temperature={self.temperature}, "
            f"dim={self.dim}"
        )


def _bit_entropies(logits: Tensor) -> Tensor:
    """Of Bernoulli variables: softplus(-|l|) + |l| sigmoid(-|l|), in which nothing cancels."""
    size = logits.abs()
    return functional.softplus(-size) + size * torch.sigmoid(-size)


def _batch_entropy(logits: Tensor) -> Tensor:
    """H of the average over the batch of the codes' distributions, (N, D) logits."""
    groups = -(-logits.shape[-1] // (2 * _HALF))
    parts = [_group_entropy(group) for group in logits.tensor_split(groups, -1)]
    return torch.stack(parts).sum()


def _group_entropy(logits: Tensor) -> Tensor:
    first, second = (_code_probabilities(half) for half in logits.tensor_split(2, -1))
    # Sums of products that bfloat16 would not hold.
    with torch.autocast(logits.device.type, enabled=False):
        average = first.T @ second / len(logits)
    # Where it underflows to 0, so does its part of the gradient, whose factor log 0 is not finite.
    entropy: Tensor = torch.special.entr(average.clamp(min=torch.finfo(average.dtype).tiny)).sum()
    return entropy


def _code_probabilities(logits: Tensor) -> Tensor:
    """(N, D) logits of independent bits to the probabilities of all codes, (N, 2^D)."""
    codes = logits.new_ones(len(logits), 1)
    for logit in logits.unbind(-1):
        bit = torch.sigmoid(torch.stack([-logit, logit], -1))
        codes = (codes.unsqueeze(1) * bit.unsqueeze(2)).flatten(1)
    return codes
