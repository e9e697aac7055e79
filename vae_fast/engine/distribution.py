"""Distributions after torch.distributions, whose log_prob is a likelihood's function.

What they share is here: parameters that broadcast, validation, samples, log_prob. Each class is in
its likelihood's file of :mod:`vae_fast.likelihoods`, and enters itself with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from vae_fast.engine import checks
from vae_fast.engine.call import as_tensor
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype
from vae_fast.engine.shapes import broadcast_shape

_NO_SHAPE = torch.Size()
# Typed here, as torch has them without types.
_register_kl: Callable[..., Callable[..., Any]] = register_kl
_integer_interval: Callable[..., constraints.Constraint] = constraints.integer_interval


class Distribution(torch.distributions.Distribution):
    """A distribution of independent elements, of a likelihood's parameters.

    A class has: ``nll``, the likelihood's function; ``arg_constraints``, whose keys are the
    parameters, in the function's order; ``support``; ``_draw``, its sampler; its moments.

    Parameters are tensors or numbers, which broadcast together to the batch's shape; the attributes
    of their names have it, as views. ``log_prob(value)`` takes what the function takes as its
    target (uint8, bool, int32 and int64, too, and uint8 as x / 255 where the function does so). It
    is one call of the kernels, where there are any, which read the parameters as they were given:
    what broadcasts is not copied, neither there nor by ``expand``, and its gradient is summed in
    the same pass; the sign is a pass of its own. In nats.

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
        names = tuple(self.arg_constraints)
        given = tuple(_as_tensor(x, *parameters) for x in parameters)
        checks.check_operands(type(self).__name__, names, given)
        self._set_parameters(given, broadcast_shape(given))
        validates: bool = self._validate_args if validate_args is None else validate_args
        is_compiling = torch.compiler.is_compiling()
        super().__init__(self._batch_shape, validate_args=validates and not is_compiling)
        self._validate_args = validates
        if validates and is_compiling:
            for name, constraint in self.arg_constraints.items():
                self._assert(constraint, getattr(self, name), f"parameter {name}")

    def _set_parameters(self, given: tuple[Tensor, ...], batch_shape: torch.Size) -> None:
        self._given, self._batch_shape = given, batch_shape
        for name, parameter in zip(self.arg_constraints, given, strict=True):
            setattr(self, name, parameter.expand(batch_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new: Self = type(self).__new__(type(self)) if _instance is None else _instance
        new._set_parameters(self._given, torch.Size(batch_shape))
        super(Distribution, new).__init__(new._batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    # ---- density ---------------------------------------------------------------------------------

    @property
    def _operands(self) -> tuple[Tensor | float, ...]:
        """What ``nll`` is given beside the target."""
        return self._given

    def _cost(self, value: Tensor) -> Tensor:
        """-log_prob of a value that is not looked at."""
        _, *others = self._operands
        first = self._given[0].expand(self._batch_shape)
        shape = broadcast_shape((first, value))
        first, target = first.expand(shape), value.expand(shape)
        return self.nll(first, target, *others, batch_dims=0, reduction="none")

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
            self._assert(self.support, read, "value")
        else:
            super()._validate_sample(read)

    def _assert(self, constraint: Any, value: Tensor, what: str) -> None:
        """At run time: the graph has no branch for it."""
        message = f"{type(self).__name__}: {what} is not within {type(constraint).__name__}"
        torch._assert_async(constraint.check(value).all(), message)

    # ---- samples ---------------------------------------------------------------------------------

    def _sample(self, sample_shape: Sequence[int]) -> Tensor:
        shape, dtype = self._extended_shape(torch.Size(sample_shape)), arithmetic_dtype(self._given)
        sample = self._draw(*(x.to(dtype).expand(shape) for x in self._given))
        return sample.to(promoted_dtype(self._given))

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


class Symmetric(Distribution):
    """Of real numbers, around ``loc``: the function's ``mean``, by torch's name for it."""

    support = constraints.real
    has_rsample = True
    loc: Tensor

    @property
    def mean(self) -> Tensor:
        """The expected x."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.loc


def _as_tensor(value: Tensor | float, *others: Tensor | float) -> Tensor:
    """A parameter; of numbers alone in torch's default dtype."""
    if checks.is_number(value) and not any(isinstance(x, Tensor) for x in others):
        return torch.full((), float(value), dtype=torch.get_default_dtype())
    return as_tensor(value, *others)


def whole_numbers_to(largest: Tensor) -> constraints.Constraint:
    """From 0 on."""
    return _integer_interval(0, largest)


def enter_kl(
    ours: type[Distribution],
    divergence: Callable[[Any, Any], Tensor],
    theirs: dict[type[torch.distributions.Distribution], Callable[[Any], Distribution]],
) -> None:
    """Tells torch's ``kl_divergence`` that of two of ``ours``, and of one and one of ``theirs``.

    Args:
        ours: The class.
        divergence: KL(p || q) of two of them, in nats.
        theirs: What makes one of ours out of one of torch's.
    """
    _register_kl(ours, ours)(divergence)
    for torchs, convert in theirs.items():
        _register_kl(ours, torchs)(_between(divergence, lambda p: p, convert))
        _register_kl(torchs, ours)(_between(divergence, convert, lambda q: q))


def _between(
    divergence: Callable[[Any, Any], Tensor],
    of_p: Callable[[Any], Any],
    of_q: Callable[[Any], Any],
) -> Callable[[Any, Any], Tensor]:
    return lambda p, q: divergence(of_p(p), of_q(q))
