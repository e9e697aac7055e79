"""The Beta likelihood of shares between 0 and 1."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.gamma_functions import (
    at_least_one,
    choose_term,
    count_deviance,
    digamma_rest,
    dirichlet_kl,
    lgamma_rest,
)
from vae_fast.engine.gamma_samples import log_gamma_parts
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["beta_nll"]


def beta_nll(
    alpha: Tensor,
    target: Tensor,
    beta: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Beta distribution, in nats.

    log B(alpha, beta) - (alpha - 1) log x - (beta - 1) log(1 - x), B the Beta function; torch's
    ``Beta(alpha, beta)``. Evaluated as deviances of alpha and beta from their means and the rests
    of Stirling's formula, so that nothing cancels at parameters of any size.

    Data that hold 0 or 1 themselves, as images do, are not for it: the density there is 0 or
    infinite, unless the parameter is exactly 1, and so is the loss. No decoder ends in it,
    therefore.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32, 20 with the gradients in alpha and beta.

    Args:
        alpha: Above 0, (*batch, *event).
        target: Between 0 and 1, of the shape of alpha, as in :func:`bernoulli_nll`.
        beta: Above 0; broadcasts to alpha, or a number.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where the target is not in [0, 1], or a parameter
        not above 0.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> shares = torch.tensor([[0.25, 0.5]])
        >>> alpha = torch.tensor([[2.0, 2.0]])
        >>> vf.beta_nll(alpha, shares, beta=2.0, reduction="none")  # -log(6 x (1 - x))
        tensor([[-0.1178, -0.4055]])
    """
    operands = (alpha, as_tensor(beta, alpha, target), target)
    return loss("beta_nll", "beta_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------

# In place of no room at all, where a parameter of exactly 1 has the density's factor be 1.
_NO_ROOM = 1e-30


class _Parts:
    """What the value and the gradients need: those of a binomial of alpha hits, beta misses.

    ``edge`` is alpha - 1 at x = 0 and beta - 1 at x = 1, whose sign says whether the density is 0
    or infinite there; elsewhere 0.
    """

    def __init__(self, alpha: Tensor, beta: Tensor, x: Tensor) -> None:
        is_valid = (alpha > 0) & (beta > 0) & (x >= 0) & (x <= 1)
        self.a, self.b = torch.where(is_valid, alpha, math.nan), beta
        self.n = self.a + self.b
        self.p, self.q = (torch.where(r == 0, _NO_ROOM, r) for r in (x, 1 - x))
        self.edge = torch.where(x == 0, self.a, torch.where(x == 1, self.b, 1)) - 1
        excess, top = self.b * self.p - self.a * self.q, at_least_one(self.n)
        self.hit, self.log_p = count_deviance(self.a, top * self.p, excess)
        self.miss, self.log_q = count_deviance(self.b, top * self.q, -excess)
        self.choose, self.counts = choose_term(self.a, self.b, self.n)


def _value(alpha: Tensor, beta: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(alpha, beta, target)
    log_p, log_q, log_a, log_b, log_n = (
        torch.log(x) for x in (parts.p, parts.q, parts.a, parts.b, parts.n)
    )
    logs = (log_p - log_a) + (log_q - log_b) + log_n
    value = ((parts.hit + parts.miss) + parts.choose) + logs
    return torch.where(parts.edge == 0, value, parts.edge * math.inf)


def _gradients(alpha: Tensor, beta: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """digamma(a) - digamma(a + b) - log x, that of b, and (b - 1) / (1 - x) - (a - 1) / x."""
    parts = _Parts(alpha, beta, target)
    of_a, of_b, of_n = (
        slope - 1 / x for slope, x in zip(parts.counts, (parts.a, parts.b, parts.n), strict=True)
    )
    slope = (parts.b - 1) / parts.q - (parts.a - 1) / parts.p
    outward = torch.where(target == 0, -parts.edge, parts.edge)
    return (
        torch.where(target == 0, math.inf, (of_a - of_n) - parts.log_p),
        torch.where(target == 1, math.inf, (of_b - of_n) - parts.log_q),
        torch.where(parts.edge == 0, slope, outward * math.inf),
    )


enter_loss("beta_nll", Loss(("alpha", "beta", "target"), _value, _gradients, uint8_unit=255.0))


# ---- as a distribution ---------------------------------------------------------------------------


class Beta(Distribution):
    """Of shares, as ``torch.distributions.Beta``; log_prob is :func:`beta_nll`'s.

    Samples have gradients, once: torch has no second derivatives of a Gamma's. Where a share is too
    near to 0 or 1 for its dtype, the sample is that.

    Args:
        alpha: As in :func:`beta_nll`; torch's ``concentration1``.
        beta: Likewise; torch's ``concentration0``.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Beta
        >>> Beta(2.0, 2.0).log_prob(torch.tensor(0.5))  # log 1.5
        tensor(0.4055)
    """

    nll = staticmethod(beta_nll)
    arg_constraints: ClassVar = {"alpha": constraints.positive, "beta": constraints.positive}
    support = constraints.unit_interval
    reads_bytes = True
    has_rsample = True
    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        alpha: Tensor | float,
        beta: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(alpha, beta, validate_args=validate_args)

    def _draw(self, alpha: Tensor, beta: Tensor) -> Tensor:
        return beta_sample(alpha, beta)

    @property
    def mean(self) -> Tensor:
        """Alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def mode(self) -> Tensor:
        """(alpha - 1) / (alpha + beta - 2), or an end; NaN where neither is above 1."""
        a, b = (self.alpha - 1).clamp(min=0), (self.beta - 1).clamp(min=0)
        return a / (a + b)

    @property
    def variance(self) -> Tensor:
        """With the mean m, it is m (1 - m) / (alpha + beta + 1)."""
        n = self.alpha + self.beta
        return (self.alpha / n) * (self.beta / n) / (n + 1)

    def entropy(self) -> Tensor:
        """Of log B(a, b) - (a - 1) digamma(a) - (b - 1) digamma(b) + (n - 2) digamma(n), n = a + b.

        By the rests of Stirling's formula.
        """
        a, b = self.alpha.double(), self.beta.double()
        n = a + b
        of_a, of_b = (lgamma_rest(x) - (x - 1) * digamma_rest(x) for x in (a, b))
        rests = (of_a + of_b) + ((n - 2) * digamma_rest(n) - lgamma_rest(n))
        logs = torch.log(a) + torch.log(b) - 3 * torch.log(n) + math.log(2 * math.pi)
        return (rests + 0.5 * logs).to(self.mean.dtype)


def beta_sample(alpha: Tensor, beta: Tensor) -> Tensor:
    """The share of one Gamma variate in the sum of two, neither of which underflows."""
    (a, log_a), (b, log_b) = (log_gamma_parts(x) for x in (alpha, beta))
    top = torch.maximum(log_a, log_b).detach()
    a, b = a * torch.exp(log_a - top), b * torch.exp(log_b - top)
    return a / (a + b)


def _kl(p: Beta, q: Beta) -> Tensor:
    of_p, of_q = (torch.stack((x.alpha.double(), x.beta.double()), -1) for x in (p, q))
    return dirichlet_kl(of_p, of_q).to(torch.promote_types(p.mean.dtype, q.mean.dtype))


def _of_torch(p: torch.distributions.Beta) -> Beta:
    return Beta(p.concentration1, p.concentration0)


enter_kl(Beta, _kl, {torch.distributions.Beta: _of_torch})


enter_likelihood("beta", LikelihoodEntry(beta_nll, distribution=Beta))
