"""Shapes that broadcast, whose sizes may be the compiler's, known at run time alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

# Typed here, as torch has it without types.
broadcast_shapes: Callable[..., torch.Size] = torch.broadcast_shapes


def broadcast_shape(tensors: Sequence[Tensor]) -> torch.Size:
    """The shape that the tensors broadcast to."""
    return broadcast_shapes(*(tensor.shape for tensor in tensors))


def is_known(size: Any) -> bool:
    """Not one of the compiler's, which may be known at run time alone."""
    return type(size) is int and not torch.compiler.is_compiling()


def same_size(a: int, b: int) -> bool:
    """Sizes that only the run will tell are taken to agree: the kernels look again."""
    if is_known(a) and is_known(b):
        return a == b
    from torch.fx.experimental.symbolic_shapes import guard_or_true

    return guard_or_true(a == b)


def _is_one(a: int) -> bool:
    """A size that only the run will tell is taken to be none that broadcasts."""
    if is_known(a):
        return a == 1
    from torch.fx.experimental.symbolic_shapes import guard_or_false

    return guard_or_false(a == 1)


def joined_shape(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that two shapes broadcast to, or None where they do not."""
    aligned = list(zip_longest(reversed(a), reversed(b), fillvalue=1))
    if not all(_is_one(x) or _is_one(y) or same_size(x, y) for x, y in aligned):
        return None
    return tuple(y if _is_one(x) else x for x, y in reversed(aligned))


def same_shape(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes agree, as far as is known."""
    return len(a) == len(b) and all(map(same_size, a, b))


def fits_into(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a tensor broadcasts to the shape ``whole``, and no further."""
    if len(shape) > len(whole):
        return False
    own = whole[len(whole) - len(shape) :]
    return all(_is_one(x) or same_size(x, y) for x, y in zip(shape, own, strict=True))
