"""The normal distribution of a full covariance, by its Cholesky factor."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.latent.posteriors.diagonal_normal import (
    DiagonalNormal,
    NormalVector,
    diagonal_normal_kl,
    enter_kl_to_diagonal,
)
from vae_fast.latent.posteriors.vectors import matrix


class FullNormal(NormalVector):
    """Of vectors, N(loc, L L^T), L lower triangular with exp(logvar / 2) on its diagonal.

    Kingma and Welling 2019, "An introduction to variational autoencoders", section 2.5.1. The
    divergence to a :class:`DiagonalNormal` of variances v is that of N(loc, exp(logvar)) and, for
    each number below the diagonal, L_ij^2 / (2 v_i): no term is negative, and no determinant is
    computed. A sample takes D^2 multiplications, a density a triangular system.

    Args:
        loc: Means (*batch, D).
        logvar: Twice the logarithms of L's diagonal (*batch, D).
        tril: (*batch, D, D), of which what is below the diagonal is L's, and nothing else is read.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import DiagonalNormal, FullNormal
        >>> zeros = torch.zeros(2)
        >>> q = FullNormal(zeros, zeros, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        >>> q.covariance_matrix
        tensor([[1., 1.],
                [1., 2.]])
        >>> kl_divergence(q, DiagonalNormal(zeros, zeros))
        tensor(0.5000)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "logvar": constraints.real_vector,
        "tril": matrix,
    }
    logvar: Tensor
    tril: Tensor

    def __init__(
        self, loc: Tensor, logvar: Tensor, tril: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(loc, logvar, tril, validate_args=validate_args)

    def _draw(self, loc: Tensor, logvar: Tensor, tril: Tensor) -> Tensor:
        noise = torch.randn_like(loc)
        below = torch.tril(tril, -1) @ noise.unsqueeze(-1)
        return loc + torch.exp(0.5 * logvar) * noise + below.squeeze(-1)

    def _factor(self) -> Tensor:
        """L, of the shape that the parameters have."""
        _, logvar, tril = self._computed()
        return torch.tril(tril, -1) + torch.diag_embed(torch.exp(0.5 * logvar))

    @property
    def covariance_matrix(self) -> Tensor:
        """L L^T."""
        factor = self._factor()
        whole = factor @ factor.mT
        return whole.to(self.loc.dtype).expand(*self._batch_shape, *whole.shape[-2:])

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return self._factor().square().sum(-1).to(self.loc.dtype).expand(self.loc.shape)

    def _log_determinant(self) -> Tensor:
        return self._computed()[1].sum(-1)

    def _cost(self, value: Tensor) -> Tensor:
        loc, *_, value = self._computed(value)
        away, factor = (value - loc).unsqueeze(-1), self._factor().to(value.dtype)
        solved = torch.linalg.solve_triangular(factor, away, upper=False)
        return -self._log_density(0.5 * solved.square().sum((-2, -1)))


def _kl(p: FullNormal, q: DiagonalNormal) -> Tensor:
    loc, logvar, _ = p._given
    of_diagonal = diagonal_normal_kl(DiagonalNormal(loc, logvar, validate_args=False), q)
    *_, tril, _, prior_logvar = p._computed(*q._given)
    below = torch.tril(tril, -1) * torch.exp(-0.5 * prior_logvar).unsqueeze(-1)
    return of_diagonal + 0.5 * below.square().sum((-2, -1))


enter_kl_to_diagonal(FullNormal, _kl)
