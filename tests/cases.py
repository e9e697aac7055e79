"""One row per loss: what drives every test of the ops. And the layouts that they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import vae_fast as vf
from vae_fast import reference

Draw = Callable[[tuple[int, ...]], Tensor]


def normal(scale: float = 1.0) -> Draw:
    return lambda shape: scale * torch.randn(shape, dtype=torch.float64)


def unit_interval(edge: float = 0.0) -> Draw:
    return lambda shape: edge + (1 - 2 * edge) * torch.rand(shape, dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A loss, by its op's name.

    ``public`` takes the operands in the op's order, ``torch`` is PyTorch's own expression of it,
    elementwise, whose error is the measure of ours. ``draws`` gives typical operands in float64.
    ``extremes`` are operands, one tuple per element, at the edges of what float32 holds.
    """

    op: str
    public: Callable[..., Tensor]
    torch: Callable[..., Tensor]
    draws: tuple[Draw, ...]
    extremes: tuple[tuple[float, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return reference.LOSSES[self.op].operands

    @property
    def target_index(self) -> int | None:
        return self.names.index("target") if "target" in self.names else None


def _torch_standard_normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


def _torch_gaussian_kl(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> Tensor:
    q = Normal(mu, (0.5 * logvar).exp(), validate_args=False)
    return kl_divergence(q, Normal(prior_mu, (0.5 * prior_logvar).exp(), validate_args=False))


def _gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor, **options: object) -> Tensor:
    return vf.gaussian_nll(mean, target, logvar, **options)


def _torch_gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    return -Normal(mean, (0.5 * logvar).exp(), validate_args=False).log_prob(target)


INF = float("inf")

CASES = (
    Case(
        "bernoulli_nll",
        vf.bernoulli_nll,
        partial(F.binary_cross_entropy_with_logits, reduction="none"),
        (normal(3.0), unit_interval()),
        ((1e4, 0.0), (1e4, 1.0), (-1e4, 0.3), (INF, 1.0), (-INF, 0.0), (90.0, 1.0), (-1e-40, 0.5)),
    ),
    Case(
        "bernoulli_probs_nll",
        partial(vf.bernoulli_nll, from_probs=True),
        partial(F.binary_cross_entropy, reduction="none"),
        (unit_interval(0.02), unit_interval()),
        ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (1e-30, 1.0), (1e-40, 0.2)),
    ),
    Case(
        "gaussian_nll",
        _gaussian_nll,
        _torch_gaussian_nll,
        (normal(), normal(), normal()),
        (
            (0.5, 80.0, 0.2),
            (0.5, -40.0, 0.2),
            (0.5, -200.0, 0.5),
            (0.5, -300.0, 0.5),
            (1e-30, -140.0, 0.0),
        ),
    ),
    Case(
        "standard_normal_kl",
        vf.gaussian_kl,
        _torch_standard_normal_kl,
        (normal(), normal()),
        ((0.0, 1e-4), (0.0, -1e-7), (1e-20, 0.0), (3.0, 80.0), (3.0, -80.0), (1.0, -210.0)),
    ),
    Case(
        "gaussian_kl",
        vf.gaussian_kl,
        _torch_gaussian_kl,
        (normal(), normal(), normal(), normal()),
        (
            (0.5, -80.0, 0.5, 80.0),
            (0.5, 40.0, 0.5, -40.0),
            (0.5, -200.0, 0.5, -200.0),
            (0.5, -210.0, 0.5, 0.0),
            (1e-30, -140.0, 0.0, -140.0),
            (2.0, 1e-4, 2.0, 0.0),
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


def _same(*shape: int) -> Callable[[int], tuple[int, ...]]:
    return lambda k: shape


# Which sizes of (4, 3, 5) each operand has: the others broadcast.
_BROADCAST = ((4, 1, 5), (3, 1), (5,), (4, 3, 1))

LAYOUTS = (
    Layout("empty_batch", 1, _same(0, 5)),
    Layout("empty_event", 1, _same(3, 0)),
    Layout("one", 1, _same(1, 1)),
    Layout("zero_dim", 0, _same()),
    Layout("vector", 1, _same(67)),
    Layout("odd", 1, _same(7, 33)),
    Layout("images", 1, _same(2, 3, 5, 7)),
    Layout("two_batch_dims", 2, _same(3, 2, 19)),
    Layout("broadcast", 1, lambda k: _BROADCAST[k]),
    Layout("first_broadcasts", 1, lambda k: (1, 17) if k == 0 else (6, 17)),
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
    """The operands' bases, leaves of ``dtype``."""
    return [d(layout.base(k)).to(dtype) for k, d in enumerate(case.draws)]


def views(layout: Layout, bases: list[Tensor]) -> list[Tensor]:
    return [layout.view(k, x) for k, x in enumerate(bases)]


def operands(case: Case, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Fresh leaves of one shape, all of which require a gradient."""
    return [d(shape).to(dtype).requires_grad_() for d in case.draws]


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def reduced(elementwise: Tensor, reduction: str, batch_dims: int) -> Tensor:
    """A reduction as a user writes it."""
    if reduction == "none":
        return elementwise
    if reduction == "sample":
        event = tuple(range(batch_dims, elementwise.dim()))
        return elementwise.sum(event) if event else elementwise
    if reduction == "mean":
        return elementwise.mean()
    batch = elementwise.shape[:batch_dims].numel()
    return elementwise.sum() / (batch if reduction == "batchmean" else 1)
