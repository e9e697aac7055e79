"""The binomial likelihood of counts that have a largest one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Distribution, enter_kl, whole_numbers_to
from vae_fast.engine.gamma_functions import at_least_one, choose_term, count_deviance
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss
from vae_fast.likelihoods.bernoulli import bernoulli_kl

__all__ = ["binomial_nll"]


def binomial_nll(
    logits: Tensor,
    target: Tensor,
    total_count: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the binomial distribution, in nats.

    Of x hits among n trials of probability sigmoid(l): n softplus(l) - x l - log(n choose x), with
    the constant; torch's ``Binomial(total_count, logits=logits)``. Evaluated as deviances of hits
    and misses from their means and the rests of Stirling's formula, so that nothing cancels at a
    count of any size; an infinite logit that agrees with its target costs 0.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 8 bytes per element in float32 with one total_count for all (5 with a uint8 target), 12
    (9) with the gradient in logits.

    Args:
        logits: (*batch, *event).
        target: Counts from 0 to total_count, of the shape of logits, as in :func:`poisson_nll`.
        total_count: How many trials; broadcasts to logits, or a number.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where the target is negative or above total_count.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> hits = torch.tensor([[1, 4]])  # of 4, each with a probability of 1/2
        >>> vf.binomial_nll(torch.zeros(1, 2), hits, total_count=4, reduction="none")
        tensor([[1.3863, 2.7726]])
    """
    operands = (logits, as_tensor(total_count, logits, target), target)
    return loss("binomial_nll", "binomial_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------

# Until a logit of this size what is rare is as rare as it says; beyond, it adds a linear term.
_NEAR = 80.0


class _Parts:
    """What the value and the gradients need."""

    def __init__(self, logits: Tensor, total_count: Tensor, hits: Tensor) -> None:
        misses = total_count - hits
        is_valid = (hits >= 0) & (misses >= 0)
        l = torch.where(is_valid, logits, math.nan)  # noqa: E741
        near = l.clamp(-_NEAR, _NEAR)
        p, q = torch.sigmoid(near), torch.sigmoid(-near)
        excess, top = misses * p - hits * q, at_least_one(total_count)
        self.beyond = l - near
        self.hit, log_p = count_deviance(hits, top * p, excess)
        self.miss, log_q = count_deviance(misses, top * q, -excess)
        self.log_p = log_p + self.beyond.clamp(max=0)
        self.log_q = log_q - self.beyond.clamp(min=0)
        self.choose, self.counts = choose_term(hits, misses, total_count)
        self.rare = torch.where(l > 0, misses, hits)
        # The probability of what is rare, as it goes on to fall.
        fade = torch.exp(-self.beyond.abs())
        p, q = torch.where(l > 0, p, p * fade), torch.where(l > 0, q * fade, q)
        self.is_certain = (self.rare == 0) & (fade <= 0.5)
        self.slope = misses * p - hits * q


def _value(logits: Tensor, total_count: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(logits, total_count, target)
    linear = torch.where(parts.rare == 0, 0, parts.beyond.abs() * parts.rare)
    value = ((parts.hit + parts.miss) + parts.choose) + linear
    return torch.where(parts.is_certain, parts.slope.abs(), value)


def _gradients(logits: Tensor, total_count: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """With m misses: m p - x q, digamma(m + 1) - digamma(n + 1) - log q, and that in the hits."""
    parts = _Parts(logits, total_count, target)
    in_hits, in_misses, in_all = parts.counts
    return (
        parts.slope,
        (in_misses - in_all) - parts.log_q,
        (in_hits - in_misses) - (parts.log_p - parts.log_q),
    )


enter_loss(
    "binomial_nll", Loss(("logits", "total_count", "target"), _value, _gradients, counts=True)
)


# ---- as a distribution ---------------------------------------------------------------------------


class Binomial(Distribution):
    """Of counts up to a largest one; log_prob is :func:`binomial_nll`'s.

    ``torch.distributions.Binomial`` of the same, in another order.

    Args:
        logits: Of a hit.
        total_count: How many trials.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Binomial
        >>> p = Binomial(torch.tensor(0.0), total_count=4)
        >>> p.log_prob(torch.tensor(2)).exp(), p.mean, p.variance
        (tensor(0.3750), tensor(2.), tensor(1.))
    """

    nll = staticmethod(binomial_nll)
    arg_constraints: ClassVar = {
        "logits": constraints.real,
        "total_count": constraints.nonnegative_integer,
    }
    logits: Tensor
    total_count: Tensor

    def __init__(
        self,
        logits: Tensor | float,
        total_count: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(logits, total_count, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Whole numbers from 0 to total_count."""
        return whole_numbers_to(self.total_count)

    def _draw(self, logits: Tensor, total_count: Tensor) -> Tensor:
        return torch.binomial(total_count, torch.sigmoid(logits))

    @property
    def mean(self) -> Tensor:
        """N p."""
        return self.total_count * torch.sigmoid(self.logits)

    @property
    def mode(self) -> Tensor:
        """(n + 1) p without its fraction, at most n."""
        top = ((self.total_count + 1) * torch.sigmoid(self.logits)).floor()
        return torch.minimum(top, self.total_count)

    @property
    def variance(self) -> Tensor:
        """N p (1 - p)."""
        return self.mean * torch.sigmoid(-self.logits)


def _kl(p: Binomial, q: Binomial) -> Tensor:
    """N times the trial's; infinite where p may have more hits, NaN (no closed form) where less."""
    kl = p.total_count * bernoulli_kl(p.logits, q.logits)
    more = p.total_count - q.total_count
    return torch.where(more == 0, kl, torch.where(more > 0, math.inf, math.nan))


def _of_torch(p: torch.distributions.Binomial) -> Binomial:
    return Binomial(p.logits, p.total_count)


enter_kl(Binomial, _kl, {torch.distributions.Binomial: _of_torch})


enter_likelihood("binomial", LikelihoodEntry(binomial_nll, distribution=Binomial))
