"""A fused function that is also a composition of smaller ones (:mod:`vae_fast.engine.composed`).

The kernel serves plain tensors in eager mode, as one node of the graph; the composition serves all
else, which then needs no rules of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import has_torch_function
from torch.utils._device import DeviceContext

from vae_fast.stable.nodes import (
    AUTOCAST,
    BelowAutograd,
    Node,
    WithoutAutocast,
    as_refused,
    asked_of,
    has_kernels,
    is_subclass,
    is_transformed,
    keep_for_backward,
    kept,
    may_have_tangents,
    requiring_gradient,
    wanted_of,
)

Tensors = Sequence[Tensor | None]

# Typed here, as torch has it without types.
_unpack_dual: Callable[[Tensor], Any] = forward_ad.unpack_dual

_compose: Callable[[str, Tensors, Sequence[int]], Tensor] | None = None


def set_composition(compose: Callable[[str, Tensors, Sequence[int]], Tensor]) -> None:
    """Takes the fused functions' compositions, by name."""
    global _compose
    _compose = compose


@dataclass(frozen=True)
class Composed:
    """A fused function, of tensors of which some may be None.

    Attributes:
        name: Of its composition.
        numbers: Of the composition, too.
        operands: How many of the tensors, the leading ones, may require a gradient.
        evaluate: The value and the gradients in the operands that ``want`` has a bit for, anything
            where it has none; for an upstream gradient of one, or times the one that is given, and
            then there need be no value. Not rounded to the operands' dtypes: the engine does that.
    """

    name: str
    numbers: tuple[int, ...]
    operands: int
    evaluate: Callable[[Tensors, Tensor | None, int], tuple[Tensor, Sequence[Tensor | None]]]

    def compose(self, tensors: Tensors) -> Tensor:
        """The value in torch's own ops and this package's, through their nodes."""
        assert _compose is not None
        return _compose(self.name, tensors, self.numbers)


def is_overridden(tensors: Tensors) -> bool:
    """Whether torch would ask a tensor's class, or a mode of functions.

    That of a default device only makes tensors, and is on for whole programs: nobody waits for it.
    """
    if not has_torch_function(tensors):
        return False
    count = torch._C._len_torch_function_stack()
    modes = map(torch._C._get_function_stack_at, range(count))
    return any(type(mode) is not DeviceContext for mode in modes) or any(map(_asks, tensors))


def _asks(x: Tensor | None) -> bool:
    """Whether torch would ask the class of what is a tensor."""
    disabled = torch._C._disabled_torch_function_impl
    return type(x) is not Tensor and x is not None and type(x).__torch_function__ is not disabled


def is_plain(function: Composed, tensors: Tensors) -> bool:
    """Whether a kernel can take the tensors, and nobody wants to see functions or ops go by."""
    if is_overridden(tensors):
        return False
    first = tensors[0]
    assert first is not None
    if (
        torch._C._len_torch_dispatch_stack()
        or is_transformed()
        or torch._C._is_tracing()
        or not has_kernels(first)
    ):
        return False
    has_tangents, makes_graph = may_have_tangents(), torch.is_grad_enabled()
    for k, x in enumerate(tensors):
        if x is None:
            continue
        if x.layout is not torch.strided or is_subclass(x):
            return False
        if has_tangents and _unpack_dual(x).tangent is not None:
            return False
        if makes_graph and k >= function.operands and x.requires_grad:
            return False
    return True


class _ComposedNode(Node):
    """The gradients were made with the value; where they were not, the backward makes them."""

    @staticmethod
    def forward(ctx: Any, call: Any, *operands: Tensor | None) -> Tensor:
        function, value, others, made, gradients = call
        ctx.call = function, made, len(operands) + len(others)
        ctx.set_materialize_grads(False)
        keep_for_backward(ctx, (*operands, *others), gradients)
        result: Tensor = value
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None) -> Any:
        function, made, inputs = ctx.call
        if upstream is None:
            return (None,) * (1 + function.operands)
        makes_graph = torch.is_grad_enabled()
        if made and not makes_graph:
            result = kept(ctx, made, inputs, upstream)
            return None, *result, *(None,) * (function.operands - len(result))
        tensors = ctx.saved_tensors[:inputs]
        asked = asked_of(ctx, tensors[: function.operands])
        if makes_graph or is_subclass(upstream):
            return None, *_through_graph(function, tensors, upstream, asked)
        _, found = _evaluate(function, tensors, upstream, wanted_of(asked))
        return None, *(found[k] if is_asked else None for k, is_asked in enumerate(asked))


def _evaluate(
    function: Composed, tensors: Tensors, upstream: Tensor | None, want: int
) -> tuple[Tensor, Sequence[Tensor | None]]:
    try:
        with BelowAutograd(), WithoutAutocast(AUTOCAST):
            return function.evaluate(tensors, upstream, want)
    except (RuntimeError, ValueError) as error:
        raise as_refused(error) from None


def _through_graph(
    function: Composed, tensors: Tensors, upstream: Tensor, asked: Sequence[bool]
) -> list[Tensor | None]:
    """By way of the composition: for derivatives of any order, and for subclasses."""
    creates_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # An operand may be there twice, or another one be made of it: an alias has only its part.
        own = [
            None if x is None else torch.ops.aten.alias.default(x)
            for x in tensors[: function.operands]
        ]
        value = function.compose([*own, *tensors[function.operands :]])
    inputs = [x for x, is_asked in zip(own, asked, strict=True) if is_asked and x is not None]
    found = iter(
        torch.autograd.grad(
            [value], inputs, [upstream], create_graph=creates_graph, allow_unused=True
        )
    )
    return [next(found) if is_asked else None for is_asked in asked]


def call_fused(function: Composed, tensors: Tensors, in_forward: bool) -> Tensor:
    """The value by the kernel, of tensors that are plain.

    ``in_forward``: the gradients are made with it, for an upstream gradient of one; else the
    backward makes them.
    """
    operands = tensors[: function.operands]
    needed = requiring_gradient(operands)
    made = needed if in_forward else 0
    value, gradients = _evaluate(function, tensors, None, made)
    if not needed:
        return value
    own = [cast(Tensor, gradient) for k, gradient in enumerate(gradients) if made >> k & 1]
    call = function, value, tensors[function.operands :], made, own
    result: Tensor = _ComposedNode.named(function.name).connect(call, operands)
    return result
