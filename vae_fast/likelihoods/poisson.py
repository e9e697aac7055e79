"""The Poisson likelihood of counts."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import library_of, loss
from vae_fast.engine.count_likelihood import CountLikelihood
from vae_fast.engine.counts import counts_loss
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.exponentials import half_expm1, half_expm1_minus
from vae_fast.engine.gamma_functions import at_least_one, count_term
from vae_fast.engine.logarithms import log_distance
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["poisson_nll", "softmax_poisson_nll"]


def poisson_nll(
    log_rate: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Poisson distribution, in nats.

    exp(l) - x l + log x!, with the constant, from the logarithm l of the rate. Evaluated as
    x (exp(d) - 1 - d), d = l - log x, and the rest of Stirling's formula, so that nothing cancels
    at a count of any size; a rate of 0 (l = -infinity) costs nothing where nothing is counted.

    The kernel reads log_rate and target once and, where a gradient is wanted, writes it once, in
    the forward: 8 bytes per element in float32 (5 with a uint8 target), 12 (9) with the gradient.

    Args:
        log_rate: (*batch, *event).
        target: Counts, of the shape of log_rate, as in :func:`bernoulli_nll`; numbers between whole
            ones have the same formula, negative ones NaN. uint8, bool, int32 and int64 mean the
            numbers that they hold, and are not copied.
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
        >>> counts = torch.tensor([[0, 3, 1]])  # int64, read as it is
        >>> log_rate = torch.tensor([[0.0, 1.0, 0.5]])
        >>> vf.poisson_nll(log_rate, counts)
        tensor(3.6588)
        >>> vf.poisson_nll(log_rate, counts, reduction="none")
        tensor([[1.0000, 1.5100, 1.1487]])
    """
    return loss("poisson_nll", "poisson_nll", (log_rate, target), mask, batch_dims, reduction)


def softmax_poisson_nll(
    logits: Tensor,
    target: Tensor,
    library: Tensor | float,
    *,
    zero_logits: Tensor | None = None,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of counts of rates softmax(logits) times a library size, in nats.

    :func:`poisson_nll` of log(library) + log_softmax(logits), the softmax over all of the event;
    with ``zero_logits``, :func:`zero_inflated_poisson_nll`. Its passes, and where it is computed in
    parts, are those of :func:`softmax_negative_binomial_nll`.

    Args:
        logits: (*batch, *event), not normalised.
        target: Counts, of the shape of logits, as in :func:`poisson_nll`; (B, D) in
            ``torch.sparse_csr`` too.
        library: As in :func:`softmax_negative_binomial_nll`.
        zero_logits: Logits of a zero that is none of the Poisson distribution's.
        mask: As in :func:`softmax_negative_binomial_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: As in :func:`softmax_negative_binomial_nll`.
        ValueError: Likewise.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> counts = torch.tensor([[0, 2, 5]])
        >>> logits = torch.tensor([[0.0, 1.0, 2.0]])
        >>> vf.softmax_poisson_nll(logits, counts, library=7.0)
        tensor(3.7125)
        >>> vf.poisson_nll(logits.log_softmax(1) + torch.tensor(7.0).log(), counts)  # in two passes
        tensor(3.7125)
    """
    name = "softmax_poisson_nll"
    inflated = () if zero_logits is None else (zero_logits,)
    op = "zero_inflated_poisson_nll" if inflated else "poisson_nll"
    total, parameters = library_of(library, logits, target), (logits, *inflated)
    return counts_loss(
        name, op, parameters, target, total, mask, batch_dims, reduction, is_log=True
    )


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _parts(log_rate: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """l, d = l - log X for X = max(1, x), log X, and where exp(l) is taken as it is."""
    l = torch.where(target >= 0, log_rate, math.nan)  # noqa: E741
    d, log_top = log_distance(l, at_least_one(target))
    return l, d, log_top, (target < 1) | (d > 2)


def _value(log_rate: Tensor, target: Tensor) -> Tensor:
    l, d, log_top, is_apart = _parts(log_rate, target)  # noqa: E741
    near = torch.where(is_apart, 0, d)
    linear = torch.where(target == 0, 0, target * (1 + d))
    deviance = torch.where(is_apart, torch.exp(l) - linear, 2 * target * half_expm1_minus(near))
    return deviance + (0.5 * log_top + count_term(target)[0])


def _gradients(log_rate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """exp(l) - x, and digamma(x + 1) - l."""
    l, d, _, is_apart = _parts(log_rate, target)  # noqa: E741
    near = torch.where(is_apart, 0, d)
    in_log_rate = torch.where(is_apart, torch.exp(l) - target, 2 * target * half_expm1(near))
    return in_log_rate, count_term(target)[1] - d


enter_loss("poisson_nll", Loss(("log_rate", "target"), _value, _gradients, counts=True))


# ---- as a distribution ---------------------------------------------------------------------------


class Poisson(Distribution):
    """Of counts, as ``torch.distributions.Poisson``; log_prob is :func:`poisson_nll`'s.

    Args:
        log_rate: Logarithm of the rate, which is the mean.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Poisson
        >>> p = Poisson(torch.tensor(3.0).log())
        >>> p.log_prob(torch.tensor(2)), p.mean
        (tensor(-1.4959), tensor(3.))
    """

    nll = staticmethod(poisson_nll)
    arg_constraints: ClassVar = {"log_rate": constraints.real}
    support = constraints.nonnegative_integer
    log_rate: Tensor

    def __init__(self, log_rate: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__(log_rate, validate_args=validate_args)

    def _draw(self, log_rate: Tensor) -> Tensor:
        return torch.poisson(torch.exp(log_rate))

    @property
    def mean(self) -> Tensor:
        """The rate."""
        return torch.exp(self.log_rate)

    @property
    def mode(self) -> Tensor:
        """The rate without its fraction."""
        return self.mean.floor()

    @property
    def variance(self) -> Tensor:
        """The rate."""
        return self.mean


def _kl(p: Poisson, q: Poisson) -> Tensor:
    """The rate times exp(d) - 1 - d, d the distance of the log-rates."""
    return 2 * p.mean * half_expm1_minus(q.log_rate - p.log_rate)


def _of_torch(p: torch.distributions.Poisson) -> Poisson:
    return Poisson(torch.log(p.rate))


enter_kl(Poisson, _kl, {torch.distributions.Poisson: _of_torch})


# ---- of a decoder --------------------------------------------------------------------------------


class PoissonLikelihood(CountLikelihood):
    """Counts that vary as their mean does."""

    name = "poisson"
    is_log = True


enter_likelihood(
    "poisson",
    LikelihoodEntry(poisson_nll, op="poisson_nll", head=PoissonLikelihood, distribution=Poisson),
)
