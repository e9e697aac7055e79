"""The path of a call: from a public function's arguments to the op's C++ entry, and its kernel.

It is a straight line. The op is called by way of ``torch.ops`` under torch.compile, which sees
through that, and where a tensor's class or a mode overrides torch's functions: the entry gives None
then, and ``torch.ops`` asks them. On devices without kernels, :mod:`vae_fast.engine.reference`
computes in plain PyTorch.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from vae_fast.engine import checks, extension
from vae_fast.engine.counts import counts_loss
from vae_fast.engine.dtypes import arithmetic_dtype, result_dtype
from vae_fast.engine.reductions import keep_and_mean
from vae_fast.engine.reference import compute
from vae_fast.engine.table import LOSSES

_ops = torch.ops.vae_fast
_is_compiling = torch.compiler.is_compiling


def loss(
    function: str,
    op: str,
    operands: tuple[Tensor, ...],
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> Tensor:
    """The op of an elementwise loss, on behalf of the public function ``function``."""
    try:
        keep, mean = (
            (0, batch_dims)  # the default, without a call
            if reduction == "batchmean"
            else keep_and_mean(reduction, batch_dims, operands[0])
        )
        kernels, first = extension.kernels, operands[0]
        if operands[-1].layout is torch.sparse_csr and LOSSES[op].counts:
            *parameters, target = operands
            return counts_loss(function, op, parameters, target, None, mask, batch_dims, reduction)
        # Asked in this order, because a device's name takes long to ask for.
        if (kernels is None or not first.is_cpu) and extension.use_reference(first.device.type):
            explain(function, op, operands, mask, batch_dims, reduction)
            return compute(op, operands, mask, keep, mean)
        value: Tensor | None = None
        if not _is_compiling():
            value = getattr(kernels, op)(*operands, mask, keep, mean, batch_dims)
        if value is None:
            explain(function, op, operands, mask, batch_dims, reduction)
            value = getattr(_ops, op)(*operands, mask, keep, mean)[0]
        return cast(Tensor, value)
    except Exception:
        explain(function, op, operands, mask, batch_dims, reduction)
        raise


def rowwise_loss(
    function: str, op: str, operands: tuple[Tensor, ...], batch_dims: int, reduction: str
) -> Tensor:
    """As :func:`loss`, of one whose rows hang together; no kernel gives its single elements."""
    try:
        first = operands[0]
        keep, mean = keep_and_mean(reduction, batch_dims, first)
        kernels = extension.kernels
        is_plain = (kernels is None or not first.is_cpu) and extension.use_reference(
            first.device.type
        )
        if is_plain or reduction == "none":
            explain(function, op, operands, None, batch_dims, reduction)
            return compute(op, [x.expand_as(first) for x in operands], None, keep, mean)
        value: Tensor | None = None
        if not _is_compiling():
            value = getattr(kernels, op)(*operands, keep, mean, batch_dims)
        if value is None:
            explain(function, op, operands, None, batch_dims, reduction)
            expanded = (x.expand_as(first) for x in operands)
            value = getattr(_ops, op)(*expanded, keep, mean)[0]
        return cast(Tensor, value)
    except Exception:
        explain(function, op, operands, None, batch_dims, reduction)
        raise


def explain(
    function: str,
    op: str,
    operands: tuple[Tensor, ...],
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is.

    The kernels' own entries look at the same by themselves, and fast.
    """
    row = LOSSES[op]
    checks.check_operands(function, row.operands, operands, mask, row.integers, row.counts)
    checks.check_public_reduction(function, reduction, batch_dims, operands[:1])
    if row.rowwise:
        checks.check_has_classes(function, batch_dims, operands[:1])
    checks.check_shapes(function, row.operands, operands, mask, batch_dims)


def as_tensor(value: Tensor | float, *others: Any) -> Tensor:
    """A parameter that may be a number: by value, in the dtype of the arithmetic."""
    if isinstance(value, Tensor) or not checks.is_number(value):
        return cast(Tensor, value)  # the checks say what it is, if it is neither
    tensors = [x for x in others if isinstance(x, Tensor)]
    if not tensors:
        return cast(Tensor, value)
    dtype = arithmetic_dtype(tensors)
    # A fill: a copy of host memory would wait for the GPU, and could not be captured in a graph.
    return torch.full((), float(value), dtype=dtype, device=tensors[0].device)


def library_of(library: Tensor | float, *others: Any) -> Tensor:
    """Totals that may be a number, as a tensor; sums of whole numbers as floats."""
    total = as_tensor(library, *others)
    if not isinstance(total, Tensor) or total.is_floating_point():
        return total  # the checks say what it is, if it is no tensor
    return total.to(arithmetic_dtype([x for x in others if isinstance(x, Tensor)]))


def logvar_of(
    function: str,
    logvar: Tensor | float | None,
    scale: Tensor | float | None,
    name: str,
    first: Tensor,
    *others: Any,
) -> Tensor:
    """2 log scale, in the dtype of the arithmetic, for the logvar that was not given.

    ``name`` is that of the ``first`` operand, whose shape is the loss's.
    """
    checks.check_one_spelling(function, logvar, scale)
    root = as_tensor(cast(Tensor, scale), first)
    names, operands = (name, "scale"), (first, root)
    checks.check_operands(function, names, operands)
    checks.check_shapes(function, names, operands, None, 0)
    tensors = [x for x in (*operands, *others) if isinstance(x, Tensor)]
    return 2 * torch.log(root.to(arithmetic_dtype(tensors)))


def in_result_dtype(value: Tensor, *operands: Any) -> Tensor:
    """In the dtype of elementwise results, as where scale, and not its logarithm, is an operand."""
    return value.to(result_dtype([x for x in operands if isinstance(x, Tensor)]))
