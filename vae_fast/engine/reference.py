"""The losses of the table in plain PyTorch: specification, oracle of the tests, fallback.

A loss is a row of :data:`vae_fast.engine.table.LOSSES`: its value and its gradients. Everything
else (masks, reductions, dtypes, autograd to any order) is written once, around the table.

The public functions run on it where no kernel serves, or everywhere with
``VAE_FAST_BACKEND=reference``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.dtypes import arithmetic_dtype, result_dtype, sum_dtype
from vae_fast.engine.extension import C
from vae_fast.engine.reductions import reduce
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.engine.table import LOSSES, Loss


class _Elementwise(torch.autograd.Function):
    """An elementwise loss as a differentiable function of operands of one shape and dtype."""

    generate_vmap_rule = True

    @staticmethod
    def forward(name: str, *operands: Tensor) -> Tensor:
        return LOSSES[name].value(*operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name, *operands = inputs
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = LOSSES[ctx.name].gradients(*ctx.saved_tensors)
        return None, *(upstream * gradient for gradient in gradients)


class _ElementwiseForward(_Elementwise):
    """With forward-mode AD too: apart, because Dynamo refuses functions that have it."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        gradients = LOSSES[ctx.name].gradients(*ctx.saved_tensors)
        terms = [g * t for g, t in zip(gradients, tangents, strict=True) if t is not None]
        return functools.reduce(torch.add, terms)


def _compute_operands(loss: Loss, operands: Sequence[Tensor]) -> list[Tensor]:
    """The operands in the dtype of the arithmetic; a uint8 target scaled."""
    dtype = arithmetic_dtype(operands)
    return [
        x.to(dtype) / loss.uint8_unit if x.dtype == torch.uint8 else x.to(dtype) for x in operands
    ]


# In the domain of every operand of every loss: what a masked-out element is computed on, so that
# no NaN in it reaches a derivative of any order.
_HARMLESS = 0.5


def evaluate(
    name: str, operands: Sequence[Tensor], mask: Tensor | None, keep: int, mean: int
) -> Tensor:
    """The loss ``name``, summed over the dimensions from ``keep`` on, in nats.

    Args:
        name: A key of the table.
        operands: Tensors that broadcast together; a target may be of integers, too.
        mask: Which elements count (bool, broadcasts with the operands); None: all of them, as for
            a loss of rows.
        keep: How many leading dimensions of the broadcast shape the result keeps.
        mean: The sum is divided by the sizes of this many dimensions from ``keep`` on.

    Returns:
        A tensor of the broadcast shape's first ``keep`` sizes. Where something is summed it is at
        least float32, else of the operands' promoted dtype.
    """
    loss = LOSSES[name]
    checks.check_operands(name, loss.operands, operands, mask, loss.integers)
    shape = broadcast_shape(operands if mask is None else (*operands, mask))
    checks.check_reduction(name, keep, mean, len(shape))
    return compute(name, operands, mask, keep, mean)


def compute(
    name: str, operands: Sequence[Tensor], mask: Tensor | None, keep: int, mean: int
) -> Tensor:
    """As :func:`evaluate`, of arguments that were checked."""
    loss = LOSSES[name]
    dtype = result_dtype(operands)
    everything = _compute_operands(loss, operands)
    value = loss.value(*everything) if loss.rowwise else _each_element(name, everything, mask)
    if keep == value.dim():
        return value.to(dtype)
    return reduce(value, keep, mean).to(sum_dtype(dtype))


def _each_element(name: str, operands: list[Tensor], mask: Tensor | None) -> Tensor:
    """An elementwise loss, 0 where it is masked out, in the operands' broadcast shape."""
    if mask is not None:
        operands = [torch.where(mask, operand, _HARMLESS) for operand in operands]
    shape = broadcast_shape(operands)
    function: Any = _Elementwise if torch.compiler.is_compiling() else _ElementwiseForward
    value: Tensor = function.apply(name, *(operand.expand(shape) for operand in operands))
    return value if mask is None else torch.where(mask, value, 0)


def gradient_formula(name: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of a loss as differentiable expressions, for the C++ nodes.

    They call it where the gradient itself must be differentiable: double backward, forward-mode
    AD and functorch.
    """
    loss = LOSSES[name]
    return list(loss.gradients(*_compute_operands(loss, operands)))


if C is not None:
    C.set_gradient_formula(gradient_formula)
