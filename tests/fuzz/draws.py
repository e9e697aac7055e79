"""Operands at random: shapes, what broadcasts to them, strides, dtypes, values."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float32, torch.float64, *HALVES)
SIZES = (1, 1, 2, 3, 3, 5, 7, 8, 16, 33)
LARGE = ((130, 784), (2, 1025), (3, 5000), (70, 3, 31, 17), (1, 40_000), (20_000, 3))
Shape = tuple[int, ...]


class Draws:
    """One call's chances; everything follows from the seed."""

    def __init__(self, seed: int, index: int) -> None:
        self.rng = random.Random(f"{seed} {index}")
        torch.manual_seed(self.rng.getrandbits(62))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def shape(self, least: int = 0) -> Shape:
        """Mostly small; at times beyond a tile or without elements."""
        if self.chance(0.02):
            return self.rng.choice(LARGE)
        sizes = [self.rng.choice(SIZES) for _ in range(self.rng.randint(max(least, 0), 4))]
        if sizes and self.chance(0.04):
            sizes[self.rng.randrange(len(sizes))] = 0
        return tuple(sizes)

    def broadcasting(self, shape: Shape) -> Shape:
        """A shape that broadcasts to this one, mostly itself."""
        if self.chance(0.6):
            return shape
        sizes = [1 if self.chance(0.4) else size for size in shape]
        return tuple(sizes[self.rng.randint(0, len(sizes)) :])

    def dtypes(self, count: int) -> list[torch.dtype]:
        """Mostly one for all operands."""
        dtype = self.rng.choice(DTYPES)
        if self.chance(0.85):
            return [dtype] * count
        return [self.rng.choice(DTYPES) for _ in range(count)]

    def values(self, shape: Shape, is_probability: bool, scale: float) -> Tensor:
        """In float64."""
        if is_probability:
            return 0.01 + 0.98 * torch.rand(shape, dtype=torch.float64)
        return scale * torch.randn(shape, dtype=torch.float64)

    def scale(self) -> float:
        return self.rng.choice((1.0, 1.0, 1.0, 0.01, 6.0))

    def strided(self, x: Tensor) -> Tensor:
        """The same numbers, otherwise in memory."""
        kind = self.rng.choice(("as it is", "permuted", "stepped", "offset", "negated", "last"))
        if kind == "permuted" and x.dim() > 1:
            order = list(range(x.dim()))
            self.rng.shuffle(order)
            back = sorted(range(x.dim()), key=order.__getitem__)
            return x.permute(order).contiguous().permute(back)
        if kind == "stepped" and x.dim() > 0:
            room = x.new_empty((*x.shape[:-1], 2 * x.shape[-1]))
            room[..., ::2] = x
            return room[..., ::2]
        if kind == "offset":
            room = x.new_empty(x.numel() + 3)
            place = self.rng.randint(1, 3)
            room[place : place + x.numel()] = x.reshape(-1)
            return room[place : place + x.numel()].view(x.shape)
        if kind == "negated" and x.is_floating_point():
            return torch._neg_view(-x)  # lazily: the bit that autograd's conjugates leave, too
        if kind == "last" and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def subset(self, count: int) -> list[bool]:
        """Which operands require a gradient: often all."""
        if self.chance(0.5):
            return [True] * count
        return [self.chance(0.5) for _ in range(count)]

    def upstream(self, value: Tensor) -> Tensor:
        """What a backward comes with."""
        kind = self.rng.choice(("one", "number", "scaled", "random", "random", "negated"))
        if kind == "one":
            return torch.ones_like(value)
        if kind in ("number", "scaled"):
            factor = 65536.0 if kind == "scaled" and value.dtype not in HALVES else 0.37
            return torch.full((), factor, dtype=value.dtype).expand(value.shape)
        x = torch.randn(value.shape, dtype=torch.float64).to(value.dtype)
        return torch._neg_view(-x) if kind == "negated" else x

    def mask(self, shape: Shape) -> Tensor:
        return self.strided(torch.rand(self.broadcasting(shape)) < 0.7)


def enlarged(shape: Sequence[int]) -> list[Shape]:
    """Shapes near this one that neither have it nor broadcast to it."""
    sizes = tuple(shape)
    candidates = [(3, *sizes), (*sizes, 2), (*sizes, 4)]
    for d, size in itertools.product(range(len(sizes)), (2, 4)):
        candidates.append((*sizes[:d], sizes[d] + size, *sizes[d + 1 :]))
    return candidates
