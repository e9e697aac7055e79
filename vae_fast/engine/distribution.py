"""Distributions after torch.distributions, whose log_prob is a likelihood's function.

What they share is here: parameters that broadcast, validation, samples, log_prob. Each class is in
its likelihood's file of :mod:`vae_fast.likelihoods`, and enters itself with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine import checks
from vae_fast.engine.call import as_tensor
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype
from vae_fast.engine.shapes import broadcast_shape

_NO_SHAPE = torch.Size()
# Typed here, as torch has them without types.
register_kl: Callable[..., Callable[..., Any]] = torch.distributions.register_kl
_integer_interval: Callable[..., constraints.Constraint] = constraints.integer_interval


class Distribution(torch.distributions.Distribution):
    """A distribution of independent elements, of a likelihood's parameters.

    A class has: ``nll``, the likelihood's function; ``arg_constraints``, whose keys are the
    parameters, in the function's order; ``support``; ``_draw``, its sampler; its moments.

    Parameters are tensors or numbers, which broadcast together to the batch's shape; the attributes
    of their names have it, as views. (Of a parameter that is a vector, by its constraint's
    ``event_dim``, the dimensions in front of that do.)

    ``log_prob(value)`` takes what the function takes as its target (uint8, bool, int32 and int64,
    too, and uint8 as x / 255 where the function does so). It is one call of the kernels, where
    there are any, which read the parameters as they were given: what broadcasts is not copied,
    neither there nor by ``expand``, and its gradient is summed in the same pass; the sign is a pass
    of its own. In nats.

    ``sample`` and ``rsample`` take their noise from torch's generator, compute in float32 (float64
    where a parameter is float64), and give the parameters' dtype.

    ``validate_args`` is torch's, its default too: parameters and values are checked, a ValueError
    (but the first use of ``torch.compile`` turns that default off, for torch's classes and these).
    In compiled code, where torch's own classes break the graph, what is wrong is found at run time:
    a RuntimeError, on a GPU an assertion of the device.
    """

    nll: ClassVar[Callable[..., Tensor]]
    _draw: Callable[..., Tensor]  # a sample for each element of parameters of one shape and dtype
    arg_constraints: ClassVar[dict[str, constraints.Constraint]]
    reads_bytes: ClassVar[bool] = False  # whether nll takes a uint8 target for x / 255

    def __init__(self, *parameters: Tensor | float, validate_args: bool | None = None) -> None:
        owner, names = type(self).__name__, tuple(self.arg_constraints)
        given = tuple(_as_tensor(x, *parameters) for x in parameters)
        shown, batch = zip(*map(self._of_batch, names, given), strict=True)
        checks.check_operands(owner, shown, batch)
        self._set_parameters(given, broadcast_shape(batch))
        validates: bool = self._validate_args if validate_args is None else validate_args
        is_compiling = torch.compiler.is_compiling()
        shapes = (self._batch_shape, self._shape_of_event())
        super().__init__(*shapes, validate_args=validates and not is_compiling)
        self._validate_args = validates
        if validates and is_compiling:
            for name, constraint in self.arg_constraints.items():
                assert_within(owner, constraint, getattr(self, name), f"parameter {name}")

    def _of_batch(self, name: str, parameter: Any) -> tuple[str, Any]:
        """What the checks see of a parameter: its first elements, of the batch's shape."""
        dims = self.arg_constraints[name].event_dim
        if not isinstance(parameter, Tensor) or dims == 0:
            return name, parameter
        if parameter.dim() < dims:
            raise ValueError(
                f"{type(self).__name__}: {name} has shape {checks.shown(parameter.shape)}, "
                f"expected at least {dims} dimensions"
            )
        shape = parameter.shape[: parameter.dim() - dims]
        return f"{name}[...{', 0' * dims}]", parameter.detach().new_empty(()).expand(shape)

    def _set_parameters(self, given: tuple[Tensor, ...], batch_shape: torch.Size) -> None:
        self._given, self._batch_shape = given, batch_shape
        for name, parameter in zip(self.arg_constraints, self._wide(batch_shape), strict=True):
            setattr(self, name, parameter)

    def _wide(self, batch_shape: torch.Size) -> list[Tensor]:
        """The parameters of a batch of this shape, as views."""
        dims = [constraint.event_dim for constraint in self.arg_constraints.values()]
        return [
            x.expand(batch_shape + x.shape[x.dim() - k :])
            for x, k in zip(self._given, dims, strict=True)
        ]

    def _shape_of_event(self) -> torch.Size:
        return _NO_SHAPE

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new: Self = type(self).__new__(type(self)) if _instance is None else _instance
        new._set_parameters(self._given, torch.Size(batch_shape))
        shapes = (new._batch_shape, new._shape_of_event())
        super(Distribution, new).__init__(*shapes, validate_args=False)
        new._validate_args = self._validate_args
        return new

    # ---- density ---------------------------------------------------------------------------------

    @property
    def _operands(self) -> tuple[Tensor | float, ...]:
        """What ``nll`` is given beside the target."""
        return self._given

    def _cost(self, value: Tensor) -> Tensor:
        """-log_prob of a value that is not looked at."""
        return self._summed_cost(value, 0)

    def _summed_cost(self, value: Tensor, dims: int) -> Tensor:
        """The same, summed over so many of the last dimensions, in the same pass."""
        _, *others = self._operands
        first = self._given[0].expand(self._batch_shape)
        shape = broadcast_shape((first, value))
        first, target = first.expand(shape), value.expand(shape)
        reduction = "sample" if dims else "none"
        return self.nll(first, target, *others, batch_dims=len(shape) - dims, reduction=reduction)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, of each element."""
        if self._validate_args:
            self._validate_sample(value)
        return -self._cost(value)

    def _validate_sample(self, value: Tensor) -> None:
        """As torch's, of the numbers that the function reads in bytes."""
        read = value
        if isinstance(value, Tensor) and value.dtype in checks.BYTES:
            read = value.to(promoted_dtype(self._given))
            if self.reads_bytes and value.dtype == torch.uint8:
                read = read / 255
        if torch.compiler.is_compiling():
            assert_within(type(self).__name__, self.support, read, "value")
        else:
            super()._validate_sample(read)

    # ---- samples ---------------------------------------------------------------------------------

    def _sample(self, sample_shape: Sequence[int]) -> Tensor:
        shape, dtype = torch.Size(sample_shape) + self._batch_shape, arithmetic_dtype(self._given)
        return self._draw(*(x.to(dtype) for x in self._wide(shape))).to(self._sample_dtype)

    @property
    def _sample_dtype(self) -> torch.dtype:
        return promoted_dtype(self._given)

    def sample(self, sample_shape: Sequence[int] = _NO_SHAPE) -> Tensor:
        """Samples, of shape (*sample_shape, *batch_shape), without a gradient."""
        with torch.no_grad():
            return self._sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = _NO_SHAPE) -> Tensor:
        """Samples with their gradients in the parameters, where ``has_rsample``."""
        if not self.has_rsample:
            raise NotImplementedError(f"{type(self).__name__} has no samples with gradients")
        return self._sample(sample_shape)

    def _enumerated(self, values: Tensor, expand: bool) -> Tensor:
        """What ``enumerate_support`` gives, of the values in one dimension."""
        values = values.reshape(-1, *(1 for _ in self._batch_shape))
        return values.expand(-1, *self._batch_shape) if expand else values


