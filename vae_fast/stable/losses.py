"""Autograd and autocast of the losses' ops, written once for all of them.

The kernel of Autograd asks the op below for the gradients that the backward will need, made in the
same pass for an upstream gradient of one; the backward multiplies them by the one that comes. Where
that would round too early the backward's own op makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine.shapes import broadcast_shape, same_size
from vae_fast.stable.nodes import (
    AUTOCAST,
    Node,
    WithoutAutocast,
    asked_of,
    autocast_key,
    call_below,
    keep_for_backward,
    kept,
    library,
    loss_tangent,
    masked_formula,
    may_have_tangents,
    register_below_autograd,
    requiring_gradient,
    spread,
    wanted_of,
)

_ops = torch.ops.vae_fast


@dataclass(frozen=True)
class Loss:
    """A loss as its schema has it.

    Attributes:
        op: Its name.
        operands: Their names.
        rowwise: The elements of a row hang together: there is no mask, all operands have one shape,
            and the kernels give the gradient in the first one alone.
    """

    op: str
    operands: tuple[str, ...]
    rowwise: bool

    @property
    def overload(self) -> Any:
        """The op, as torch calls it fastest."""
        return getattr(_ops, self.op).default

    def gradients(
        self,
        upstream: Tensor,
        operands: Sequence[Tensor],
        mask: Tensor | None,
        keep: int,
        mean: int,
        want: int,
    ) -> Sequence[Tensor]:
        """By the backward's op: times the upstream one before they are rounded."""
        op = f"{self.op}_backward"
        overload = getattr(_ops, op).default
        if self.rowwise:
            return (call_below(op, overload, (upstream, *operands, keep, mean)),)
        results: Sequence[Tensor] = call_below(
            op, overload, (upstream, *operands, mask, keep, mean, want)
        )
        return results


def of_schemas(schemas: Sequence[str]) -> list[Loss]:
    """The losses among ops: what has a backward, and a value first."""
    parsed = [torch._C.parse_schema(schema) for schema in schemas]
    names = {schema.name for schema in parsed}
    found = []
    for schema in parsed:
        arguments = [argument.name for argument in schema.arguments]
        if f"{schema.name}_backward" in names and schema.returns[0].name == "value":
            rowwise = "mask" not in arguments
            operands = arguments[: arguments.index("keep" if rowwise else "mask")]
            found.append(Loss(schema.name, tuple(operands), rowwise))
    return found


class _LossNode(Node):
    """The gradients were made with the value; where they were not, the backward makes them."""

    @staticmethod
    def forward(ctx: Any, call: Any, *operands: Tensor) -> Tensor:
        loss, value, mask, keep, mean, made, gradients = call
        ctx.call = loss, keep, mean, made, mask is not None
        ctx.set_materialize_grads(False)
        inputs = operands if mask is None else (*operands, mask)
        keep_for_backward(ctx, inputs, gradients)
        if may_have_tangents():
            ctx.save_for_forward(*inputs)
        result: Tensor = value
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> Any:
        loss, keep, mean, made, has_mask = ctx.call
        count = len(loss.operands)
        if upstream is None:
            return (None,) * (1 + count)
        is_differentiable = torch.is_grad_enabled()
        if loss.rowwise and ctx.needs_input_grad[2]:  # which no kernel makes
            is_differentiable |= asked_of(ctx, ctx.saved_tensors[:2])[1]
        if made and not is_differentiable:
            result = kept(ctx, made, count + has_mask, upstream)
            return None, *result, *(None,) * (count - len(result))
        saved = ctx.saved_tensors
        operands, mask = saved[:count], saved[count] if has_mask else None
        asked = asked_of(ctx, operands)
        if is_differentiable:
            return None, *_differentiable(loss, upstream, operands, mask, keep, mean, asked)
        found = loss.gradients(upstream, operands, mask, keep, mean, wanted_of(asked))
        own = [g if is_asked else None for g, is_asked in zip(found, asked, strict=False)]
        return None, *own, *(None,) * (count - len(own))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        loss, keep, mean, _made, has_mask = ctx.call
        count = len(loss.operands)
        operands = ctx.saved_tensors[:count]
        mask = ctx.saved_tensors[count] if has_mask else None
        return loss_tangent(loss.op, operands, tangents, mask, keep, mean)


