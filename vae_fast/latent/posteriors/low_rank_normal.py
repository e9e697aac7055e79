"""The normal distribution whose covariance is a diagonal and a product of low rank."""

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


class LowRankNormal(NormalVector):
    """Of vectors, N(loc, F F^T + diag(exp(logvar))): of D R numbers where a full one has D^2 / 2.

    Rezende, Mohamed and Wierstra 2014, "Stochastic backpropagation and approximate inference in
    deep generative models", section 4.3. The divergence to a :class:`DiagonalNormal` is that of
    the marginals and their total correlation, (sum_i log Sigma_ii - log det Sigma) / 2, of which
    neither is negative.

    Determinant and inverse are of the smaller matrix (Woodbury): with G = exp(-logvar / 2) F, by
    the QR decomposition of G above the identity in float64, which never squares G and so is right
    where F is larger than the diagonal by orders of magnitude.

    Args:
        loc: Means (*batch, D).
        logvar: Logarithms of the diagonal's variances (*batch, D).
        factor: F, (*batch, D, R).
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import DiagonalNormal, LowRankNormal
        >>> zeros = torch.zeros(2)
        >>> q = LowRankNormal(zeros, zeros, torch.tensor([[1.0], [1.0]]))
        >>> q.covariance_matrix
        tensor([[2., 1.],
                [1., 2.]])
        >>> kl_divergence(q, DiagonalNormal(zeros, zeros))  # 1 - log(3) / 2
        tensor(0.4507)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "logvar": constraints.real_vector,
        "factor": matrix,
    }
    logvar: Tensor
    factor: Tensor

    def __init__(
        self, loc: Tensor, logvar: Tensor, factor: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(loc, logvar, factor, validate_args=validate_args)

    def _draw(self, loc: Tensor, logvar: Tensor, factor: Tensor) -> Tensor:
        common = torch.randn_like(factor[..., :1, :]) @ factor.mT
        return loc + torch.exp(0.5 * logvar) * torch.randn_like(loc) + common.squeeze(-2)

    @property
    def covariance_matrix(self) -> Tensor:
        """F F^T + diag(exp(logvar))."""
        _, logvar, factor = self._computed()
        whole = factor @ factor.mT + torch.diag_embed(torch.exp(logvar))
        return whole.to(self.loc.dtype).expand(*self._batch_shape, *whole.shape[-2:])

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return torch.exp(self._marginal_logvar()[0]).to(self.loc.dtype).expand(self.loc.shape)

    def _scaled_factor(self) -> Tensor:
        """G, in float64."""
        _, logvar, factor = (x.double() for x in self._given)
        return torch.exp(-0.5 * logvar).unsqueeze(-1) * factor

    def _marginal_logvar(self) -> tuple[Tensor, Tensor]:
        """Of the covariance's diagonal, and its excess over logvar, in float64."""
        excess = torch.log1p(self._scaled_factor().square().sum(-1))
        return self._given[1].double() + excess, excess

    def _decomposition(self) -> tuple[Tensor, Tensor]:
        """Q of the QR decomposition of G above the identity, and log det(1 + G^T G)."""
        scaled = self._scaled_factor()
        rank = scaled.shape[-1]
        identity = torch.eye(rank, dtype=scaled.dtype, device=scaled.device)
        stacked = torch.cat((scaled, identity.expand(*scaled.shape[:-2], rank, rank)), -2)
        q, r = torch.linalg.qr(stacked)
        return q, 2 * r.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)

    def _log_determinant(self) -> Tensor:
        whole = self._given[1].double().sum(-1) + self._decomposition()[1]
        return whole.to(self._computed()[0].dtype)

    def _cost(self, value: Tensor) -> Tensor:
        """The square is that of what is left of the scaled value outside of G's columns."""
        loc, logvar, _ = (x.double() for x in self._given)
        q, _ = self._decomposition()
        scaled = ((value.double() - loc) * torch.exp(-0.5 * logvar)).unsqueeze(-1)
        zeros = torch.zeros_like(q[..., scaled.shape[-2] :, :1])
        zeros = zeros.expand(*scaled.shape[:-2], *zeros.shape[-2:])
        stacked = torch.cat((scaled, zeros), -2)
        rest = stacked - q @ (q.mT @ stacked)
        half_square = 0.5 * rest.square().sum((-2, -1))
        return -self._log_density(half_square.to(self._computed(value)[0].dtype))


def _kl(p: LowRankNormal, q: DiagonalNormal) -> Tensor:
    logvar, excess = p._marginal_logvar()
    correlation = 0.5 * (excess.sum(-1) - p._decomposition()[1])
    marginals = DiagonalNormal(p._given[0].double(), logvar, validate_args=False)
    whole = diagonal_normal_kl(marginals, q) + correlation
    return whole.to(p._computed(*q._given)[0].dtype)


enter_kl_to_diagonal(LowRankNormal, _kl)
