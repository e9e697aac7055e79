"""Fake kernels: what results look like, for the compiler, export and meta tensors.

Their shapes, dtypes and strides, written once for all losses. Schemas and kernels are C++
(csrc/bindings), and in the fast binding autograd and autocast are, too; it names this module as the
one that completes the ops of losses. Sizes may be symbolic here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.dtypes import promoted_dtype, sum_dtype
from vae_fast.engine.shapes import broadcast_shape

Dtypes: TypeAlias = tuple[torch.dtype, ...]

# The fake kernels by their op's name: they check an op's arguments, and say what is wrong.
FAKES: dict[str, Callable[..., Any]] = {}


def fake_value(operands: Sequence[Tensor], shape: Sequence[int], keep: int) -> Tensor:
    """A loss of this shape, reduced."""
    dtype = promoted_dtype(operands)
    if keep < len(shape):
        dtype = sum_dtype(dtype)
    return operands[0].new_empty(shape[:keep], dtype=dtype)


def fake_nothing(like: Tensor) -> Tensor:
    """What an op returns for a result that was not asked for."""
    return like.new_empty((0,), dtype=like.dtype if like.is_floating_point() else torch.float32)


def fake_gradient(operand: Tensor, shape: Sequence[int], keep: int) -> Tensor:
    """Of the kept sizes, then the operand's own; laid out like it where it has that shape."""
    missing = len(shape) - operand.dim()
    own = (1,) * missing + tuple(operand.shape)
    sizes = (*shape[:keep], *own[keep:])
    return laid_out_like(operand, sizes, operand.dtype)


def fake_gradients(operands: Sequence[Tensor], want: int) -> tuple[Tensor, ...]:
    """In the operands' own shapes, those that ``want`` has a bit for."""
    return tuple(
        fake_gradient(operand, operand.shape, 0) if want >> k & 1 else fake_nothing(operand)
        for k, operand in enumerate(operands)
    )


def laid_out_like(operand: Tensor, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Dense, in the operand's order of dimensions where it has these sizes."""
    if tuple(operand.shape) == tuple(sizes) and not operand.is_contiguous():
        return torch.empty_like(operand, dtype=dtype)
    return operand.new_empty(sizes, dtype=dtype)


def _fake_loss(
    name: str, names: tuple[str, ...], integers: Dtypes
) -> Callable[..., tuple[Tensor, ...]]:
    count = len(names)

    def fake(*args: Any) -> tuple[Tensor, ...]:
        operands, (mask, keep, mean), want = (
            args[:count],
            args[count : count + 3],
            args[count + 3 :],
        )
        checks.check_operands(name, names, operands, mask, integers)
        tensors = operands if mask is None else (*operands, mask)
        shape = broadcast_shape(tensors)
        checks.check_reduction(name, keep, mean, len(shape))
        gradients = (
            fake_gradient(operand, shape, keep) if sum(want) >> k & 1 else fake_nothing(operand)
            for k, operand in enumerate(operands)
        )
        return fake_value(operands, shape, keep), *gradients

    return fake


def _fake_loss_backward(
    name: str, names: tuple[str, ...], integers: Dtypes
) -> Callable[..., tuple[Tensor, ...]]:
    def fake(upstream: Tensor, *args: Any) -> tuple[Tensor, ...]:
        *operands, mask, keep, mean, want = args
        checks.check_operands(name, names, operands, mask, integers)
        shape = broadcast_shape(operands if mask is None else (*operands, mask))
        checks.check_reduction(name, keep, mean, len(shape))
        checks.check_gradient(name, "upstream", upstream, shape[:keep], operands[0].device)
        return fake_gradients(operands, want)

    return fake


def _check_rows(
    name: str,
    names: tuple[str, ...],
    integers: Dtypes,
    operands: Sequence[Tensor],
    keep: int,
    mean: int,
) -> None:
    checks.check_operands(name, names, operands, None, integers)
    checks.check_reduction(name, keep, mean, operands[0].dim())


def _fake_rows(
    name: str, names: tuple[str, ...], integers: Dtypes
) -> Callable[..., tuple[Tensor, Tensor]]:
    count = len(names)

    def fake(*args: Any) -> tuple[Tensor, Tensor]:
        operands, (keep, mean), want = args[:count], args[count : count + 2], args[count + 2 :]
        _check_rows(name, names, integers, operands, keep, mean)
        value = fake_value(operands, operands[0].shape, keep)
        return value, fake_gradients(operands[:1], sum(want))[0]

    return fake


def _fake_rows_backward(
    name: str, names: tuple[str, ...], integers: Dtypes
) -> Callable[..., Tensor]:
    def fake(upstream: Tensor, *args: Any) -> Tensor:
        *operands, keep, mean = args
        _check_rows(name, names, integers, operands, keep, mean)
        first = operands[0]
        checks.check_gradient(name, "upstream", upstream, first.shape[:keep], first.device)
        return fake_gradient(first, first.shape, 0)

    return fake


def register_loss(op: str, names: tuple[str, ...], integers: Dtypes, rowwise: bool) -> None:
    """Tells torch the fake kernels of a loss's op and of its backward's.

    ``integers`` are what its target may be besides a float.
    """
    forward, backward = (
        (_fake_rows, _fake_rows_backward) if rowwise else (_fake_loss, _fake_loss_backward)
    )
    FAKES[op] = forward(op, names, integers)
    FAKES[f"{op}_backward"] = backward(op, names, integers)
    torch.library.register_fake(f"vae_fast::{op}", FAKES[op])
    torch.library.register_fake(f"vae_fast::{op}_backward", FAKES[f"{op}_backward"])
