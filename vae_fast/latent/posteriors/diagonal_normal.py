"""The normal distribution of independent latent dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.distribution import AroundLoc, enter_kl, register_kl
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.latent.divergences import gaussian_kl
from vae_fast.latent.posteriors.vectors import VectorDistribution
from vae_fast.latent.sampling import reparameterize, reparameterize_kl
from vae_fast.likelihoods.gaussian import gaussian_nll


class NormalVector(VectorDistribution, AroundLoc):
    """What normal distributions of vectors share: a mean ``loc``."""

    def entropy(self) -> Tensor:
        """(D (1 + log 2 pi) + log det of the covariance) / 2."""
        constant = self._event_shape[0] * (1 + math.log(2 * math.pi))
        return 0.5 * (constant + self._log_determinant()).expand(self._batch_shape)

    def _log_determinant(self) -> Tensor:
        """Of the covariance, in the dtype of the arithmetic."""
        raise NotImplementedError

    def _log_density(self, half_square: Tensor) -> Tensor:
        """Of the half of a value's square, in units of the covariance."""
        constant = self._event_shape[0] * math.log(2 * math.pi)
        return -(half_square + 0.5 * (constant + self._log_determinant()))


class DiagonalNormal(NormalVector):
    """Of vectors of independent numbers, N(loc, diag(exp(logvar))): the usual posterior of a VAE.

    Samples are :func:`vae_fast.reparameterize`'s, the density :func:`vae_fast.gaussian_nll`'s and
    the divergence of two :func:`vae_fast.gaussian_kl`'s: one pass of a kernel each. Kingma and
    Welling 2014, "Auto-encoding variational Bayes". ``kl_divergence`` knows torch's
    ``Independent(Normal(...), 1)``, too.

    Args:
        loc: Means (*batch, D).
        logvar: Logarithms of the variances (*batch, D).
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import DiagonalNormal
        >>> q = DiagonalNormal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
        >>> p = DiagonalNormal(torch.zeros(2), torch.zeros(2))
        >>> q.rsample().shape, kl_divergence(q, p)
        (torch.Size([1, 2]), tensor([0.5000]))
    """

    arg_constraints: ClassVar = {"loc": constraints.real_vector, "logvar": constraints.real_vector}
    logvar: Tensor

    def __init__(self, loc: Tensor, logvar: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(loc, logvar, validate_args=validate_args)

    def _sample(self, sample_shape: Sequence[int]) -> Tensor:
        return reparameterize(*self._wide(torch.Size(sample_shape) + self._batch_shape))

    def rsample_kl(self, other: DiagonalNormal) -> tuple[Tensor, Tensor]:
        """A sample and the divergence from another one, in one pass."""
        operands = _operands(self, other)
        dims = operands[0].dim() - 1
        return reparameterize_kl(*operands, batch_dims=dims, reduction="sample")

    def _cost(self, value: Tensor) -> Tensor:
        loc, logvar = self._given
        shape = broadcast_shape((loc, logvar, value))
        loc, value = loc.expand(shape), value.expand(shape)
        return gaussian_nll(loc, value, logvar, batch_dims=len(shape) - 1, reduction="sample")

    @property
    def variance(self) -> Tensor:
        """exp(logvar)."""
        return torch.exp(self.logvar)

    def _log_determinant(self) -> Tensor:
        return self._computed()[1].sum(-1)


def _operands(p: DiagonalNormal, q: DiagonalNormal) -> tuple[Tensor, ...]:
    """Of a divergence: its first operand has the shape of all."""
    given = (*p._given, *q._given)
    shape = (*broadcast_shape((p.loc, q.loc)),)
    return (p.loc.expand(shape), *given[1:])


def diagonal_normal_kl(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    """KL(p || q), as :func:`vae_fast.gaussian_kl` has it."""
    operands = _operands(p, q)
    return gaussian_kl(*operands, batch_dims=operands[0].dim() - 1, reduction="sample")


def diagonal_normal_of(p: Any) -> DiagonalNormal:
    """The same as torch's ``Independent(Normal(...), 1)``.

    Raises:
        NotImplementedError: It is of something else.
    """
    base = p.base_dist
    if not isinstance(base, torch.distributions.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"expected Independent(Normal(...), 1), got {p}")
    return DiagonalNormal(base.loc, 2 * torch.log(base.scale))


def enter_kl_to_diagonal(
    kind: type[NormalVector], divergence: Callable[[Any, DiagonalNormal], Tensor]
) -> None:
    """Tells torch's ``kl_divergence`` that of a ``kind``, and torch's spelling of the other one."""
    register_kl(kind, DiagonalNormal)(divergence)
    register_kl(kind, torch.distributions.Independent)(
        lambda p, q: divergence(p, diagonal_normal_of(q))
    )


enter_kl(DiagonalNormal, diagonal_normal_kl, {torch.distributions.Independent: diagonal_normal_of})
