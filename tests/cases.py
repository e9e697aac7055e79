"""One row per loss: what drives every test of the ops. And the layouts that they are tried on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import vae_fast as vf
from vae_fast.engine.table import LOSSES

Draw = Callable[[tuple[int, ...]], Tensor]
Exact = np.ndarray  # of np.longdouble: 64 bits of mantissa or more


def normal(scale: float = 1.0) -> Draw:
    return lambda shape: scale * torch.randn(shape, dtype=torch.float64)


def unit_interval(edge: float = 0.0) -> Draw:
    return lambda shape: edge + (1 - 2 * edge) * torch.rand(shape, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A loss, by its op's name.

    ``public`` takes the operands in the op's order. ``torch`` is PyTorch's own expression of it,
    elementwise, whose error is the measure of ours. ``exact`` is the textbook's, value and then
    gradients in long double: the oracle. ``draws`` gives typical operands in float64,
    ``extremes`` are operands at the edges of what float32 holds, one tuple per element.
    """

    op: str
    public: Callable[..., Tensor]
    torch: Callable[..., Tensor]
    exact: Callable[..., tuple[Exact, ...]]
    draws: tuple[Draw, ...]
    extremes: tuple[tuple[float, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return LOSSES[self.op].operands

    @property
    def has_target(self) -> bool:
        return self.names[-1] == "target"


_PI = np.arctan(np.longdouble(1)) * 4


def _exact_bernoulli(logits: Exact, target: Exact) -> tuple[Exact, ...]:
    value = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-abs(logits)))
    return value, 1 / (1 + np.exp(-logits)) - target, -logits


def _exact_bernoulli_probs(p: Exact, x: Exact) -> tuple[Exact, ...]:
    log_p, log_q = np.log(p), np.log1p(-p)
    return -x * log_p - (1 - x) * log_q, (1 - x) / (1 - p) - x / p, log_q - log_p


def _exact_expm1_minus(x: Exact) -> Exact:
    """exp(x) - 1 - x: by its series near 0, where long double would cancel too."""
    term = series = x * x / 2
    for k in range(3, 28):
        term = term * x / k
        series = series + term
    return np.where(abs(x) < 1, series, np.expm1(x) - x)


def _exact_standard_normal_kl(mu: Exact, logvar: Exact) -> tuple[Exact, ...]:
    return (mu * mu + _exact_expm1_minus(logvar)) / 2, mu, np.expm1(logvar) / 2


def _exact_gaussian_kl(mu: Exact, logvar: Exact, m: Exact, v: Exact) -> tuple[Exact, ...]:
    precision, excess = np.exp(-v), np.expm1(logvar - v)
    slope, square = (mu - m) * precision, (mu - m) ** 2 * precision
    value = (square + _exact_expm1_minus(logvar - v)) / 2
    return value, slope, excess / 2, -slope, -(square + excess) / 2


def _exact_gaussian_nll(mean: Exact, logvar: Exact, x: Exact) -> tuple[Exact, ...]:
    slope = (mean - x) * np.exp(-logvar)
    square = (mean - x) * slope
    value = (np.log(2 * _PI) + logvar + square) / 2
    return value, slope, (1 - square) / 2, -slope


def _torch_gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    return -Normal(mean, (0.5 * logvar).exp(), validate_args=False).log_prob(target)


def _gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.gaussian_nll(mean, target, logvar, **options)


def _torch_standard_normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


def _torch_gaussian_kl(mu: Tensor, logvar: Tensor, m: Tensor, v: Tensor) -> Tensor:
    q = Normal(mu, (0.5 * logvar).exp(), validate_args=False)
    return kl_divergence(q, Normal(m, (0.5 * v).exp(), validate_args=False))


CASES = (
    Case(
        "bernoulli_nll",
        vf.bernoulli_nll,
        partial(nn.functional.binary_cross_entropy_with_logits, reduction="none"),
        _exact_bernoulli,
        (normal(3.0), unit_interval()),
        ((1e4, 0.0), (1e4, 1.0), (-1e4, 0.3), (30.0, 1.0), (90.0, 1.0), (-90.0, 0.0), (1e-40, 0.5)),
    ),
    Case(
        "bernoulli_probs_nll",
        partial(vf.bernoulli_nll, from_probs=True),
        partial(nn.functional.binary_cross_entropy, reduction="none"),
        _exact_bernoulli_probs,
        (unit_interval(0.02), unit_interval()),
        ((1e-11, 1.0), (1e-11, 0.0), (0.999999, 1.0), (0.999999, 0.0), (0.5, 1e-40)),
    ),
    Case(
        "gaussian_nll",
        _gaussian_nll,
        _torch_gaussian_nll,
        _exact_gaussian_nll,
        (normal(), normal(), normal()),
        (
            (0.5, 80.0, 0.25),
            (0.5, -40.0, 0.25),
            (0.5, -160.0, 0.5),
            (0.5, -300.0, 0.5),
            (1e-30, -140.0, 0.0),
            (1e-15, -80.0, 0.0),
            (2e19, 0.0, 0.0),
        ),
    ),
    Case(
        "standard_normal_kl",
        vf.gaussian_kl,
        _torch_standard_normal_kl,
        _exact_standard_normal_kl,
        (normal(), normal()),
        (
            (0.0, 0.0),
            (0.0, 1e-4),
            (0.0, -1e-7),
            (1e-20, 0.0),
            (3.0, 80.0),
            (3.0, -80.0),
            (1.0, -210.0),
            (3.0, 88.8),
            (0.0, 89.4),
            (2e19, 0.0),
        ),
    ),
    Case(
        "gaussian_kl",
        vf.gaussian_kl,
        _torch_gaussian_kl,
        _exact_gaussian_kl,
        (normal(), normal(), normal(), normal()),
        (
            (0.5, -80.0, 0.5, 80.0),
            (0.5, 40.0, 0.5, -40.0),
            (0.5, -200.0, 0.5, -200.0),
            (0.5, -210.0, 0.5, 0.0),
            (1e-30, -140.0, 0.0, -140.0),
            (2.0, 1e-4, 2.0, 0.0),
            (0.5, 49.0, 0.5, -40.0),
            (2e19, 0.0, 0.0, 0.0),
        ),
    ),
)

