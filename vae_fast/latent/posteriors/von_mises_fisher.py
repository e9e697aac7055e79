"""The von Mises-Fisher distribution, whose samples have gradients that are unbiased."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.bessel_orders import bessel_orders, bessel_ratio
from vae_fast.engine.distribution import register_kl
from vae_fast.latent.posteriors.sphere import HypersphericalUniform, Spherical, log_area

# One is accepted with a probability of 0.6577 or more, of so many none in 5e-10 of all samples,
# which are the first one then: as far is the distribution from the right one at most.
_PROPOSALS = 20
# Of the slope's integral: points of the double exponential rule (Takahasi and Mori 1974), the last
# of its variable, and how many widths of the density the integral goes.
_POINTS = 60
_LAST_POINT = 3.2
_WIDTHS = 9.0


class VonMisesFisher(Spherical):
    """Of unit vectors z, with the density C exp(k loc . z): the sphere's Gaussian.

    Mardia and Jupp 2000, "Directional Statistics", section 9.3.2; as a posterior: Davidson et al.
    2018, "Hyperspherical variational auto-encoders" (arXiv:1804.00891). The normaliser is right for
    concentrations from 0 to 1e5 and more and any number of dimensions.

    Angles are drawn by rejection (Ulrich 1984; Wood 1994), with a fixed number of proposals. Their
    gradient in the concentration is implicit, -(dF/dk) / f of the angle's distribution function
    F, by a one-dimensional integral: unbiased. That of the accepted proposal, which usual code
    takes, lacks the correction term of rejection sampling (Naesseth et al. 2017).

    ``kl_divergence`` knows, in closed form, that from one of any spherical distribution here, and
    to :class:`HypersphericalUniform`.

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
        >>> from vae_fast.latent.posteriors import HypersphericalUniform, VonMisesFisher
        >>> q = VonMisesFisher(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([2.0]))
        >>> q.rsample().shape, q.mean  # coth(2) - 1/2 times loc
        (torch.Size([1, 3]), tensor([[0.0000, 0.0000, 0.5373]]))
        >>> kl_divergence(q, HypersphericalUniform(3))
        tensor([0.4794])
    """

    def _logs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of k in float64: k, log E exp(k w) of a uniform vector's component w, and E[w] / k."""
        k = self._given[1].double()
        return k, *bessel_orders(0.5 * self._dim - 1, k)

    def _cost(self, value: Tensor) -> Tensor:
        gap, concentration = self._gap(value)
        k, log_mean, _ = self._logs()
        return concentration * gap + (log_mean - k + log_area(self._dim)).to(gap.dtype)

    def _mean_cosine(self) -> Tensor:
        k = self._given[1].double()
        return k * bessel_ratio(0.5 * self._dim - 1, k)

    def _divergence(self) -> Tensor:
        k, log_mean, ratio = self._logs()
        return k * k * ratio - log_mean

    def _angle(self, dim: int, concentration: Tensor) -> Tensor:
        k = concentration.double()
        with torch.no_grad():
            angle = _drawn_angle(dim, k)
        if not torch.is_grad_enabled():
            return angle
        with torch.no_grad():
            slope = _slope(dim, k, angle)
        return angle + slope * (k - k.detach())


def _drawn_angle(dim: int, k: Tensor) -> Tensor:
    """By rejection; of Wood's Beta variate, as tan(angle / 2)^2 = b x / y of two Gamma variates."""
    m = dim - 1.0
    b = m / (2 * k + torch.hypot(2 * k, torch.full_like(k, m)))
    shape = torch.full((_PROPOSALS, *k.shape), 0.5 * m, dtype=k.dtype, device=k.device)
    x, y = torch._standard_gamma(shape), torch._standard_gamma(shape)
    whole = b * x + y
    chance = 2 * k * b * (1 / (1 + b) - x / whole)
    chance = chance + m * torch.log(0.5 * (1 + b) * (x + y) / whole)
    is_accepted = torch.rand_like(chance).log() < chance
    first = is_accepted.to(torch.uint8).argmax(0, keepdim=True)
    return 2 * torch.atan(torch.sqrt((b * x / y).gather(0, first).squeeze(0)))


def _slope(dim: int, k: Tensor, angle: Tensor) -> Tensor:
    """Of the angle in k: the integral of (E[w] - cos t) f(t) / f(angle) from 0 to it, f's density.

    Or of the negative of it from the angle to pi: on that side of the mean on which the integrand
    has one sign, so that nothing cancels. Beyond some widths of the density nothing is left.
    """
    ratio = bessel_ratio(0.5 * dim - 1, k)
    k, angle, mean = k.unsqueeze(-1), angle.unsqueeze(-1), (k * ratio).unsqueeze(-1)
    reach = _WIDTHS / torch.sqrt(k + (dim - 2))
    is_inner = torch.cos(angle) > mean
    end = torch.where(is_inner, (angle - reach).clamp(min=0), (angle + reach).clamp(max=math.pi))
    points = torch.linspace(-_LAST_POINT, _LAST_POINT, _POINTS, dtype=k.dtype, device=k.device)
    step = 2 * _LAST_POINT / (_POINTS - 1)
    bend = 0.5 * math.pi * torch.sinh(points)
    # From the angle on, in units of the way to the end, and weights.
    way = torch.sigmoid(2 * bend)
    weights = step * math.pi * torch.cosh(points) * way * torch.sigmoid(-2 * bend)
    t = angle + (end - angle) * way
    exponent = 2 * k * torch.sin(0.5 * (angle + t)) * torch.sin(0.5 * (angle - t))
    sines = torch.sin(t).abs() / torch.sin(angle)
    exponent = exponent + torch.special.xlogy(torch.full_like(sines, dim - 2.0), sines)
    integrand = (torch.cos(t) - mean) * torch.exp(exponent)
    return ((end - angle) * integrand * weights).sum(-1)


@register_kl(VonMisesFisher, HypersphericalUniform)
def _kl_to_uniform(p: VonMisesFisher, q: HypersphericalUniform) -> Tensor:
    return p._narrow(p._divergence())


@register_kl(Spherical, VonMisesFisher)
def _kl(p: Spherical, q: VonMisesFisher) -> Tensor:
    """By p's divergence from the uniform distribution and its mean."""
    k, log_mean, _ = q._logs()
    cosine = (p.loc.double() * q.loc.double()).sum(-1)
    whole = p._divergence() + log_mean - k * p._mean_cosine() * cosine
    return whole.to(torch.promote_types(p._computed()[0].dtype, q._computed()[0].dtype))
