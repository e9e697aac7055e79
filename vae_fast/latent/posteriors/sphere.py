"""Distributions on the unit sphere, around a mean direction; uniform ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from vae_fast.engine.checks import is_int, shown
from vae_fast.engine.distribution import Distribution
from vae_fast.latent.posteriors.vectors import VectorDistribution, unit_vector

_NO_SHAPE = torch.Size()


def log_area(dim: int) -> float:
    """The logarithm of the area of the unit sphere in ``dim`` dimensions."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


class Spherical(VectorDistribution):
    """Of unit vectors, symmetric around a mean direction.

    A sample is the mean direction turned by a random angle, towards a tangent that is uniform.
    Its gradient in the direction is that of the rotation which takes the tangent along (of the
    length of the gradient in the sample: no projection's, whose variance may be infinite); samples
    have first derivatives, no second ones.
    """

    support = unit_vector
    arg_constraints: ClassVar = {"loc": unit_vector, "concentration": constraints.positive}
    loc: Tensor
    concentration: Tensor

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        super().__init__(loc, concentration, validate_args=validate_args)  # type: ignore[arg-type]
        if loc.shape[-1] < 2:
            raise ValueError(
                f"{type(self).__name__}: loc has shape {shown(loc.shape)}, expected at least 2 in "
                f"the last dimension"
            )

    _angle: Callable[[int, Tensor], Tensor]  # from the mean direction, of a concentration's shape

    @property
    def _dim(self) -> int:
        return self._given[0].shape[-1]

    def _draw(self, loc: Tensor, concentration: Tensor) -> Tensor:
        loc = functional.normalize(loc, dim=-1)
        angle = self._angle(self._dim, concentration).to(loc.dtype).unsqueeze(-1)
        noise = torch.randn_like(loc)
        # What is along loc goes twice: where it was nearly all, rounding leaves some.
        for _ in range(2):
            noise = noise - (noise * loc).sum(-1, keepdim=True) * loc
            noise = functional.normalize(noise, dim=-1).detach()
        tangent = noise - (noise * loc).sum(-1, keepdim=True) * loc
        return torch.cos(angle) * loc + torch.sin(angle) * tangent

    def _gap(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """1 - cos of the angle between value and loc, as what does not cancel; concentration."""
        loc, concentration, value = self._computed(value)
        return 0.5 * (value - loc).square().sum(-1), concentration

    @property
    def mean(self) -> Tensor:
        """The expected vector, which is shorter than 1."""
        return (self._mean_cosine().unsqueeze(-1) * self.loc).to(self.loc.dtype)

    def _mean_cosine(self) -> Tensor:
        raise NotImplementedError

    @property
    def mode(self) -> Tensor:
        """The mean direction."""
        return self.loc

    def _divergence(self) -> Tensor:
        """KL from the uniform distribution, in float64."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """With respect to the area of the sphere."""
        return self._narrow(log_area(self._dim) - self._divergence())

    def _narrow(self, value: Tensor) -> Tensor:
        """What was computed in float64, of a batch, in the dtype of the arithmetic."""
        return value.to(self._computed()[0].dtype).expand(self._batch_shape)


class HypersphericalUniform(Distribution):
    """Uniform on the unit sphere.

    Args:
        dim: Of the space around the sphere, at least 2.
        dtype: Of the samples; None: torch's default.
        device: Likewise.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        ValueError: ``dim`` is no whole number from 2 on.

    Example:
        >>> import torch
        >>> from vae_fast.latent.posteriors import HypersphericalUniform
        >>> p = HypersphericalUniform(3)
        >>> p.sample((4,)).shape, p.entropy()  # log(4 pi)
        (torch.Size([4, 3]), tensor(2.5310))
    """

    support = unit_vector
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        dim: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not is_int(dim) or dim < 2:
            raise ValueError(f"HypersphericalUniform: dim is {dim!r}, expected an int from 2 on")
        self.dim = dim
        self._like = torch.zeros((), dtype=dtype, device=device)
        self._given = ()
        torch.distributions.Distribution.__init__(
            self, _NO_SHAPE, torch.Size((dim,)), validate_args=validate_args
        )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> HypersphericalUniform:
        """The same distribution of a larger batch."""
        new = HypersphericalUniform(self.dim, self._like.dtype, self._like.device)
        new._batch_shape = torch.Size(batch_shape)
        return new

    def _sample(self, sample_shape: Sequence[int]) -> Tensor:
        shape = (*sample_shape, *self._batch_shape, self.dim)
        dtype = torch.promote_types(self._like.dtype, torch.float32)
        noise = torch.randn(shape, dtype=dtype, device=self._like.device)
        return functional.normalize(noise, dim=-1).to(self._like.dtype)

    def _cost(self, value: Tensor) -> Tensor:
        dtype = torch.promote_types(value.dtype, torch.float32)
        return torch.full(value.shape[:-1], log_area(self.dim), dtype=dtype, device=value.device)

    @property
    def mean(self) -> Tensor:
        """The origin."""
        return self._like.new_zeros((*self._batch_shape, self.dim))

    def entropy(self) -> Tensor:
        """The logarithm of the sphere's area."""
        return self._cost(self.mean)
