"""The Laplace likelihood."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.distribution import Symmetric, enter_kl
from vae_fast.engine.exponentials import half_expm1_minus
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["laplace_nll"]


def laplace_nll(
    mean: Tensor,
    target: Tensor,
    log_scale: Tensor | float = 0.0,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Laplace distribution, in nats.

    log 2 + log_scale + |x - mean| exp(-log_scale): the absolute error with its constant. A
    difference of zero costs nothing at any scale, and has no slope.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32, 20 with the gradients in mean and log_scale. A
    log_scale that broadcasts costs no memory, and its gradient is summed in the same pass.

    Args:
        mean: (*batch, *event); the median, too.
        target: Of mean's shape, as in :func:`gaussian_nll`.
        log_scale: Logarithm of the scale, the mean absolute error, fixed (a number) or learned (a
            tensor that broadcasts to mean).
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
        >>> vf.laplace_nll(torch.zeros(1, 2), torch.tensor([[0.0, 2.0]]))  # 2 log 2 + |0| + |2|
        tensor(3.3863)
    """
    operands = (mean, as_tensor(log_scale, mean, target), target)
    return loss("laplace_nll", "laplace_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _distance(mean: Tensor, log_scale: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(mean - x) / scale, and scale^-1/2 in float64: finite, so that 0 times it is 0."""
    root = torch.exp(-0.5 * log_scale.double()).clamp(max=torch.finfo(torch.float64).max)
    return (((mean - target) * root) * root).to(mean.dtype), root


def _value(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """-log Laplace(target; mean, exp(log_scale))."""
    distance, _ = _distance(mean, log_scale, target)
    return math.log(2) + log_scale + distance.abs()


def _gradients(mean: Tensor, log_scale: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    distance, root = _distance(mean, log_scale, target)
    slope = ((torch.sign(mean - target) * root) * root).to(mean.dtype)
    return slope, 1 - distance.abs(), -slope


enter_loss("laplace_nll", Loss(("mean", "log_scale", "target"), _value, _gradients))


# ---- as a distribution ---------------------------------------------------------------------------


class Laplace(Symmetric):
    """Of real numbers, as ``torch.distributions.Laplace``; log_prob is :func:`laplace_nll`'s.

    Args:
        loc: The function's ``mean``.
        log_scale: Logarithm of the scale.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Laplace
        >>> p = Laplace(torch.tensor(0.0))
        >>> p.log_prob(torch.tensor(2.0)), p.variance
        (tensor(-2.6931), tensor(2.))
    """

    nll = staticmethod(laplace_nll)
    arg_constraints: ClassVar = {"loc": constraints.real, "log_scale": constraints.real}
    log_scale: Tensor

    def __init__(
        self,
        loc: Tensor | float,
        log_scale: Tensor | float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(loc, log_scale, validate_args=validate_args)

    def _draw(self, loc: Tensor, log_scale: Tensor) -> Tensor:
        """The difference of two exponential variates, which no logarithm of 0 can be in."""
        above, below = (torch.empty_like(loc).exponential_() for _ in range(2))
        return loc + torch.exp(log_scale) * (above - below)

    @property
    def variance(self) -> Tensor:
        """2 exp(2 log_scale)."""
        return 2 * torch.exp(2 * self.log_scale)

    def entropy(self) -> Tensor:
        """1 + log 2 + log_scale."""
        return 1 + math.log(2) + self.log_scale


def _kl(p: Laplace, q: Laplace) -> Tensor:
    """exp(d) - 1 - d and exp(d) (exp(-r) - 1 + r): d of the log-scales, r of the locs over p's."""
    d = p.log_scale - q.log_scale
    r = (p.loc - q.loc).abs() * torch.exp(-p.log_scale)
    return 2 * (half_expm1_minus(d) + torch.exp(d) * half_expm1_minus(-r))


def _of_torch(p: torch.distributions.Laplace) -> Laplace:
    return Laplace(p.loc, torch.log(p.scale))


enter_kl(Laplace, _kl, {torch.distributions.Laplace: _of_torch})


# ---- of a decoder --------------------------------------------------------------------------------


class LaplaceLikelihood(Likelihood):
    """Each element of x is real; the parameters are its mean and the logarithm of its scale."""

    name = "laplace"
    data = "numbers"
    per_element = 2

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        return params[0]


enter_likelihood(
    "laplace",
    LikelihoodEntry(laplace_nll, op="laplace_nll", head=LaplaceLikelihood, distribution=Laplace),
)
