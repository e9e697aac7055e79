"""What the rows of the tests' tables are.

A loss, PyTorch's own expression of it, and its oracle; and a likelihood's distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor

from vae_fast.engine.table import LOSSES

Draw = Callable[[tuple[int, ...]], Tensor]
AllSizes = tuple[Tensor, tuple[Tensor, ...]]
Sizes = Callable[..., AllSizes]
Exact = np.ndarray  # of np.longdouble: 64 bits of mantissa or more


def normal(scale: float = 1.0) -> Draw:
    return lambda shape: scale * torch.randn(shape, dtype=torch.float64)


def unit_interval(edge: float = 0.0) -> Draw:
    return lambda shape: edge + (1 - 2 * edge) * torch.rand(shape, dtype=torch.float64)


def positive(scale: float = 1.0) -> Draw:
    return lambda shape: normal(scale)(shape).exp()


def counts(shape: tuple[int, ...]) -> Tensor:
    """Few, and a quarter in place of none: below zero, where differences would step, is nothing."""
    return torch.poisson(torch.full(shape, 3.0, dtype=torch.float64)).clamp(min=0.25)


def trials(shape: tuple[int, ...]) -> Tensor:
    """As many as a byte counts hits, or more."""
    return 256 + counts(shape)


def to_unit_interval(operands: list[Tensor]) -> list[Tensor]:
    return [x.sigmoid() for x in operands]


def to_positive(operands: list[Tensor]) -> list[Tensor]:
    return [x.abs() for x in operands]


def of_the_results(value: Tensor, slopes: tuple[Tensor, ...], *operands: Tensor) -> AllSizes:
    return value.abs(), tuple(slope.abs() for slope in slopes)


def from_the_mean(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    return x - mean, (x - mean) ** 2


@dataclass(frozen=True)
class Case:
    """A loss, by its op's name.

    ``public`` takes the operands in the op's order. ``torch`` is PyTorch's own expression of it,
    elementwise, whose error is the measure of ours. ``exact`` is the textbook's, value and then
    gradients in long double: the oracle. ``draws`` gives typical operands in float64,
    ``extremes`` are operands at the edges of what float32 holds, one tuple per element, ``domain``
    brings any numbers to where the loss is defined.

    ``whole_targets`` are the whole numbers that a target may hold beside ``draws``. ``kinds`` is
    what the fuzzer draws for each operand (tests/fuzz/draws.py); ``sizes`` gives, of
    the value, the gradients and the operands, the sizes of the terms that each of them is made of.
    """

    op: str
    public: Callable[..., Tensor]
    torch: Callable[..., Tensor]
    exact: Callable[..., tuple[Exact, ...]]
    draws: tuple[Draw, ...]
    extremes: tuple[tuple[float, ...], ...]
    kinds: tuple[str, ...]
    domain: Callable[[list[Tensor]], list[Tensor]] = list
    sizes: Sizes = of_the_results
    whole_targets: range = range(20_000_000)  # more than a float32 holds one by one

    @property
    def names(self) -> tuple[str, ...]:
        return LOSSES[self.op].operands

    @property
    def has_target(self) -> bool:
        return self.names[-1] == "target"


@dataclass(frozen=True)
class Distributed:
    """A likelihood's class of vae_fast.distributions.

    ``parameters`` are ordinary ones, a tuple for each, ``outside`` is a value that it does not
    have. ``torchs`` makes PyTorch's own out of one, where the divergence of two has a closed form,
    and ``extremes`` are parameters at which that of close neighbours must not cancel. ``around``
    gives, of samples and their mean, what has a mean of 0, and what has the variance for its mean.
    """

    make: type[td.Distribution]
    parameters: tuple[tuple[float, ...], ...]
    outside: float
    torchs: Callable[..., td.Distribution] | None = None
    extremes: tuple[tuple[float, ...], ...] = ()
    around: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = from_the_mean

    def tensors(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        return [torch.tensor(x, dtype=dtype) for x in self.parameters]