def _differentiable(
    loss: Loss,
    upstream: Tensor,
    operands: Sequence[Tensor],
    mask: Tensor | None,
    keep: int,
    mean: int,
    asked: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients by the formulas; the engine sums and rounds them to their operands'."""
    shape = broadcast_shape(operands if mask is None else (*operands, mask))
    each = spread(upstream, shape, keep, mean)
    result: list[Tensor | None] = []
    for gradient, is_asked in zip(masked_formula(loss.op, operands, mask), asked, strict=True):
        product = each * gradient if is_asked else None
        if product is not None and mask is not None:
            product = torch.where(mask, product, 0)
        result.append(product)
    return result


def _broadcasts(operand: Tensor, shape: Sequence[int], dims: int) -> bool:
    """Whether its gradient is summed over one of the first ``dims`` dimensions of the shape."""
    missing = len(shape) - operand.dim()
    return any(
        not same_size(operand.shape[d - missing] if d >= missing else 1, shape[d])
        for d in range(dims)
    )


def _made_in_forward(loss: Loss, operands: Sequence[Tensor], keep: int, needed: int) -> int:
    """Bits of the gradients that the forward makes, out of those that are needed.

    None where one would be rounded to less than the arithmetic's dtype before it is summed, or, as
    a float16 of an upstream gradient of one, before it is scaled.
    """
    if loss.rowwise:
        return 0 if operands[0].dtype is torch.float16 else needed & 1
    dtypes = {operand.dtype for operand in operands}
    if len(dtypes) == 1 and torch.float32 in dtypes:
        return needed
    if torch.float16 in dtypes:
        return 0
    arithmetic = torch.float64 if torch.float64 in dtypes else torch.float32
    rounded = [
        operand
        for k, operand in enumerate(operands)
        if needed >> k & 1 and operand.dtype is not arithmetic
    ]
    if rounded and keep:
        shape = broadcast_shape(operands)
        if any(_broadcasts(operand, shape, keep) for operand in rounded):
            return 0
    return needed


def _autograd(loss: Loss) -> Callable[..., Any]:
    op, overload, count = loss.op, loss.overload, len(loss.operands)
    fixed = count + (2 if loss.rowwise else 3)
    node = _LossNode.named(op)

    def kernel(*args: Any) -> Any:
        operands, given = args[:count], args[:fixed]
        keep, mean = given[-2:]
        mask = None if loss.rowwise else given[-3]
        want = args[fixed] if len(args) > fixed else 0  # torch leaves out what is a default
        needed = requiring_gradient(operands)
        made = _made_in_forward(loss, operands, keep, needed) if needed else 0
        results = call_below(op, overload, (*given, want | made))
        if not needed and not may_have_tangents():
            return results
        value, *gradients = results
        own = [gradient for k, gradient in enumerate(gradients) if made >> k & 1]
        value = node.connect((loss, value, mask, keep, mean, made, own), operands)
        return value, *gradients

    return kernel


def _autocast(loss: Loss) -> Callable[..., Any]:
    """The kernels read any dtype and compute in float32: only an elementwise value is cast."""
    overload = loss.overload

    def kernel(*args: Any) -> Any:
        with WithoutAutocast(AUTOCAST):
            value, *gradients = overload(*args)
        return value if value.dtype is torch.float64 else value.to(torch.float32), *gradients

    return kernel


def register(loss: Loss) -> Callable[..., Any]:
    """Completes the loss's op, and its backward's; returns its kernel of Autograd."""
    kernel = _autograd(loss)
    library.impl(loss.op, kernel, "Autograd")
    register_below_autograd(f"{loss.op}_backward")
    return kernel


def implement_autocast(loss: Loss, device: str) -> None:
    """Under a device's autocast a value is float32."""
    if not loss.rowwise:  # whose value is a sum, in float32 always
        library.impl(loss.op, _autocast(loss), autocast_key(device))
