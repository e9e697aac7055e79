"""What a call is made of: shapes, dtypes, values and memory layouts, drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Shape = tuple[int, ...]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 65)
_MOST = 1000  # elements of an ordinary call
# Above a tile of the CPU's kernels, and above what one thread does alone.
_LARGE: tuple[Shape, ...] = ((1, 1025), (3, 1100), (70, 1031), (2, 3, 50, 61), (1, 40_001))
_LARGE_SHARE = 0.005


def _normal(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def _uniform(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")


def _whole(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 6, shape, generator=generator, device="cpu").double()


# Ordinary values, and those at the edges of what the arithmetic holds.
_VALUES: dict[str, Callable[[Shape, torch.Generator], Tensor]] = {
    "logit": lambda shape, generator: 3 * _normal(shape, generator),
    "number": _normal,
    "logvar": _normal,
    "lograte": _normal,
    "positive": lambda shape, generator: _normal(shape, generator).exp(),
    "prob": _uniform,
    "unit": _uniform,
    "count": _whole,
    "trials": lambda shape, generator: 255 + _whole(shape, generator),
    "levels": lambda shape, generator: 2 ** (2 + _whole(shape, generator)),
    "below": lambda shape, generator: -_normal(shape, generator).exp(),
    "above": lambda shape, generator: _normal(shape, generator).exp(),
}
_INF = float("inf")
_EXTREMES = {
    "logit": (0.0, 1e4, -1e4, 30.0, -90.0, 1e-40, _INF, -_INF),
    "number": (0.0, 1e4, -1e4, 1e-20, -1e-30),
    "logvar": (0.0, 1e-4, -1e-7, 40.0, -40.0, 80.0, -80.0),
    "lograte": (0.0, -1e-30, -100.0, 13.8, 60.0, -1e4),
    "positive": (1e-8, 1e-3, 1.0, 1e4, 6e4),
    "prob": (0.0, 1.0, 1e-11, 0.999999, 0.5),
    "unit": (0.0, 1.0, 0.5, 1e-40),
    "count": (0.0, 1.0, 255.0),
    "trials": (256.0, 1e3, 6e4),
    "levels": (2.0, 3.0, 256.0, 6e4),
    "below": (0.0, -1e-3, -1e4, -_INF),
    "above": (1e-3, 1.0, 1e4, _INF),
}
_EXTREME_SHARE = 0.25  # of the operands; then of each one's elements
_TARGET_DTYPES = {
    "unit": (torch.uint8, torch.bool),
    "number": (torch.uint8, torch.bool),
    "count": (torch.uint8, torch.bool, torch.int32, torch.int64),
}


class Source:
    """Everything random of one call, from the run's seed and the call's index."""

    def __init__(self, seed: int, index: int) -> None:
        self.random = random.Random(f"{seed}:{index}")
        self.generator = torch.Generator("cpu").manual_seed(self.random.getrandbits(63))

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.random.randrange(len(choices))]

    def is_so(self, share: float) -> bool:
        return self.random.random() < share

    def whole(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def shape(self, least_dims: int = 0, most_dims: int = 4) -> Shape:
        large = [s for s in _LARGE if least_dims <= len(s) <= most_dims]
        if large and self.is_so(_LARGE_SHARE):
            return self.one_of(large)
        left, sizes = _MOST, []
        for _ in range(self.whole(least_dims, most_dims)):
            size = self.one_of([s for s in _SIZES if s <= left])
            sizes.append(size)
            left //= max(size, 1)
        return tuple(sizes)

    def fitting(self, whole: Shape) -> Shape:
        """A shape that broadcasts to ``whole``, and no further."""
        own = whole[self.whole(0, len(whole)) if self.is_so(0.5) else 0 :]
        return tuple(1 if self.is_so(0.3) else size for size in own)

    def behind_batch(self, whole: Shape, batch_dims: int) -> Shape:
        """A target's shape: some leading batch dimensions may be missing."""
        return whole[self.whole(0, batch_dims) if self.is_so(0.3) else 0 :]

    def dtypes(self, count: int) -> list[torch.dtype]:
        usual = self.random.choices(DTYPES, (5, 2, 2, 2))[0]
        return [self.one_of(DTYPES) if self.is_so(0.15) else usual for _ in range(count)]

    def tensor(self, kind: str, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Values of a kind, in some layout; a leaf that may require a gradient."""
        is_target = kind in ("unit", "count")
        if is_target and self.is_so(0.3):
            dtype = self.one_of(_TARGET_DTYPES[kind])
        drawn = tuple(1 if self.is_so(0.05) else size for size in shape)  # expanded, then
        values = _VALUES[kind](drawn, self.generator)
        if self.is_so(_EXTREME_SHARE):
            values = self._with_extremes(values, _EXTREMES[kind])
        if not dtype.is_floating_point:
            scale = 255 if kind == "unit" and dtype == torch.uint8 else 1
            values = (values * scale).round()
        x = self.laid_out(values.to(dtype).to(torch.get_default_device())).expand(shape).detach()
        return x.requires_grad_(dtype.is_floating_point and self.is_so(0.6))

    def _with_extremes(self, values: Tensor, extremes: Sequence[float]) -> Tensor:
        chosen = torch.tensor(extremes, dtype=torch.float64, device="cpu")
        which = torch.randint(len(extremes), values.shape, generator=self.generator, device="cpu")
        is_extreme = self.coins(values.shape, 0.1)
        return torch.where(is_extreme, chosen[which], values)

    def laid_out(self, x: Tensor) -> Tensor:
        """The same values somewhere else in memory."""
        return self.one_of(_LAYOUTS)(self, x)

    def coins(self, shape: Shape, share: float) -> Tensor:
        return torch.rand(shape, generator=self.generator, device="cpu") < share

    def number(self, kind: str) -> float:
        """An ordinary one of a kind, of few digits."""
        return round(float(_VALUES[kind]((), self.generator)), 3)

    def mask(self, whole: Shape) -> Tensor | None:
        if self.is_so(0.7):
            return None
        return self.laid_out(self.coins(self.fitting(whole), 0.7).to(torch.get_default_device()))

    def upstream(self, like: Tensor) -> Tensor:
        """A gradient that comes to an output."""
        kind = self.one_of(("one", "one", "scaled", "random", "expanded", "negated"))
        shape = like.shape
        if kind in ("one", "scaled"):
            factor = 1.0 if kind == "one" else 65536.0 if like.dtype != torch.float16 else 4096.0
            values = torch.full(shape, factor, dtype=torch.float64, device="cpu")
        elif kind == "expanded":
            values = _normal((), self.generator)
        else:
            values = _normal(shape, self.generator)
        values = values.to(like.dtype).to(torch.get_default_device()).expand(shape)
        return torch._neg_view(-values) if kind == "negated" else values


def _permuted(source: Source, x: Tensor) -> Tensor:
    order = list(range(x.dim()))
    source.random.shuffle(order)
    back = [order.index(d) for d in range(x.dim())]
    return x.permute(order).contiguous().permute(back)


def _stepped(source: Source, x: Tensor) -> Tensor:
    if x.dim() == 0:
        return x
    wide = x.new_zeros((*x.shape[:-1], 2 * x.shape[-1] + 1))
    view = wide[..., 1::2]
    view.copy_(x)
    return view


def _unaligned(source: Source, x: Tensor) -> Tensor:
    flat = x.new_zeros(x.numel() + 1)
    flat[1:] = x.reshape(-1)
    return flat[1:].view(x.shape)


def _channels_last(source: Source, x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _negated(source: Source, x: Tensor) -> Tensor:
    """Of the opposite sign in memory, as torch has it of the imaginary part of a conjugate."""
    return torch._neg_view(-x) if x.is_floating_point() else x


_LAYOUTS = (
    lambda source, x: x,
    lambda source, x: x,
    _permuted,
    _stepped,
    _unaligned,
    _channels_last,
    _negated,
)
