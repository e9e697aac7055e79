"""The beta-binomial likelihood of counts that vary more than a binomial's."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Distribution, whole_numbers_to
from vae_fast.engine.gamma_functions import (
    at_least_one,
    choose_term,
    count_deviance,
    digamma_rest,
    digamma_rest_difference,
    stirling_rest_ratio,
)
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss
from vae_fast.likelihoods.beta import beta_sample

__all__ = ["beta_binomial_nll"]


def beta_binomial_nll(
    alpha: Tensor,
    target: Tensor,
    beta: Tensor | float,
    total_count: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the beta-binomial distribution, in nats.

    Of x hits among n trials whose probability is itself Beta(alpha, beta):

        log B(alpha, beta) - log B(x + alpha, n - x + beta) - log(n choose x),

    B the Beta function. Evaluated as deviances of hits and misses from their means and the rests of
    Stirling's formula, so that nothing cancels: the binomial distribution is its limit as alpha and
    beta grow.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32 with one total_count for all, 20 with the gradients in
    alpha and beta.

    Args:
        alpha: Above 0, (*batch, *event). It counts, as beta does, as at least 1e-20 and at most
            1e18.
        target: Counts from 0 to total_count, of the shape of alpha, as in :func:`poisson_nll`.
        beta: Above 0; broadcasts to alpha, or a number.
        total_count: How many trials; broadcasts to alpha, or a number.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where the target is negative or above total_count,
        or a parameter not above 0.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> hits = torch.tensor([[0, 1, 2]])
        >>> alpha = torch.ones(1, 3)  # with beta = 1: uniform
        >>> vf.beta_binomial_nll(alpha, hits, 1.0, total_count=2, reduction="none")
        tensor([[1.0986, 1.0986, 1.0986]])
    """
    op, others = "beta_binomial_nll", (alpha, beta, total_count, target)
    parameters = (as_tensor(x, *others) for x in (beta, total_count))
    return loss(op, op, (alpha, *parameters, target), mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


class _Parts:
    """What the value and the gradients need.

    ``excess`` is that of the hits' mean, at the probability p = (x + alpha) / (n + s), over them.
    """

    def __init__(self, alpha: Tensor, beta: Tensor, all_: Tensor, hits: Tensor) -> None:
        misses = all_ - hits
        is_valid = (alpha > 0) & (beta > 0) & (hits >= 0) & (misses >= 0)
        self.a = torch.where(is_valid, alpha.clamp(1e-20, 1e18), math.nan)
        self.b = beta.clamp(1e-20, 1e18)
        self.s = self.a + self.b
        scale, top = 1 / (all_ + self.s), at_least_one(all_)
        p, q = (hits + self.a) * scale, (misses + self.b) * scale
        excess = (misses * self.a - hits * self.b) * scale
        self.misses = misses
        self.hit, self.log_p = count_deviance(hits, top * p, excess)
        self.miss, self.log_q = count_deviance(misses, top * q, -excess)
        self.of_a, self.log_a = minus_log(-excess / self.a, self.s * p / self.a)
        self.of_b, self.log_b = minus_log(excess / self.b, self.s * q / self.b)


def _value(alpha: Tensor, beta: Tensor, total_count: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(alpha, beta, total_count, target)
    a, b, s, misses = parts.a, parts.b, parts.s, parts.misses
    hit_a, miss_b = stirling_rest_ratio(target, a), stirling_rest_ratio(misses, b)
    ratios = (hit_a - stirling_rest_ratio(total_count, s)) + miss_b
    deviance = (parts.hit + parts.miss) + (a * parts.of_a + b * parts.of_b)
    return (deviance + choose_term(target, misses, total_count)[0]) - ratios


def _gradients(
    alpha: Tensor, beta: Tensor, total_count: Tensor, target: Tensor
) -> tuple[Tensor, ...]:
    parts = _Parts(alpha, beta, total_count, target)
    a, b, s, misses = parts.a, parts.b, parts.s, parts.misses
    in_hits, in_misses, in_all = choose_term(target, misses, total_count)[1]
    of_all = digamma_rest_difference(total_count, s)
    of_hits = (in_hits - parts.log_p) - digamma_rest(target + a)
    of_misses = (in_misses - parts.log_q) - digamma_rest(misses + b)
    return (
        (of_all - digamma_rest_difference(target, a)) - parts.log_a,
        (of_all - digamma_rest_difference(misses, b)) - parts.log_b,
        of_misses - (in_all - digamma_rest(total_count + s)),
        of_hits - of_misses,
    )


enter_loss(
    "beta_binomial_nll",
    Loss(("alpha", "beta", "total_count", "target"), _value, _gradients, counts=True),
)


# ---- as a distribution ---------------------------------------------------------------------------


class BetaBinomial(Distribution):
    """Of counts up to a largest one, of a probability that varies.

    log_prob is :func:`beta_binomial_nll`'s.

    Args:
        alpha: As in :func:`beta_binomial_nll`.
        beta: Likewise.
        total_count: How many trials.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import BetaBinomial
        >>> p = BetaBinomial(1.0, 1.0, total_count=4)  # uniform on 0, ..., 4
        >>> p.log_prob(torch.tensor(3)), p.mean
        (tensor(-1.6094), tensor(2.))
    """

    nll = staticmethod(beta_binomial_nll)
    arg_constraints: ClassVar = {
        "alpha": constraints.positive,
        "beta": constraints.positive,
        "total_count": constraints.nonnegative_integer,
    }
    alpha: Tensor
    beta: Tensor
    total_count: Tensor

    def __init__(
        self,
        alpha: Tensor | float,
        beta: Tensor | float,
        total_count: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(alpha, beta, total_count, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Whole numbers from 0 to total_count."""
        return whole_numbers_to(self.total_count)

    def _draw(self, alpha: Tensor, beta: Tensor, total_count: Tensor) -> Tensor:
        return torch.binomial(total_count, beta_sample(alpha, beta))

    @property
    def mean(self) -> Tensor:
        """N alpha / (alpha + beta)."""
        return self.total_count * (self.alpha / (self.alpha + self.beta))

    @property
    def mode(self) -> Tensor:
        """Where the next count is no longer as likely; of alpha + beta up to 2 the likelier end.

        0 where all are as likely, or both ends.
        """
        n, excess = self.total_count, self.alpha + self.beta - 2
        rises = n * (self.alpha - 1) + (1 - self.beta)
        inside = (rises / torch.where(excess > 0, excess, 1)).floor() + 1
        end = torch.where(self.alpha > self.beta, n, 0)
        return torch.where(excess > 0, torch.minimum(inside.clamp(min=0), n), end)

    @property
    def variance(self) -> Tensor:
        """The binomial's, n p (1 - p), times (s + n) / (s + 1) of s = alpha + beta."""
        s = self.alpha + self.beta
        return self.mean * (self.beta / s) * ((s + self.total_count) / (s + 1))


enter_likelihood("beta_binomial", LikelihoodEntry(beta_binomial_nll, distribution=BetaBinomial))
