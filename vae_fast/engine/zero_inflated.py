"""What more zeros make of a likelihood of counts: in plain PyTorch, and as a distribution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.distribution import Distribution
from vae_fast.engine.table import LOSSES


def zero_inflated_value(op: str, logits: Tensor, operands: tuple[Tensor, ...]) -> Tensor:
    """-log of sigmoid(l) at zero and sigmoid(-l) p(x) anywhere, for the counts' own loss ``op``.

    As csrc/formulas/zero_inflated.h has it: of a likely zero the logarithm is taken of what it
    lacks, of an unlikely one of the larger one of its two parts.
    """
    nll = LOSSES[op].value(*operands)
    e, e_sum = torch.exp(-logits.abs()), torch.exp(-(logits + nll).abs())
    lacking = _lacking(logits, nll)
    is_likely = lacking < 0.5
    inner = torch.where(is_likely, -lacking, (e_sum - e) / (1 + e))
    zero = torch.where(is_likely, 0, torch.minimum(-logits, nll)) - torch.log1p(inner)
    count = (logits.clamp(min=0) + torch.log1p(e)) + nll
    return torch.where(operands[-1] == 0, zero, count)


def zero_inflated_gradients(
    op: str, logits: Tensor, operands: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """In the counts' parameters, the logits and the target."""
    nll, is_zero = LOSSES[op].value(*operands), operands[-1] == 0
    total = logits + nll
    to_nll = torch.where(is_zero, torch.sigmoid(-total), 1)
    of_zero = -torch.sigmoid(total) * _lacking(logits, nll)
    in_logits = torch.where(is_zero, of_zero, torch.sigmoid(logits))
    # The count's own may be infinite where it no longer counts.
    *params, target = (
        torch.where(to_nll == 0, 0, to_nll * gradient)
        for gradient in LOSSES[op].gradients(*operands)
    )
    return *params, in_logits, target


def _lacking(logits: Tensor, nll: Tensor) -> Tensor:
    """What the probability of a zero lacks to one."""
    return -torch.sigmoid(-logits) * torch.expm1(-nll)


class ZeroInflated(Distribution):
    """Of counts that are zero with the probability of the last parameter's logits, whatever else.

    A class has ``counts``, the distribution of the other parameters.
    """

    counts: ClassVar[type[Distribution]]
    support = constraints.nonnegative_integer
    zero_logits: Tensor

    def _base(self) -> Distribution:
        parameters = (getattr(self, name) for name in self.counts.arg_constraints)
        return self.counts(*parameters, validate_args=False)

    def _draw(self, *parameters: Tensor) -> Tensor:
        *others, zero_logits = parameters
        is_zero = torch.bernoulli(torch.sigmoid(zero_logits)) == 1
        return torch.where(is_zero, 0, self.counts(*others, validate_args=False).sample())

    @property
    def mean(self) -> Tensor:
        """(1 - p) of the counts'."""
        return torch.sigmoid(-self.zero_logits) * self._base().mean

    @property
    def mode(self) -> Tensor:
        """That of the counts, or 0."""
        mode = self._base().mode
        return torch.where(self._cost(mode) < self._cost(torch.zeros_like(mode)), mode, 0)

    @property
    def variance(self) -> Tensor:
        """(1 - p) (v + p m^2), m and v of the counts."""
        base, logits = self._base(), self.zero_logits
        return torch.sigmoid(-logits) * (base.variance + torch.sigmoid(logits) * base.mean**2)