each_case = {"argvalues": CASES, "ids": [case.op for case in CASES]}


@dataclass(frozen=True)
class Layout:
    """Shapes and strides for the operands of one call.

    ``base(k)`` is the shape in which operand k is drawn, ``view`` makes the operand from it.
    """

    name: str
    batch_dims: int
    base: Callable[[int], tuple[int, ...]]
    view: Callable[[int, Tensor], Tensor] = lambda k, x: x
    target: tuple[int, ...] | None = None  # of its own, without leading batch dimensions


def _same(*shape: int) -> Callable[[int], tuple[int, ...]]:
    return lambda k: shape


# Which sizes of (4, 3, 5) each operand has: the others broadcast.
_BROADCAST = ((4, 3, 5), (3, 1), (5,), (4, 1, 1))

LAYOUTS = (
    Layout("empty_batch", 1, _same(0, 5)),
    Layout("empty_event", 1, _same(3, 0)),
    Layout("one", 1, _same(1, 1)),
    Layout("zero_dim", 0, _same()),
    Layout("vector", 0, _same(67)),
    Layout("odd", 1, _same(7, 33)),
    Layout("images", 1, _same(2, 3, 5, 7)),
    Layout("two_batch_dims", 2, _same(3, 2, 19)),
    Layout("broadcast", 1, lambda k: _BROADCAST[k], target=(3, 5)),
    Layout("one_target", 1, lambda k: (6, 17) if k == 0 else (6, 1), target=(17,)),
    Layout("samples", 2, lambda k: (3, 4, 10) if k == 0 else (4, 10)),
    Layout("chunk", 1, _same(3, 4, 5, 5), lambda k, x: x.chunk(2, dim=1)[k % 2]),
    Layout("transposed", 1, _same(9, 6), lambda k, x: x.t()),
    Layout("mixed_order", 1, _same(8, 6, 4), lambda k, x: x.transpose(1, 2) if k % 2 else x.mT),
    Layout("every_second", 1, _same(6, 20), lambda k, x: x[:, k % 2 :: 2]),
    Layout(
        "channels_last",
        1,
        _same(2, 3, 4, 5),
        lambda k, x: x.contiguous(memory_format=torch.channels_last),
    ),
    Layout("expanded", 1, _same(1, 11), lambda k, x: x.expand(5, 11)),
)

each_layout = {"argvalues": LAYOUTS, "ids": [layout.name for layout in LAYOUTS]}

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
each_dtype = {"argvalues": DTYPES, "ids": [str(d).removeprefix("torch.") for d in DTYPES]}

REDUCTIONS = ("none", "sample", "sum", "batchmean", "mean")


def draw(case: Case, layout: Layout, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Operands of ``dtype``: leaves with the layout's strides."""
    shapes = [layout.base(k) for k in range(len(case.draws))]
    if case.has_target and layout.target is not None:
        shapes[-1] = layout.target
    bases = [d(shape).to(dtype) for d, shape in zip(case.draws, shapes, strict=True)]
    return [layout.view(k, x).detach() for k, x in enumerate(bases)]


def leaves(case: Case, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Operands of one shape, all of which require a gradient."""
    return [d(shape).to(dtype).requires_grad_() for d in case.draws]


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def exactly(x: Tensor) -> Exact:
    return x.detach().cpu().double().numpy().astype(np.longdouble)


def reduced(elementwise: Any, reduction: str, batch_dims: int) -> Any:
    """A reduction as a user writes it, of a tensor or an exact array."""
    dims = tuple(range(batch_dims, elementwise.ndim))
    if reduction == "none" or (reduction == "sample" and not dims):
        return elementwise
    if reduction == "sample":
        return elementwise.sum(dims)
    if reduction == "mean":
        return elementwise.mean()
    batch = math.prod(elementwise.shape[:batch_dims])
    return elementwise.sum() if reduction == "sum" else elementwise.sum() / batch
