"""How an encoder's output becomes the distribution q(z | x), by the posterior's name.

A head is a module: it says how many numbers it wants of the encoder for a datum, and makes the
distribution out of them; and it knows the prior that one has with such a posterior.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn import functional

from vae_fast.engine.checks import is_number, shown
from vae_fast.latent.checks import check_count
from vae_fast.latent.flows import masked_autoregressive_flow
from vae_fast.latent.posteriors.bernoulli import (
    BernoulliVector,
    BinaryConcrete,
    StraightThroughBinaryConcrete,
)
from vae_fast.latent.posteriors.categorical import (
    Concrete,
    OneHotCategorical,
    StraightThroughConcrete,
)
from vae_fast.latent.posteriors.diagonal_normal import DiagonalNormal
from vae_fast.latent.posteriors.dirichlet import Dirichlet
from vae_fast.latent.posteriors.flow import inverse_autoregressive
from vae_fast.latent.posteriors.full_normal import FullNormal
from vae_fast.latent.posteriors.low_rank_normal import LowRankNormal
from vae_fast.latent.posteriors.power_spherical import PowerSpherical
from vae_fast.latent.posteriors.sphere import HypersphericalUniform
from vae_fast.latent.posteriors.von_mises_fisher import VonMisesFisher
from vae_fast.latent.priors.base import FixedPrior, Prior
from vae_fast.latent.priors.standard_normal import StandardNormal
from vae_fast.likelihoods.beta import Beta
from vae_fast.likelihoods.gamma import Gamma

# Of relaxed classes and bits; Maddison et al. 2017, section 5.
_TEMPERATURE = 2 / 3

POSTERIORS: dict[str, type[PosteriorHead]] = {}


class PosteriorHead(nn.Module):
    """A kind of posterior q(z | x) of vectors, entered into ``POSTERIORS`` by its ``name``.

    Args:
        latent_dim: How many numbers z has; of classes, how many there are.

    Raises:
        TypeError: ``latent_dim`` is no whole number.
        ValueError: It is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent import POSTERIORS, rsample_kl
        >>> head = POSTERIORS["von_mises_fisher"](latent_dim=3)
        >>> raw = torch.zeros(8, head.numbers)  # of the encoder
        >>> z, kl = rsample_kl(head(raw + 1), head.prior())
        >>> head.numbers, z.shape, kl.shape
        (4, torch.Size([8, 3]), torch.Size([8]))
    """

    name: ClassVar[str]
    numbers: int  # that the encoder gives for a datum

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        check_count(type(self).__name__, "latent_dim", latent_dim)
        self.latent_dim = latent_dim
        self.numbers = sum(self._sizes())

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            POSTERIORS[cls.name] = cls

    def _sizes(self) -> tuple[int, ...]:
        """Of the parameters, how many numbers each has."""
        return (self.latent_dim,)

    def forward(self, raw: Tensor) -> Distribution:
        """Q(z | x), of what the encoder gave (*batch, numbers).

        It looks at no values, which a GPU would wait for: parameters are valid if the numbers are.

        Raises:
            ValueError: There are more or fewer numbers.
        """
        if raw.shape[-1] != self.numbers:
            raise ValueError(
                f"{type(self).__name__}: raw has shape {shown(raw.shape)}, expected (*batch, "
                f"{self.numbers})"
            )
        return self._distribution(*torch.split(raw, list(self._sizes()), -1))

    def _distribution(self, *parts: Tensor) -> Distribution:
        raise NotImplementedError

    def prior(self) -> Prior:
        """The prior p(z) that goes with it: the least informative one."""
        raise NotImplementedError


# What concentrations and rates are at least: there a divergence is a million nats, and further on
# its slopes, of the inverse's square, would overflow.
_LEAST = 1e-6


def _positive(raw: Tensor) -> Tensor:
    return functional.softplus(raw) + _LEAST


# ---- normal --------------------------------------------------------------------------------------


class DiagonalNormalHead(PosteriorHead):
    """Mean and log-variance."""

    name = "diagonal_normal"

    def _sizes(self) -> tuple[int, ...]:
        return (self.latent_dim, self.latent_dim)

    def _distribution(self, *parts: Tensor) -> Distribution:
        loc, logvar = parts
        return DiagonalNormal(loc, logvar, validate_args=False)

    def prior(self) -> Prior:
        """N(0, I)."""
        return StandardNormal(self.latent_dim)


class FullNormalHead(DiagonalNormalHead):
    """Mean, logarithms of the Cholesky factor's squared diagonal, and what is below it, by rows."""

    name = "full_normal"

    def _sizes(self) -> tuple[int, ...]:
        return (*super()._sizes(), self.latent_dim * (self.latent_dim - 1) // 2)

    def _distribution(self, *parts: Tensor) -> Distribution:
        loc, logvar, below = parts
        row = torch.arange(self.latent_dim, device=below.device)
        # Elsewhere any number will do: it is not read.
        place = (row * (row - 1) // 2).unsqueeze(-1) + row
        place = place.clamp(min=0, max=max(below.shape[-1] - 1, 0))
        padded = below if below.shape[-1] else torch.zeros_like(loc)
        return FullNormal(loc, logvar, padded[..., place], validate_args=False)


class LowRankNormalHead(DiagonalNormalHead):
    """Mean, log-variance of the diagonal, and the factor, by rows.

    Args:
        latent_dim: How many numbers z has.
        rank: Of the factor.
    """

    name = "low_rank_normal"

    def __init__(self, latent_dim: int, rank: int = 2) -> None:
        check_count("LowRankNormalHead", "rank", rank)
        self.rank = rank
        super().__init__(latent_dim)

    def _sizes(self) -> tuple[int, ...]:
        return (*super()._sizes(), self.latent_dim * self.rank)

    def _distribution(self, *parts: Tensor) -> Distribution:
        loc, logvar, factor = parts
        factor = torch.unflatten(factor, -1, (-1, self.rank))
        return LowRankNormal(loc, logvar, factor, validate_args=False)


class FlowHead(DiagonalNormalHead):
    """An inverse autoregressive flow of a context, which the encoder gives; of the package zuko.

    Args:
        latent_dim: How many numbers z has.
        transforms: How many layers of autoregressive networks.
        hidden: Sizes of each network's hidden layers.

    Raises:
        ModuleNotFoundError: zuko is not installed.
    """

    name = "flow"

    def __init__(
        self, latent_dim: int, transforms: int = 2, hidden: tuple[int, ...] = (64, 64)
    ) -> None:
        super().__init__(latent_dim)
        self.flow = masked_autoregressive_flow(latent_dim, self.numbers, transforms, hidden)

    def _distribution(self, *parts: Tensor) -> Distribution:
        return inverse_autoregressive(self.flow, torch.cat(parts, -1))


# ---- on the sphere -------------------------------------------------------------------------------


class VonMisesFisherHead(PosteriorHead):
    """A direction of any length, and a concentration by 1 + softplus, which keeps codes apart."""

    name = "von_mises_fisher"
    _kind: ClassVar[type[VonMisesFisher | PowerSpherical]] = VonMisesFisher

    def _sizes(self) -> tuple[int, ...]:
        return (self.latent_dim, 1)

    def _distribution(self, *parts: Tensor) -> Distribution:
        direction, concentration = parts
        loc = functional.normalize(direction, dim=-1)
        concentration = 1 + functional.softplus(concentration.squeeze(-1))
        return self._kind(loc, concentration, validate_args=False)

    def prior(self) -> Prior:
        """The uniform distribution on the sphere."""
        return FixedPrior(_uniform_on_sphere, like=torch.zeros(self.latent_dim))


def _uniform_on_sphere(like: Tensor, validate_args: bool | None = None) -> Distribution:
    return HypersphericalUniform(like.shape[-1], like.dtype, like.device, validate_args)


class PowerSphericalHead(VonMisesFisherHead):
    """As that of :class:`VonMisesFisher`."""

    name = "power_spherical"
    _kind = PowerSpherical


# ---- positive numbers and shares -----------------------------------------------------------------


class GammaHead(PosteriorHead):
    """Concentration and rate, by softplus."""

    name = "gamma"
    _kind: ClassVar[type[Gamma | Beta]] = Gamma

    def _sizes(self) -> tuple[int, ...]:
        return (self.latent_dim, self.latent_dim)

    def _distribution(self, *parts: Tensor) -> Distribution:
        first, second = map(_positive, parts)
        return self._of(first, second, validate_args=False)

    @classmethod
    def _of(cls, first: Tensor, second: Tensor, validate_args: bool | None = None) -> Distribution:
        each = cls._kind(first, second, validate_args=validate_args)
        return Independent(each, 1, validate_args=validate_args)

    def prior(self) -> Prior:
        """That of both parameters 1: the exponential distribution, of shares the uniform one."""
        ones = torch.ones(self.latent_dim)
        return FixedPrior(self._of, first=ones, second=ones.clone())


class BetaHead(GammaHead):
    """Alpha and beta, by softplus."""

    name = "beta"
    _kind = Beta


class DirichletHead(PosteriorHead):
    """Concentrations, by softplus."""

    name = "dirichlet"

    def _distribution(self, *parts: Tensor) -> Distribution:
        return Dirichlet(_positive(parts[0]), validate_args=False)

    def prior(self) -> Prior:
        """The uniform distribution on the simplex."""
        return FixedPrior(Dirichlet, concentration=torch.ones(self.latent_dim))


# ---- classes and bits ----------------------------------------------------------------------------


class CategoricalHead(PosteriorHead):
    """Logits, of classes or bits that are drawn themselves."""

    name = "categorical"
    _kind: ClassVar[type[OneHotCategorical | BernoulliVector]] = OneHotCategorical

    def _distribution(self, *parts: Tensor) -> Distribution:
        return self._kind(parts[0], validate_args=False)

    def prior(self) -> Prior:
        """Equal probabilities."""
        return FixedPrior(self._kind, logits=torch.zeros(self.latent_dim))


class BernoulliHead(CategoricalHead):
    """Logits."""

    name = "bernoulli"
    _kind = BernoulliVector


class StraightThroughConcreteHead(CategoricalHead):
    """Logits, of classes or bits with the gradient of relaxed ones.

    Args:
        latent_dim: How many classes there are, or bits.
        temperature: Of the relaxed ones.

    Raises:
        ValueError: The temperature is no positive number.
    """

    name = "straight_through_concrete"
    _relaxed: ClassVar[type[Concrete | BinaryConcrete]] = StraightThroughConcrete

    def __init__(self, latent_dim: int, temperature: float = _TEMPERATURE) -> None:
        super().__init__(latent_dim)
        if not is_number(temperature) or not temperature > 0:
            raise ValueError(
                f"{type(self).__name__}: temperature is {temperature!r}, expected a positive number"
            )
        self.temperature = temperature

    def _distribution(self, *parts: Tensor) -> Distribution:
        return self._relaxed(parts[0], self.temperature, validate_args=False)


class StraightThroughBinaryConcreteHead(StraightThroughConcreteHead):
    """Logits."""

    name = "straight_through_binary_concrete"
    _kind, _relaxed = BernoulliVector, StraightThroughBinaryConcrete


class ConcreteHead(StraightThroughConcreteHead):
    """Logits, of relaxed classes or bits."""

    name = "concrete"
    _relaxed: ClassVar[type[Concrete | BinaryConcrete]] = Concrete

    def prior(self) -> Prior:
        """Relaxed, too, of equal probabilities and the same temperature."""
        temperature = torch.tensor(float(self.temperature))
        zeros = torch.zeros(self.latent_dim)
        return FixedPrior(self._relaxed, logits=zeros, temperature=temperature)


class BinaryConcreteHead(ConcreteHead):
    """Logits."""

    name = "binary_concrete"
    _relaxed = BinaryConcrete
