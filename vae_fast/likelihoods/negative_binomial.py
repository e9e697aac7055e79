"""The negative binomial likelihood of counts that vary more than a Poisson's."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, library_of, loss
from vae_fast.engine.count_likelihood import CountLikelihood
from vae_fast.engine.counts import counts_loss
from vae_fast.engine.distribution import Distribution
from vae_fast.engine.gamma_functions import (
    at_least_one,
    count_term,
    digamma_rest,
    digamma_rest_difference,
    stirling_rest_ratio,
)
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["negative_binomial_nll", "softmax_negative_binomial_nll"]


def negative_binomial_nll(
    mu: Tensor,
    target: Tensor,
    theta: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the negative binomial distribution, in nats.

    Of mean mu and inverse dispersion theta, with variance mu + mu^2 / theta (Lopez et al. 2018,
    "Deep generative modeling for single-cell transcriptomics", appendix B):

        lgamma(theta) - lgamma(x + theta) + lgamma(x + 1) + theta log(1 + mu / theta)
            + x log(1 + theta / mu),

    evaluated as deviances from the best mean and the rests of Stirling's formula, so that nothing
    cancels: the Poisson distribution is its limit as theta grows. A mean of 0 costs nothing where
    nothing is counted, and infinity where something is.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 8 bytes per element in float32 with a theta per feature, 12 with mu's gradient; theta's
    is summed in the same pass.

    Args:
        mu: Means, (*batch, *event), at least 0.
        target: Counts, of the shape of mu, as in :func:`poisson_nll`.
        theta: Inverse dispersions, above 0; broadcasts to mu (per feature, per datum), or a number.
            It counts as at least 1e-20 and at most 1e20.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where mu, theta or the count is negative.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu, counts = torch.tensor([[0.5, 4.0]]), torch.tensor([[0, 9]])
        >>> vf.negative_binomial_nll(mu, counts, theta=2.0)  # variance mu + mu^2 / 2
        tensor(3.9901)
        >>> vf.negative_binomial_nll(mu, counts, theta=1e9), vf.poisson_nll(mu.log(), counts)
        (tensor(4.8252), tensor(4.8252))
    """
    operands = (mu, as_tensor(theta, mu, target), target)
    op = "negative_binomial_nll"
    return loss(op, op, operands, mask, batch_dims, reduction)


