"""What the posteriors share: a distribution of vectors, after torch.distributions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.checks import shown
from vae_fast.engine.distribution import Distribution
from vae_fast.engine.dtypes import arithmetic_dtype

matrix = constraints.independent(constraints.real, 2)  # type: ignore[no-untyped-call]


class _OfSize(constraints.Constraint):
    """Vectors whose size, by a norm, is 1, to what their dtype tells."""

    event_dim = 1

    def __init__(self, norm: int, least: float) -> None:
        self.norm, self.least = norm, least
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether each vector is, and none of its numbers is below the least."""
        wide = value.to(torch.promote_types(value.dtype, torch.float32))
        tolerance = 8 * math.sqrt(value.shape[-1]) * torch.finfo(value.dtype).eps
        size = torch.linalg.vector_norm(wide, self.norm, dim=-1)
        is_above = torch.all(value >= self.least, -1)
        return torch.le((size - 1).abs(), tolerance) & is_above


# The latter as torch's, which refuses some of its own samples in half precision.
unit_vector = _OfSize(2, -math.inf)
simplex = _OfSize(1, 0.0)


class VectorDistribution(Distribution):
    """A distribution whose event are vectors, the latent dimensions of a datum.

    As :class:`vae_fast.engine.distribution.Distribution`, with parameters that are tensors and
    values that are floats: parameters broadcast in their batch's dimensions, samples have the
    parameters' dtype. ``log_prob``, ``entropy`` and divergences, in nats, are sums over the event,
    computed in float32 (float64 where a parameter is float64) and returned in that.
    """

    support: Any = constraints.real_vector
    has_rsample = True

    def __init__(self, *parameters: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(*parameters, validate_args=validate_args)
        size = self._given[0].shape[-1]
        dims = [constraint.event_dim for constraint in self.arg_constraints.values()]
        for name, x, k in zip(self.arg_constraints, self._given, dims, strict=True):
            if k > 0 and x.shape[-k] != size:
                first = next(iter(self.arg_constraints))
                raise ValueError(
                    f"{type(self).__name__}: {name} has shape {shown(x.shape)}, expected "
                    f"{size} in dimension {-k}, as {first} {shown(self._given[0].shape)} has"
                )

    def _shape_of_event(self) -> torch.Size:
        return self._given[0].shape[-1:]

    def _computed(self, *others: Tensor) -> list[Tensor]:
        """The parameters, and ``others``, in the dtype of the arithmetic."""
        tensors = (*self._given, *others)
        dtype = arithmetic_dtype(tensors)
        return [x.to(dtype) for x in tensors]
