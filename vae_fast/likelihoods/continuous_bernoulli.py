"""The continuous Bernoulli likelihood: of intensities, with its normaliser."""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import loss
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.exponentials import half_expm1, half_expm1_minus
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.logarithms import minus_log, polynomial
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["continuous_bernoulli_nll"]


def continuous_bernoulli_nll(
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the continuous Bernoulli distribution, in nats.

    A density on [0, 1], where :func:`bernoulli_nll` of grey pixels is none (Loaiza-Ganem and
    Cunningham 2019, arXiv:1907.06845). From logits l:

        softplus(l) - x l - log(l / tanh(l / 2)),

    gradient 1 / (1 - exp(-l)) - 1 / l - x, the mean less x. Evaluated as w |l| +
    log((1 - exp(-|l|)) / |l|), w the distance of x from the side that l speaks for, so that neither
    cancels at any l, nor divides by zero at l = 0. Negative where the density is above 1.

    The kernel reads logits and target once and, where a gradient is wanted, writes it once, in the
    forward: 8 bytes per element in float32 (5 with a uint8 target), 12 (9) with the gradient.

    Args:
        logits: (*batch, *event). In the normaliser, one beyond 1e30 counts as that.
        target: In [0, 1], as in :func:`bernoulli_nll`. uint8 means x / 255, bool 0 or 1.
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
        >>> vf.continuous_bernoulli_nll(torch.zeros(1, 3), torch.rand(1, 3))  # uniform: log 1
        tensor(0.)
        >>> vf.continuous_bernoulli_nll(torch.tensor([[2.0]]), torch.tensor([[0.9]]))
        tensor(-0.6386)
    """
    op = "continuous_bernoulli_nll"
    return loss(op, op, (logits, target), mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


# 1 / (1 - exp(-l)) - 1 / l - 1/2 = l (1/12 - l^2 / 720 + ...), by the numbers B_2k / (2k)!: enough
# terms for float64 at |l| < 1.
_MEAN_SERIES = (
    *(1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000),
    *(1 / 74724249600, -3617 / 10670622842880000, 43867 / 5109094217170944000),
    -174611 / 802857662698291200000,
)


def _against(logits: Tensor, target: Tensor) -> Tensor:
    """How far x is from the side that l speaks for."""
    return torch.where(logits > 0, 1 - target, target)


def _value(logits: Tensor, target: Tensor) -> Tensor:
    size, against = logits.abs(), _against(logits, target)
    a = size.clamp(1e-15, 1e30)
    lacking = torch.where(size < 1e-15, 0.5 * size, 2 * half_expm1_minus(-a) / a)
    _, log = minus_log(-lacking, -2 * half_expm1(-a) / a)
    return torch.where(against == 0, 0, against * size) + log


def _gradients(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    size = logits.abs()
    is_near = size < 1
    near, a = torch.where(is_near, logits, 0), size.clamp(1, 1e30)
    in_size = _against(logits, target) - (torch.exp(-a) / torch.expm1(-a) + 1 / a)
    in_near = (0.5 - target) + near * polynomial(_MEAN_SERIES, near * near)
    return torch.where(is_near, in_near, torch.where(logits > 0, in_size, -in_size)), -logits


def _mean(logits: Tensor) -> Tensor:
    """What the gradient is where x is 0."""
    return _gradients(logits, torch.zeros_like(logits))[0]


enter_loss(
    "continuous_bernoulli_nll",
    Loss(("logits", "target"), _value, _gradients, uint8_unit=255.0),
)


# ---- as a distribution ---------------------------------------------------------------------------


# Of the variance, the derivative of the mean in l: that of each term.
_VARIANCE_SERIES = tuple((2 * k + 1) * term for k, term in enumerate(_MEAN_SERIES))


class ContinuousBernoulli(Distribution):
    """Of [0, 1], as ``torch.distributions.ContinuousBernoulli``.

    log_prob is :func:`continuous_bernoulli_nll`'s, and nothing divides by zero at a logit of 0.

    Args:
        logits: As in :func:`continuous_bernoulli_nll`.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import ContinuousBernoulli
        >>> p = ContinuousBernoulli(torch.tensor(2.0))
        >>> p.log_prob(torch.tensor(0.9)), p.mean
        (tensor(0.6386), tensor(0.6565))
    """

    nll = staticmethod(continuous_bernoulli_nll)
    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.unit_interval
    reads_bytes = True
    has_rsample = True
    logits: Tensor

    def __init__(self, logits: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__(logits, validate_args=validate_args)

    def _draw(self, logits: Tensor) -> Tensor:
        """Where the distribution function is u; in float64, so that its slope is right near l = 0.

        Of the side that l speaks against; at a small l by the series in it.
        """
        wide = logits.double()
        u, is_near = torch.rand_like(wide), wide.abs() < 1e-4
        near, a = torch.where(is_near, wide, 0), torch.where(is_near, 1, wide.abs())
        series = u + u * (1 - u) * near * (0.5 + (1 - 2 * u) * near / 6)
        against = -torch.log1p(u * torch.expm1(-a)) / a
        x = torch.where(is_near, series, torch.where(wide > 0, 1 - against, against))
        return x.to(logits.dtype)

    @property
    def mean(self) -> Tensor:
        """1 / (1 - exp(-l)) - 1 / l."""
        return _mean(self.logits)

    @property
    def mode(self) -> Tensor:
        """The end that l speaks for; NaN at l = 0, where it is uniform."""
        return torch.where(self.logits == 0, math.nan, (self.logits > 0).to(self.logits.dtype))

    @property
    def variance(self) -> Tensor:
        """1 / l^2 - exp(-l) / (1 - exp(-l))^2, symmetric; by its series near l = 0."""
        size = self.logits.abs()
        near, a = size.clamp(max=1), size.clamp(min=1)
        apart = 1 / (a * a) - torch.exp(-a) / torch.expm1(-a) ** 2
        return torch.where(size < 1, polynomial(_VARIANCE_SERIES, near * near), apart)

    def entropy(self) -> Tensor:
        """The cost is linear in x: that of the mean."""
        return self._cost(self.mean)


def _kl(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    """The costs are linear in x: their difference at the mean."""
    mean = p.mean
    return q._cost(mean) - p._cost(mean)


enter_kl(
    ContinuousBernoulli,
    _kl,
    {torch.distributions.ContinuousBernoulli: lambda p: ContinuousBernoulli(p.logits)},
)


# ---- of a decoder --------------------------------------------------------------------------------


class ContinuousBernoulliLikelihood(Likelihood):
    """Each element of x is an intensity in [0, 1]; the parameters are its logits."""

    name = "continuous_bernoulli"
    data = "intensities"

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        return _mean(cast(Tensor, params))


enter_likelihood(
    "continuous_bernoulli",
    LikelihoodEntry(
        continuous_bernoulli_nll,
        op="continuous_bernoulli_nll",
        head=ContinuousBernoulliLikelihood,
        distribution=ContinuousBernoulli,
    ),
)
