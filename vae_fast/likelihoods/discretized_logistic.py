"""The discretized logistic likelihood of pixels that have levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.checks import is_int
from vae_fast.engine.distribution import FewValued
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["discretized_logistic_nll"]


def discretized_logistic_nll(
    mean: Tensor,
    target: Tensor,
    log_scale: Tensor | float = 0.0,
    levels: Tensor | float = 256,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a logistic distribution over a pixel's levels, in nats.

    The levels lie evenly from 0 to 1, w = 1 / (levels - 1) apart. That of x has the probability of
    the interval of width w around it, the lowest and the highest one that of the tails as well
    (Salimans et al. 2017, arXiv:1701.05517): with s = exp(log_scale),

        -log(sigmoid((x + w / 2 - mean) / s) - sigmoid((x - w / 2 - mean) / s)),

    evaluated as three factors whose logarithms have one sign, exact however narrow the interval is
    beside s, without the usual fallback to the density. It is the probability of whole numbers, so
    never negative, and comparable in bits per dimension. Data and means in [-1, 1] are
    (x + 1) / 2 and (mean + 1) / 2 here, and log_scale is less by log 2.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 9 bytes per element in float32 with a uint8 target (12 with a float's), 17 (20) with
    the gradients in mean and log_scale.

    Args:
        mean: (*batch, *event).
        target: In [0, 1], of the shape of mean, as in :func:`bernoulli_nll`: uint8 means x / 255.
        log_scale: Logarithm of the logistic's scale, fixed (a number) or learned (a tensor that
            broadcasts to mean).
        levels: How many levels there are, at least 2 (less counts as 2); a number, or broadcasts
            to mean.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> pixels = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
        >>> mean = torch.tensor([[0.0, 0.5, 1.0]])
        >>> vf.discretized_logistic_nll(mean, pixels, log_scale=-3.0)
        tensor(5.2754)
    """
    op, others = "discretized_logistic_nll", (mean, log_scale, levels, target)
    parameters = (as_tensor(x, *others) for x in (log_scale, levels))
    return loss(op, op, (mean, *parameters, target), mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------

# Below, exp(-(a - b)) is nothing; above, log(1 - exp(-(a - b))) falls as log_scale rises.
_NARROWEST, _WIDEST = -80.0, 40.0


def _times(factor: Tensor, position: Tensor) -> Tensor:
    """0 where the factor is, if the position overflows too."""
    return torch.where(factor == 0, 0, factor * position)


class _Parts:
    """What the value and the gradients need.

    Of a = (x + w / 2 - mean) / s and b = (x - w / 2 - mean) / s: -a, b and a - b. sigmoid(a) is no
    factor at the highest level, sigmoid(-b) none at the lowest, 1 - exp(b - a) at neither.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor, levels: Tensor, x: Tensor) -> None:
        self.step = 1 / (torch.where(levels < 2, 2, levels) - 1)
        self.half = 0.5 * self.step
        # Finite, so that 0 times it is 0.
        self.root = torch.exp(-0.5 * log_scale).clamp(max=torch.finfo(x.dtype).max)
        self.minus_a = self.over_scale((mean - x) - self.half)
        self.b = self.over_scale((x - mean) - self.half)
        self.width = self.step * torch.exp(-log_scale.clamp(_NARROWEST, _WIDEST))
        self.is_lowest, self.is_highest = x < self.half, x > 1 - self.half
        self.is_edge = self.is_lowest | self.is_highest

    def over_scale(self, x: Tensor) -> Tensor:
        return (x * self.root) * self.root


def _softplus(x: Tensor) -> Tensor:
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def _value(mean: Tensor, log_scale: Tensor, levels: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(mean, log_scale, levels, target)
    _, log_mass = minus_log(-torch.exp(-parts.width), -torch.expm1(-parts.width))
    log_mass = log_mass - (log_scale - _WIDEST).clamp(min=0)
    part_a = torch.where(parts.is_highest, 0, _softplus(parts.minus_a))
    part_b = torch.where(parts.is_lowest, 0, _softplus(parts.b))
    return (part_a + part_b) + torch.where(parts.is_edge, 0, -log_mass)


def _gradients(
    mean: Tensor, log_scale: Tensor, levels: Tensor, target: Tensor
) -> tuple[Tensor, ...]:
    parts = _Parts(mean, log_scale, levels, target)
    to_a = torch.where(parts.is_highest, 0, torch.sigmoid(parts.minus_a))
    to_b = torch.where(parts.is_lowest, 0, torch.sigmoid(parts.b))
    odds = torch.exp(-parts.width) * parts.width / -torch.expm1(-parts.width)
    to_mass = torch.where(parts.is_edge, 0, odds)
    slope = parts.over_scale(to_a - to_b)
    in_log_scale = to_mass - (_times(to_a, parts.minus_a) + _times(to_b, parts.b))
    in_levels = parts.step * to_mass + parts.over_scale((to_a + to_b) * (parts.step * parts.half))
    return slope, in_log_scale, torch.where(levels < 2, 0, in_levels), -slope


enter_loss(
    "discretized_logistic_nll",
    Loss(("mean", "log_scale", "levels", "target"), _value, _gradients, uint8_unit=255.0),
)


# ---- as a distribution ---------------------------------------------------------------------------


class Levels(constraints.Constraint):
    """Numbers from 0 to 1 that are levels, as exactly as their dtype holds them."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        position = value * (self.levels - 1)
        tolerance = torch.finfo(value.dtype).eps * (self.levels - 1)
        is_level = (position - position.round()).abs() <= tolerance
        return is_level & (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return f"{self.levels} levels from 0 to 1"


def check_levels(owner: str, levels: Any) -> None:
    """Raises ValueError unless there are two at least."""
    if not is_int(levels) or levels < 2:
        raise ValueError(f"{owner}: levels is {levels!r}, expected a whole number from 2 on")


class DiscretizedLogistic(FewValued):
    """Of levels from 0 to 1; log_prob is :func:`discretized_logistic_nll`'s.

    :attr:`mean`, mode, variance and entropy are sums over all levels: of as many times the memory.

    Args:
        loc: The function's ``mean``, that of the logistic before it is cut into levels;
            :attr:`mean` is that of the levels.
        log_scale: Logarithm of the logistic's scale.
        levels: How many there are, one number for all.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        ValueError: There are not two levels at least.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import DiscretizedLogistic
        >>> p = DiscretizedLogistic(torch.tensor(0.5), log_scale=-3.0, levels=4)
        >>> levels = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])
        >>> round(p.log_prob(levels).exp().sum().item(), 4)
        1.0
    """

    nll = staticmethod(discretized_logistic_nll)
    arg_constraints: ClassVar = {"loc": constraints.real, "log_scale": constraints.real}
    reads_bytes = True
    loc: Tensor
    log_scale: Tensor

    def __init__(
        self,
        loc: Tensor | float,
        log_scale: Tensor | float = 0.0,
        levels: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        check_levels("DiscretizedLogistic", levels)
        self.levels = levels
        super().__init__(loc, log_scale, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new = super().expand(batch_shape, _instance)
        new.levels = self.levels
        return new

    @property
    def support(self) -> constraints.Constraint:
        """K / (levels - 1)."""
        return Levels(self.levels)

    @property
    def _operands(self) -> tuple[Tensor | float, ...]:
        return *self._given, self.levels

    def _draw(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        """The level nearest to the logistic's, which lies within its interval."""
        last = self.levels - 1
        x = loc + torch.exp(log_scale) * torch.logit(torch.rand_like(loc))
        return (x * last).round().clamp(0, last) / last

    def _values(self) -> Tensor:
        levels = torch.arange(
            self.levels, dtype=arithmetic_dtype(self._given), device=self.loc.device
        )
        return levels / (self.levels - 1)


# ---- of a decoder --------------------------------------------------------------------------------


def clipped_logistic_mean(mean: Tensor, log_scale: Tensor) -> Tensor:
    """The expected level, to half a level at most: that of a logistic clipped to [0, 1].

    The integral of sigmoid((mean - t) / s) over t from 0 to 1, of which the levels' own is the
    midpoint rule.
    """
    scale = torch.exp(log_scale.clamp(-10, 10))
    above = functional.softplus(mean / scale) - functional.softplus((mean - 1) / scale)
    return (scale * above).clamp(0, 1)


class DiscretizedLogisticLikelihood(Likelihood):
    """Each element of x is one of 256 levels from 0 to 1; of a logistic's mean and log-scale."""

    name = "discretized_logistic"
    data = "intensities"
    per_element = 2

    def mean(self, params: Params) -> Tensor:
        """The expected x, to half a level at most: that of a logistic clipped to [0, 1]."""
        mean, log_scale = params
        return clipped_logistic_mean(mean, log_scale)


enter_likelihood(
    "discretized_logistic",
    LikelihoodEntry(
        discretized_logistic_nll,
        head=DiscretizedLogisticLikelihood,
        distribution=DiscretizedLogistic,
    ),
)
