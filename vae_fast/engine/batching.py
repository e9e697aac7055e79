"""Batch rules, for torch.func.vmap: the batch becomes one more leading dimension.

Written once for all losses, as :mod:`vae_fast.engine.fakes`, which the ops need, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_ops = torch.ops.vae_fast


def _front(x: Tensor, dim: int | None, dims: int) -> Tensor:
    """The batch in front of ``dims`` logical dimensions; without one, x as it is: it broadcasts."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x[(slice(None), *[None] * (dims - x.dim() + 1))]


def front_expanded(x: Tensor, dim: int | None, dims: int, size: int) -> Tensor:
    """The same, and of the batch's size where there was none."""
    if dim is None:
        x, dim = x.expand(size, *x.shape), 0
    return _front(x, dim, dims)


def _logical_dims(tensors: Sequence[Tensor | None], dims: Sequence[int | None]) -> int:
    """How many dimensions the tensors broadcast to, not counting the batch."""
    return max(
        x.dim() - (dim is not None) for x, dim in zip(tensors, dims, strict=True) if x is not None
    )


def _batch_loss(name: str, count: int) -> Callable[..., Any]:
    op = getattr(_ops, name)

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        tensors, (keep, mean), want = (
            args[: count + 1],
            args[count + 1 : count + 3],
            args[count + 3 :],
        )
        tensor_dims = in_dims[: count + 1]
        logical = _logical_dims(tensors, tensor_dims)
        fronted = (
            None if x is None else _front(x, dim, logical)
            for x, dim in zip(tensors, tensor_dims, strict=True)
        )
        gradient_dims = (0 if sum(want) >> k & 1 else None for k in range(count))
        return op(*fronted, keep + 1, mean, *want), (0, *gradient_dims)

    return rule


def _batch_loss_backward(name: str) -> Callable[..., Any]:
    op = getattr(_ops, f"{name}_backward")

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        upstream, *tensors, keep, mean, want = args
        tensor_dims = in_dims[1 : 1 + len(tensors)]
        fronted = batch_operands(info, tensors, tensor_dims)
        upstream = front_expanded(upstream, in_dims[0], keep, info.batch_size)
        gradients = op(upstream, *fronted, keep + 1, mean, want)
        return batched_gradients(gradients, tensors[:-1], tensor_dims[:-1], want)

    return rule


def batch_operands(
    info: Any, tensors: Sequence[Tensor | None], dims: Sequence[int | None]
) -> list[Tensor | None]:
    """With the batch in front: all of them expanded, so that results have it too."""
    logical = _logical_dims(tensors, dims)
    return [
        None if x is None else front_expanded(x, dim, logical, info.batch_size)
        for x, dim in zip(tensors, dims, strict=True)
    ]


def batched_gradients(
    gradients: Sequence[Tensor],
    operands: Sequence[Tensor | None],
    dims: Sequence[int | None],
    want: int,
) -> Any:
    """A backward's results and their batch dimensions; those not wanted are empty, without one."""
    wanted = [want >> k & 1 and x is not None for k, x in enumerate(operands)]
    results = (
        _without_padding(gradient, x, dim) if is_wanted and x is not None else gradient
        for gradient, x, dim, is_wanted in zip(gradients, operands, dims, wanted, strict=True)
    )
    return tuple(results), tuple(0 if is_wanted else None for is_wanted in wanted)


def _without_padding(gradient: Tensor, operand: Tensor, dim: int | None) -> Tensor:
    """Of the operand's own dimensions, without those that only the broadcasting has."""
    sizes = operand.shape if dim is None else operand.movedim(dim, 0).shape[1:]
    return gradient.reshape(gradient.shape[0], *sizes)


def _batch_rows(name: str, count: int) -> Callable[..., Any]:
    op = getattr(_ops, name)

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        operands, (keep, mean), want = args[:count], args[count : count + 2], args[count + 2 :]
        fronted = batch_operands(info, operands, in_dims[:count])
        return op(*fronted, keep + 1, mean, *want), (0, 0 if sum(want) & 1 else None)

    return rule


def _batch_rows_backward(name: str) -> Callable[..., Any]:
    op = getattr(_ops, f"{name}_backward")

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        upstream, *operands, keep, mean = args
        fronted = batch_operands(info, operands, in_dims[1 : 1 + len(operands)])
        upstream = front_expanded(upstream, in_dims[0], keep, info.batch_size)
        return op(upstream, *fronted, keep + 1, mean), 0

    return rule


def register_loss(op: str, count: int, rowwise: bool) -> None:
    """Tells torch the batch rules of the op of a loss of ``count`` operands, and its backward's."""
    forward, backward = (
        (_batch_rows, _batch_rows_backward) if rowwise else (_batch_loss, _batch_loss_backward)
    )
    torch.library.register_vmap(f"vae_fast::{op}", forward(op, count))
    torch.library.register_vmap(f"vae_fast::{op}_backward", backward(op))
