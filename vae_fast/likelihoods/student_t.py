"""Student's t likelihood: of real numbers, some of them far off."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Symmetric
from vae_fast.engine.gamma_functions import digamma_rest, digamma_rest_difference, stirling_rest
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["student_t_nll"]


def student_t_nll(
    mean: Tensor,
    target: Tensor,
    log_scale: Tensor | float,
    df: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of Student's t distribution, in nats.

    Of location mean, scale exp(log_scale) and df degrees of freedom, with z = (x - mean) / scale:

        log_scale + log(df pi) / 2 + lgamma(df / 2) - lgamma((df + 1) / 2)
            + (df + 1) / 2 log(1 + z^2 / df),

    evaluated by the rests of Stirling's formula, so that nothing cancels: the Gaussian distribution
    of log-variance 2 log_scale is its limit as df grows, and the gradient in df is exact up to it.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32 with a number of degrees of freedom, 20 with the
    gradients in mean and log_scale. Parameters that broadcast cost no memory, and their gradients
    are summed in the same pass.

    Args:
        mean: (*batch, *event); the median, too.
        target: Of mean's shape, as in :func:`gaussian_nll`.
        log_scale: Logarithm of the scale, fixed (a number) or learned (a tensor that broadcasts to
            mean).
        df: Degrees of freedom, above 0, likewise. They count as at least 2e-20 and at most 2e20.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where df is not above 0.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mean, x = torch.zeros(1, 2), torch.tensor([[0.0, 30.0]])
        >>> vf.student_t_nll(mean, x, 0.0, 3.0, reduction="none")  # a point far off costs little
        tensor([[ 1.0009, 12.4151]])
        >>> vf.gaussian_nll(mean, x, reduction="none")
        tensor([[  0.9189, 450.9189]])
    """
    given = mean, log_scale, df, target
    numbers = as_tensor(log_scale, *given), as_tensor(df, *given)
    operands = (mean, *numbers, target)
    return loss("student_t_nll", "student_t_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _half_df(df: Tensor) -> Tensor:
    return (0.5 * df).clamp(1e-20, 1e20)


def _parts(mean: Tensor, log_scale: Tensor, df: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """What both need: t = df / 2, s = z^2 / (df + z^2), -log(1 - s) - s, z / (df + z^2) / scale.

    z is held within what float32 holds; of a larger one, the logarithm is made of logarithms.
    """
    t = torch.where(df > 0, _half_df(df), math.nan)
    precision, difference = torch.exp(-log_scale), x - mean
    is_point = precision == math.inf
    precision = torch.where(is_point, 0, precision)
    z = (difference * precision).clamp(-4e18, 4e18)
    z = torch.where(is_point & (difference != 0), 4e18, z)
    inverse = 1 / (2 * t + z * z)
    u, share = 2 * t * inverse, z * z * inverse
    is_far = (z.abs() >= 4e18) | (u <= 1e-36)
    distance = torch.where(is_far, difference, 1).abs()
    log_far = 2 * (torch.log(distance) - log_scale) - torch.log(2 * t)
    rest, _ = minus_log(-share, torch.where(is_far, 1, u))
    return t, share, torch.where(is_far, log_far - share, rest), (z * inverse) * precision


def _value(mean: Tensor, log_scale: Tensor, df: Tensor, target: Tensor) -> Tensor:
    t, share, rest, _ = _parts(mean, log_scale, df, target)
    half, log_ratio = t + 0.5, torch.log1p(0.5 / t)
    ratio = half * log_ratio + (stirling_rest(half) - stirling_rest(t) - 0.5 * log_ratio)
    constant = (0.5 * math.log(2 * math.pi) + 0.5) - ratio
    return (log_scale + constant) + half * (rest + share)


def _gradients(mean: Tensor, log_scale: Tensor, df: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """In df by terms that fall with 1 / df^2 each; in x it is (df + 1) s / (x - mean)."""
    t, share, rest, near = _parts(mean, log_scale, df, target)
    step, twice, is_steep = 0.5 / t, 2 * t + 1, share > 0.5
    difference = torch.where(is_steep, target - mean, 1)
    slope = twice * torch.where(is_steep, share / difference, near)
    of_step, _ = minus_log(step, 1 + step)
    half = torch.full_like(t, 0.5)
    in_t = ((of_step - digamma_rest_difference(half, t)) + rest) - step * share
    return -slope, 1 - twice * share, 0.5 * in_t, slope


enter_loss("student_t_nll", Loss(("mean", "log_scale", "df", "target"), _value, _gradients))


# ---- as a distribution ---------------------------------------------------------------------------


class StudentT(Symmetric):
    """Of real numbers, as ``torch.distributions.StudentT``; log_prob is :func:`student_t_nll`'s.

    Args:
        loc: The function's ``mean``.
        log_scale: Logarithm of the scale.
        df: Degrees of freedom.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import StudentT
        >>> p = StudentT(torch.tensor(0.0), log_scale=0.0, df=3.0)
        >>> p.log_prob(torch.tensor(30.0)), p.variance
        (tensor(-12.4151), tensor(3.))
    """

    nll = staticmethod(student_t_nll)
    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "log_scale": constraints.real,
        "df": constraints.positive,
    }
    log_scale: Tensor
    df: Tensor

    def __init__(
        self,
        loc: Tensor | float,
        log_scale: Tensor | float,
        df: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(loc, log_scale, df, validate_args=validate_args)

    def _draw(self, loc: Tensor, log_scale: Tensor, df: Tensor) -> Tensor:
        """A normal variate over the root of a Gamma's of mean 1; df in the function's range."""
        t = _half_df(df)
        precision = torch._standard_gamma(t) / t
        return loc + torch.exp(log_scale) * (torch.randn_like(loc) * torch.rsqrt(precision))

    @property
    def mean(self) -> Tensor:
        """The expected x; NaN where there is none, up to df = 1."""
        return torch.where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        """scale^2 df / (df - 2); infinite up to df = 2, NaN up to 1."""
        excess = self.df - 2
        finite = torch.exp(2 * self.log_scale) * (1 + 2 / torch.where(excess > 0, excess, 1))
        return torch.where(excess > 0, finite, torch.where(self.df > 1, math.inf, math.nan))

    def entropy(self) -> Tensor:
        """The cost at loc, and (df + 1) / 2 times digamma((df + 1) / 2) - digamma(df / 2)."""
        t = _half_df(self.df.double())
        difference = (digamma_rest(t + 0.5) - digamma_rest(t)) + torch.log1p(0.5 / t)
        return self._cost(self.loc) + ((t + 0.5) * difference).to(self.df.dtype)


# ---- of a decoder --------------------------------------------------------------------------------


class StudentTLikelihood(Likelihood):
    """Each element of x is real, and may lie far off.

    The decoder gives its location and the logarithms of its scale and degrees of freedom.
    """

    name = "student_t"
    data = "numbers"
    per_element = 3

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        """The mean, the logarithm of the scale and the degrees of freedom, each of x's shape."""
        mean, log_scale, log_df = raw.chunk(3, dim=1)
        return mean, log_scale, torch.exp(log_df)

    def mean(self, params: Params) -> Tensor:
        """The expected x, where there is one (df above 1); else the median."""
        return params[0]


enter_likelihood(
    "student_t", LikelihoodEntry(student_t_nll, head=StudentTLikelihood, distribution=StudentT)
)
