"""The Gamma likelihood of positive numbers, and by it the exponential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.gamma_functions import (
    count_deviance,
    count_term,
    digamma_rest,
    lgamma_bend,
    lgamma_rest,
)
from vae_fast.engine.gamma_samples import log_gamma_sample
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["gamma_nll"]


def gamma_nll(
    concentration: Tensor,
    target: Tensor,
    rate: Tensor | float = 1.0,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Gamma distribution, in nats.

    lgamma(a) - a log(rate) - (a - 1) log x + rate x, of concentration a and mean a / rate; torch's
    ``Gamma(concentration, rate)``. Evaluated as a deviance from the mean and the rest of Stirling's
    formula, so that nothing cancels at a large concentration.

    The exponential distribution is the one of concentration 1, which takes no memory for all:
    ``gamma_nll(torch.ones(()).expand_as(rate), x, rate)``.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32, 20 with the gradients in concentration and rate. A
    parameter that broadcasts costs no memory, and its gradient is summed in the same pass.

    Args:
        concentration: Above 0, (*batch, *event).
        target: Numbers from 0 on, of the shape of concentration, as in :func:`gaussian_nll`. At 0
            the density is infinite below a concentration of 1, 0 above it, and ``rate`` at 1.
        rate: Above 0; broadcasts to concentration, or a number.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where the target is negative, or a parameter not
        above 0.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> x = torch.tensor([[0.5, 2.0]])
        >>> vf.gamma_nll(torch.ones(1, 2), x, 3.0, reduction="none")  # exponential: 3 x - log 3
        tensor([[0.4014, 4.9014]])
    """
    operands = (concentration, as_tensor(rate, concentration, target), target)
    return loss("gamma_nll", "gamma_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


class _Parts:
    """What the value and the gradients need: a, the Poisson's mean rate x for it, rate x - a.

    Where the mean overflows, or nearly, it is all there is.
    """

    def __init__(self, concentration: Tensor, rate: Tensor, x: Tensor) -> None:
        is_valid = (concentration > 0) & (rate > 0) & (x >= 0)
        self.a = torch.where(is_valid, concentration, math.nan)
        self.mean, largest = rate * x, torch.finfo(x.dtype).max / 8
        self.excess = self.mean - self.a
        self.is_zero, self.is_large = x == 0, self.mean > largest
        mean, excess = (y.clamp(max=largest) for y in (self.mean, self.excess))
        self.deviance, self.log = count_deviance(self.a, mean, excess)


def _value(concentration: Tensor, rate: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(concentration, rate, target)
    a, log_x = parts.a, torch.log(torch.where(parts.is_zero, rate, target))
    rest = log_x - torch.where(a < 1, 1, 0.5) * torch.log(a)
    value = (parts.deviance + count_term(a)[0]) + rest
    value = torch.where(parts.is_large, parts.excess, value)
    at_zero = torch.where(a == 1, -log_x, (a - 1) * math.inf)
    return torch.where(parts.is_zero, at_zero, value)


def _gradients(concentration: Tensor, rate: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """digamma(a) - log(rate x), x - a / rate, and rate - (a - 1) / x."""
    parts = _Parts(concentration, rate, target)
    a, is_zero, is_large = parts.a, parts.is_zero, parts.is_large
    in_a = (count_term(a)[1] - 1 / a) - parts.log
    # rate x - (a - 1), by what is exact: 1 - a for a small a.
    above_mode = torch.where(a < 2, parts.mean + (1 - a), parts.excess + 1)
    at_one = is_zero & (a == 1)
    in_target = above_mode / torch.where(at_one, 1, target)
    return (
        torch.where(is_zero, math.inf, in_a),
        torch.where(is_large, target, parts.excess / rate),
        torch.where(at_one | is_large, rate, in_target),
    )


enter_loss("gamma_nll", Loss(("concentration", "rate", "target"), _value, _gradients))


# ---- as a distribution ---------------------------------------------------------------------------


class Gamma(Distribution):
    """Of positive numbers, as ``torch.distributions.Gamma``; log_prob is :func:`gamma_nll`'s.

    Samples have torch's implicit gradients (Figurnov et al. 2018, arXiv:1805.08498), once: torch
    has no second derivatives of them.

    Args:
        concentration: As in :func:`gamma_nll`; of 1 it is the exponential distribution.
        rate: Likewise.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Gamma
        >>> p = Gamma(torch.tensor(2.0), rate=4.0)
        >>> p.log_prob(torch.tensor(0.5)), p.mean, p.entropy()
        (tensor(0.0794), tensor(0.5000), tensor(0.1909))
    """

    nll = staticmethod(gamma_nll)
    arg_constraints: ClassVar = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.nonnegative
    has_rsample = True
    concentration: Tensor
    rate: Tensor

    def __init__(
        self,
        concentration: Tensor | float,
        rate: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(concentration, rate, validate_args=validate_args)

    def _draw(self, concentration: Tensor, rate: Tensor) -> Tensor:
        """Where it underflows, the least number above 0: at 0 itself a density may be infinite."""
        sample = torch._standard_gamma(concentration) / rate
        return sample.clamp(min=torch.finfo(sample.dtype).tiny)

    def rsample_log(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The logarithm of a sample, finite where a small concentration's underflows.

        Of shape (*sample_shape, *batch_shape), in the dtype of the arithmetic, with gradients.
        """
        wide = self._wide(torch.Size(sample_shape) + self._batch_shape)
        dtype = arithmetic_dtype(self._given)
        return log_gamma_sample(wide[0].to(dtype)) - torch.log(wide[1].to(dtype))

    @property
    def mean(self) -> Tensor:
        """Concentration / rate."""
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        """(concentration - 1) / rate; 0 up to a concentration of 1."""
        return (self.concentration - 1).clamp(min=0) / self.rate

    @property
    def variance(self) -> Tensor:
        """Concentration / rate^2."""
        return self.mean / self.rate

    def entropy(self) -> Tensor:
        """A - log(rate) + lgamma(a) + (1 - a) digamma(a), by the rests of Stirling's formula."""
        a, rate = self.concentration.double(), self.rate.double()
        rests = lgamma_rest(a) + (1 - a) * digamma_rest(a)
        entropy = rests + 0.5 * (torch.log(a) + math.log(2 * math.pi)) - torch.log(rate)
        return entropy.to(self.mean.dtype)


def _kl(p: Gamma, q: Gamma) -> Tensor:
    """(a - a') digamma(a) - lgamma(a) + lgamma(a') + a' log(b / b') + a (b' / b - 1)."""
    a, b, a_q, b_q = (x.double() for x in (p.concentration, p.rate, q.concentration, q.rate))
    ratio = (a * b_q) / (a_q * b)  # of the means
    kl = lgamma_bend(a, a_q) + a_q * minus_log(ratio - 1, ratio)[0]
    return kl.to(torch.promote_types(p.mean.dtype, q.mean.dtype))


def _of_exponential(p: torch.distributions.Exponential) -> Gamma:
    return Gamma(torch.ones_like(p.rate), p.rate)


enter_kl(
    Gamma,
    _kl,
    {
        torch.distributions.Gamma: lambda p: Gamma(p.concentration, p.rate),
        torch.distributions.Exponential: _of_exponential,
    },
)


enter_likelihood("gamma", LikelihoodEntry(gamma_nll, distribution=Gamma))
