"""The power spherical distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.distribution import register_kl
from vae_fast.engine.gamma_functions import dirichlet_kl
from vae_fast.latent.posteriors.sphere import HypersphericalUniform, Spherical, log_area


class PowerSpherical(Spherical):
    """Of unit vectors z, with a density in proportion to (1 + loc . z)^k.

    De Cao and Aziz 2020, "The power spherical distribution" (arXiv:2006.04437): near to a von
    Mises-Fisher distribution, without Bessel functions and without rejection. (1 + loc . z) / 2 is
    a Beta variate of k + (D - 1) / 2 and (D - 1) / 2, whose samples have implicit gradients.

    The density is 0 opposite to loc alone: what has been rounded to there is read as next to it.

    ``kl_divergence`` knows, in closed form, that to :class:`HypersphericalUniform` and to
    :class:`VonMisesFisher`.

    Args:
        loc: Mean direction (*batch, D), D >= 2, of length 1.
        concentration: k > 0, (*batch); or a number. Near 0 it is uniform.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import HypersphericalUniform, PowerSpherical
        >>> q = PowerSpherical(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([2.0]))
        >>> q.rsample().shape, q.mean  # k / (k + D - 1) times loc
        (torch.Size([1, 3]), tensor([[0.0000, 0.0000, 0.5000]]))
        >>> kl_divergence(q, HypersphericalUniform(3))
        tensor([0.4319])
    """

    def _shapes(self) -> tuple[Tensor, float]:
        """The Beta variate's parameters, in float64."""
        rest = 0.5 * (self._dim - 1)
        return self._given[1].double() + rest, rest

    def _cost(self, value: Tensor) -> Tensor:
        gap, concentration = self._gap(value)
        shape, rest = self._shapes()
        log_mean = torch.lgamma(shape) - torch.lgamma(shape + rest)
        log_mean = log_mean + (math.lgamma(2 * rest) - math.lgamma(rest))
        loc, _, wide = self._computed(value)
        # Of what is opposite to loc but for its rounding as of what is so far from it.
        least = 0.25 * torch.finfo(value.dtype).eps ** 2
        share = (0.25 * (wide + loc).square().sum(-1)).clamp(min=least)
        is_near = gap < 1
        near = torch.log1p(-0.5 * torch.where(is_near, gap, 0))
        log_share = torch.where(is_near, near, torch.log(share))
        return (log_mean + log_area(self._dim)).to(gap.dtype) - concentration * log_share

    def _mean_cosine(self) -> Tensor:
        k = self._given[1].double()
        return k / (k + (self._dim - 1))

    def _divergence(self) -> Tensor:
        """That of the component along loc."""
        shape, rest = self._shapes()
        uniform = torch.full_like(shape, rest)
        parts = (torch.stack(pair, -1) for pair in ((shape, uniform), (uniform, uniform)))
        return dirichlet_kl(*parts)

    def _angle(self, dim: int, concentration: Tensor) -> Tensor:
        """By tan(angle / 2)^2, the ratio of two Gamma variates."""
        rest = torch.full_like(concentration, 0.5 * (dim - 1))
        along = torch._standard_gamma(concentration + rest)
        return 2 * torch.atan(torch.sqrt(torch._standard_gamma(rest) / along))


@register_kl(PowerSpherical, HypersphericalUniform)
def _kl_to_uniform(p: PowerSpherical, q: HypersphericalUniform) -> Tensor:
    return p._narrow(p._divergence())