def softmax_negative_binomial_nll(
    logits: Tensor,
    target: Tensor,
    library: Tensor | float,
    theta: Tensor | float,
    *,
    zero_logits: Tensor | None = None,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of counts of means softmax(logits) times a library size, in nats.

    :func:`negative_binomial_nll` of mu = library * softmax(logits), the softmax over all of the
    event; with ``zero_logits``, :func:`zero_inflated_negative_binomial_nll` (Lopez et al. 2018,
    "Deep generative modeling for single-cell transcriptomics").

    The kernel goes over a row while it is in the cache: 8 bytes per element in float32 with a theta
    per feature (4 with a target of few counts in CSR), 12 (8) with the gradient in the logits; 16
    (12) and 24 (20) with zero_logits and its gradient. Those in theta and library are summed in the
    same pass. It is computed in parts, the softmax first, under ``torch.compile``, ``torch.func``
    and forward-mode AD, for tensor subclasses, on devices other than the CPU, for a target that
    requires a gradient and for ``reduction="none"``.

    Args:
        logits: (*batch, *event), not normalised.
        target: Counts, of the shape of logits, as in :func:`poisson_nll`; (B, D) in
            ``torch.sparse_csr`` too.
        library: The total of each datum, (*batch, 1, ...) or what broadcasts to that, or a number.
            It counts as at least 1e-30, and so does a mean; below there is no gradient.
        theta: Inverse dispersions, as in :func:`negative_binomial_nll`: per feature, per datum, or
            gathered per feature and batch.
        zero_logits: Logits of a zero that is none of the negative binomial's.
        mask: As in :func:`bernoulli_nll`; what is masked out has its share of the softmax.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, library is not one number per datum, the devices
            differ, an unknown reduction, batch_dims that leave no event, or a target in CSR whose
            indices are outside of it.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> counts = torch.tensor([[0, 2, 5], [1, 0, 0]])
        >>> logits = torch.zeros(2, 3)
        >>> library = counts.sum(1, keepdim=True).float()  # a cell's own total
        >>> vf.softmax_negative_binomial_nll(logits, counts, library, theta=torch.ones(3))
        tensor(4.1790)
        >>> csr = counts.float().to_sparse_csr()
        >>> vf.softmax_negative_binomial_nll(logits, csr, library, theta=torch.ones(3))
        tensor(4.1790)
    """
    thetas = as_tensor(theta, logits, target)
    name = "softmax_negative_binomial_nll"
    inflated = () if zero_logits is None else (zero_logits,)
    op = "zero_inflated_negative_binomial_nll" if inflated else "negative_binomial_nll"
    total = library_of(library, logits, target)
    parameters = (logits, thetas, *inflated)
    return counts_loss(name, op, parameters, target, total, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _parts(mu: Tensor, theta: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """What both need: t, 1 / (mu + t), the excess (mu - x) t / (mu + t), u and u - 1.

    t is theta in its range, and u = mu (x + t) / (X (mu + t)) with X = max(1, x).
    """
    is_valid = (mu >= 0) & (theta >= 0) & (x >= 0)
    mean, t = torch.where(is_valid, mu, math.nan), theta.clamp(1e-20, 1e20)
    scale = 1 / (mean + t)
    excess, top = (mean - x) * (t * scale), at_least_one(x)
    u = mean * ((x + t) * scale / top)
    return t, scale, excess, u, torch.where(x < 1, u - 1, excess / top)


def _value(mu: Tensor, theta: Tensor, target: Tensor) -> Tensor:
    x = target
    t, scale, excess, u, above = _parts(mu, theta, x)
    is_impossible = (mu == 0) & (x > 0)
    of_mean = x * minus_log(above, torch.where(u > 0, u, 1))[0]
    deviance = of_mean + torch.where(x < 1, excess - x * above, 0)
    of_theta = t * minus_log((x - mu) * scale, (x + t) * scale)[0]
    rest = count_term(x)[0] - (stirling_rest_ratio(x, t) - 0.5 * torch.log(at_least_one(x)))
    return torch.where(is_impossible, math.inf, (deviance + of_theta) + rest)


def _gradients(mu: Tensor, theta: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    x = target
    t, scale, excess, u, above = _parts(mu, theta, x)
    in_mu = torch.where(x == 0, t * scale, excess / torch.where(x == 0, 1, mu))
    of_theta, _ = minus_log((x - mu) * scale, (x + t) * scale)
    _, log_u = minus_log(above, u)
    in_target = (count_term(x)[1] - digamma_rest(x + t)) - log_u
    in_target = torch.where(mu == 0, math.inf, in_target)
    return in_mu, of_theta - digamma_rest_difference(x, t), in_target


enter_loss(
    "negative_binomial_nll", Loss(("mu", "theta", "target"), _value, _gradients, counts=True)
)


# ---- as a distribution ---------------------------------------------------------------------------


class NegativeBinomial(Distribution):
    """Of counts; log_prob is :func:`negative_binomial_nll`'s.

    ``torch.distributions.NegativeBinomial`` of total_count theta and logits log(mu / theta).

    Args:
        mu: The mean.
        theta: The inverse dispersion: the variance is mu + mu^2 / theta.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import NegativeBinomial
        >>> p = NegativeBinomial(torch.tensor([1.0, 10.0]), theta=2.0)
        >>> p.log_prob(torch.tensor([0, 12])), p.variance
        (tensor([-0.8109, -3.2064]), tensor([ 1.5000, 60.0000]))
    """

    nll = staticmethod(negative_binomial_nll)
    arg_constraints: ClassVar = {"mu": constraints.nonnegative, "theta": constraints.positive}
    support = constraints.nonnegative_integer
    mu: Tensor
    theta: Tensor

    def __init__(
        self,
        mu: Tensor | float,
        theta: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(mu, theta, validate_args=validate_args)

    def _draw(self, mu: Tensor, theta: Tensor) -> Tensor:
        """A Poisson's, whose rate is a Gamma's of mean mu; theta in the function's range."""
        t = theta.clamp(1e-20, 1e20)
        return torch.poisson((torch._standard_gamma(t) / t) * mu)

    @property
    def mean(self) -> Tensor:
        """Mu."""
        return self.mu

    @property
    def mode(self) -> Tensor:
        """Mu (1 - 1 / theta) without its fraction; 0 up to theta = 1."""
        return (self.mu * (1 - 1 / self.theta).clamp(min=0)).floor()

    @property
    def variance(self) -> Tensor:
        """Mu + mu^2 / theta."""
        return self.mu + self.mu * (self.mu / self.theta)


# ---- of a decoder --------------------------------------------------------------------------------


class NegativeBinomialLikelihood(CountLikelihood):
    """Counts that vary more than their mean; the inverse dispersion is each element's own.

    It is learned with the network, the same for all data, and 1 at first.

    Args:
        input_shape: of a datum.
        library: see :class:`CountLikelihood`.
    """

    name = "negative_binomial"

    def __init__(self, input_shape: tuple[int, ...], library: float | None = None) -> None:
        super().__init__(input_shape, library)
        self.log_theta = nn.Parameter(torch.zeros(input_shape))

    def dispersions(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Theta."""
        return (torch.exp(self.log_theta.to(dtype)),)


enter_likelihood(
    "negative_binomial",
    LikelihoodEntry(
        negative_binomial_nll, head=NegativeBinomialLikelihood, distribution=NegativeBinomial
    ),
)