class FewValued(Distribution):
    """Of few values: its moments and entropy are sums over them, of as many times the memory."""

    has_enumerate_support = True

    def _values(self) -> Tensor:
        """(n,), in the arithmetic's dtype."""
        raise NotImplementedError

    def _all(self) -> tuple[Tensor, Tensor]:
        """The values and their costs, along a new first dimension."""
        values = self._enumerated(self._values(), expand=False)
        return values, self._cost(values)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The values, along a new first dimension."""
        return self._enumerated(self._values().to(self._sample_dtype), expand)

    @property
    def mean(self) -> Tensor:
        """The expected value."""
        values, costs = self._all()
        return (torch.exp(-costs) * values).sum(0)

    @property
    def mode(self) -> Tensor:
        """The likeliest value."""
        values, costs = self._all()
        return values.flatten()[costs.argmin(0)]

    @property
    def variance(self) -> Tensor:
        """Of the value."""
        values, costs = self._all()
        p = torch.exp(-costs)
        return (p * (values - (p * values).sum(0)) ** 2).sum(0)

    def entropy(self) -> Tensor:
        """Of the value."""
        _, costs = self._all()
        p = torch.exp(-costs)
        return torch.where(p == 0, 0, p * costs).sum(0)


class AroundLoc(Distribution):
    """Whose mean and mode are the parameter ``loc``."""

    loc: Tensor

    @property
    def mean(self) -> Tensor:
        """The expected value."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.loc


class Symmetric(AroundLoc):
    """Of real numbers, around ``loc``: the function's ``mean``, by torch's name for it."""

    support = constraints.real
    has_rsample = True


def _as_tensor(value: Tensor | float, *others: Tensor | float) -> Tensor:
    """A parameter; of numbers alone in torch's default dtype."""
    if checks.is_number(value) and not any(isinstance(x, Tensor) for x in others):
        return torch.full((), float(value), dtype=torch.get_default_dtype())
    return as_tensor(value, *others)


def whole_numbers_to(largest: Tensor | int) -> constraints.Constraint:
    """From 0 on."""
    return _integer_interval(0, largest)


def assert_within(owner: str, constraint: Any, value: Tensor, what: str) -> None:
    """In compiled code, at run time: the graph has no branch for it."""
    message = f"{owner}: {what} is not within {type(constraint).__name__}"
    torch._assert_async(constraint.check(value).all(), message)


def enter_kl(
    ours: type[torch.distributions.Distribution],
    divergence: Callable[[Any, Any], Tensor],
    theirs: dict[
        type[torch.distributions.Distribution], Callable[[Any], torch.distributions.Distribution]
    ],
) -> None:
    """Tells torch's ``kl_divergence`` that of two of ``ours``, and of one and one of ``theirs``.

    Args:
        ours: The class.
        divergence: KL(p || q) of two of them, in nats.
        theirs: What makes one of ours out of one of torch's.
    """
    register_kl(ours, ours)(divergence)
    for torchs, convert in theirs.items():
        register_kl(ours, torchs)(_between(divergence, lambda p: p, convert))
        register_kl(torchs, ours)(_between(divergence, convert, lambda q: q))


def _between(
    divergence: Callable[[Any, Any], Tensor],
    of_p: Callable[[Any], Any],
    of_q: Callable[[Any], Any],
) -> Callable[[Any, Any], Tensor]:
    return lambda p, q: divergence(of_p(p), of_q(q))
