"""The Dirichlet distribution, whose small concentrations do not underflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.distribution import enter_kl
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.gamma_functions import dirichlet_kl
from vae_fast.engine.gamma_samples import log_gamma_sample
from vae_fast.latent.posteriors.vectors import VectorDistribution, simplex


class Dirichlet(VectorDistribution):
    """Of shares that add up to 1, as ``torch.distributions.Dirichlet``.

    Samples are normalised Gamma variates in logarithms, whose gradients are implicit (Figurnov et
    al. 2018, arXiv:1805.08498), once: torch has no second derivatives of them. ``rsample_log``
    gives the logarithms of shares, which are finite where the shares themselves underflow.

    Args:
        concentration: Above 0, (*batch, K).
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import Dirichlet
        >>> q = Dirichlet(torch.tensor([[2.0, 1.0, 1.0]]))
        >>> q.mean, kl_divergence(q, Dirichlet(torch.ones(3)))
        (tensor([[0.5000, 0.2500, 0.2500]]), tensor([0.2653]))
        >>> Dirichlet(torch.full((3,), 1e-4)).rsample_log().isfinite()
        tensor([True, True, True])
    """

    arg_constraints: ClassVar = {"concentration": constraints.independent(constraints.positive, 1)}  # type: ignore[no-untyped-call]
    support = simplex
    concentration: Tensor

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(concentration, validate_args=validate_args)

    def rsample_log(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The logarithm of a sample, in the dtype of the arithmetic."""
        (wide,) = self._wide(torch.Size(sample_shape) + self._batch_shape)
        log_parts = log_gamma_sample(wide.to(arithmetic_dtype(self._given)))
        return torch.log_softmax(log_parts, -1)

    def _draw(self, concentration: Tensor) -> Tensor:
        return torch.softmax(log_gamma_sample(concentration), -1)

    def _cost(self, value: Tensor) -> Tensor:
        a, x = self._given[0].double(), value.double()
        constant = torch.lgamma(a).sum(-1) - torch.lgamma(a.sum(-1))
        cost: Tensor = constant - torch.special.xlogy(a - 1, x).sum(-1)
        return cost.to(self._computed(value)[0].dtype)

    @property
    def mean(self) -> Tensor:
        """The concentrations' shares."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        """Of each share."""
        total = self.concentration.sum(-1, keepdim=True)
        return self.mean * (1 - self.mean) / (total + 1)

    def entropy(self) -> Tensor:
        """Of the density over all shares but the last."""
        a = self._given[0].double()
        n = a.sum(-1)
        logs = torch.lgamma(a).sum(-1) - torch.lgamma(n)
        slopes: Tensor = (n - a.shape[-1]) * torch.digamma(n) - ((a - 1) * torch.digamma(a)).sum(-1)
        return (logs + slopes).to(self._computed()[0].dtype).expand(self._batch_shape)


def _kl(p: Dirichlet, q: Dirichlet) -> Tensor:
    of_p, of_q = (x._given[0].double() for x in (p, q))
    return dirichlet_kl(of_p, of_q).to(p._computed(q._given[0])[0].dtype)


enter_kl(Dirichlet, _kl, {torch.distributions.Dirichlet: lambda p: Dirichlet(p.concentration)})
