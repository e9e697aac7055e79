"""Likelihoods of counts by rows: targets in CSR, and means that are shares of a datum's total.

A kernel computes them in one pass over the row; see :mod:`vae_fast.engine.composed` for where the
composition serves: softmax, library size, then the loss's own op, of a dense target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine import checks, extension
from vae_fast.engine.checks import shown
from vae_fast.engine.composed import enter_composition
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.reductions import keep_and_mean
from vae_fast.engine.reference import compute
from vae_fast.engine.shapes import fits_into
from vae_fast.engine.table import LOSSES

# What a mean and a total are at least: of a share that is nothing in float32, a count would cost
# infinity, and its gradient would be NaN. 1e8 counts over it are still finite.
LEAST_MEAN = 1e-30

_NAME = "counts_nll"
_ops = torch.ops.vae_fast


def counts_loss(
    function: str,
    op: str,
    parameters: Sequence[Tensor],
    target: Tensor,
    library: Tensor | None,
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
    *,
    is_log: bool = False,
) -> Tensor:
    """The op of an elementwise loss, by rows.

    Args:
        function: The public function, for errors.
        op: The loss's.
        parameters: Its operands but the target; with a library, the first are logits.
        target: Dense, or (B, D) in ``torch.sparse_csr``.
        library: Totals, (*batch, 1, ...) or what broadcasts to that; the loss's first parameter is
            softmax(logits) times them, over all of the event. None: it is given itself.
        mask: Which elements count.
        batch_dims: How many leading dimensions are batch.
        reduction: As the public functions have it.
        is_log: The loss's first parameter is that mean's logarithm.
    """
    try:
        first = parameters[0]
        keep, mean = keep_and_mean(reduction, batch_dims, first)
        in_parts = (
            torch.compiler.is_compiling()
            or reduction == "none"
            or extension.use_reference(first.device.type)
        )
        value: Tensor | None = None
        if not in_parts:
            value = extension.kernels.counts_nll(
                op, parameters, library, *_stored(target), mask, batch_dims, keep, mean, is_log
            )
        if value is None:
            _explain(function, op, parameters, target, library, mask, batch_dims, reduction)
            value = _in_parts(op, parameters, target, library, mask, batch_dims, keep, mean, is_log)
        return value
    except Exception:
        _explain(function, op, parameters, target, library, mask, batch_dims, reduction)
        raise


def means(logits: Tensor, library: Tensor, event_dims: int) -> Tensor:
    """Each element's share of the total, by the softmax over the last ``event_dims`` dimensions."""
    shares = torch.softmax(logits.flatten(-event_dims), -1).view_as(logits)
    return (library.clamp(min=LEAST_MEAN) * shares).clamp(min=LEAST_MEAN)


def log_means(logits: Tensor, library: Tensor, event_dims: int) -> Tensor:
    """Their logarithms, which need no bound."""
    log_shares = torch.log_softmax(logits.flatten(-event_dims), -1).view_as(logits)
    return torch.log(library.clamp(min=LEAST_MEAN)) + log_shares


def is_csr(x: Tensor) -> bool:
    """Whether the tensor is in ``torch.sparse_csr``."""
    return x.layout is torch.sparse_csr


def row_sums(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1): the sums of the rows of a table in CSR."""
    counts = x.crow_indices().diff()
    rows = torch.repeat_interleave(torch.arange(x.shape[0], device=x.device), counts)
    sums = torch.zeros(x.shape[0], dtype=dtype, device=x.device)
    return sums.index_add_(0, rows, x.values().to(dtype)).unsqueeze(1)


def _stored(target: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What a target is made of: its values, and in CSR where they are."""
    if is_csr(target):
        return target.values(), target.crow_indices(), target.col_indices()
    return target, None, None


def _in_parts(
    op: str,
    parameters: Sequence[Tensor],
    target: Tensor,
    library: Tensor | None,
    mask: Tensor | None,
    batch_dims: int,
    keep: int,
    mean: int,
    is_log: bool,
) -> Tensor:
    """The composition."""
    first, *others = parameters
    if library is not None:
        dtype = arithmetic_dtype([*parameters, target, library])
        function = log_means if is_log else means
        first = function(first.to(dtype), library.to(dtype), first.dim() - batch_dims)
    operands = (first, *others, target.to_dense() if is_csr(target) else target)
    if extension.use_reference(first.device.type):
        return compute(op, operands, mask, keep, mean)
    value: Tensor = getattr(_ops, op)(*operands, mask, keep, mean)[0]
    return value


def _of_node(tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor:
    """The composition of the tensors and numbers of a node (csrc/bindings/counts.cpp)."""
    *parameters, library, values, starts, columns, mask = tensors
    loss, batch_dims, keep, mean, is_log = numbers
    given = [x for x in parameters if x is not None]
    assert values is not None
    target = values
    if starts is not None and columns is not None:
        size = (len(starts) - 1, given[0].shape[-1])
        target = torch.sparse_csr_tensor(starts, columns, target, size)
    assert extension.C is not None
    op = list(extension.C.LOSSES)[loss]
    return _in_parts(op, given, target, library, mask, batch_dims, keep, mean, bool(is_log))


enter_composition(_NAME, _of_node)


def _explain(
    function: str,
    op: str,
    parameters: Sequence[Any],
    target: Any,
    library: Any,
    mask: Any,
    batch_dims: int,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is."""
    row = LOSSES[op]
    names = row.operands if library is None else ("logits", *row.operands[1:])
    operands = (*parameters, target)
    checks.check_operands(function, names, operands, mask, row.integers, sparse=True)
    checks.check_public_reduction(function, reduction, batch_dims, operands[:1])
    checks.check_shapes(function, names, operands, mask, batch_dims)
    whole = parameters[0].shape
    if is_csr(target) and (batch_dims < 1 or len(whole) != batch_dims + 1):
        raise ValueError(
            f"{function}: target is in CSR, of shape {shown(target.shape)}, expected all "
            f"dimensions but the last to be batch: {names[0]} has shape {shown(whole)}, "
            f"batch_dims is {batch_dims}"
        )
    if library is None:
        return
    if batch_dims >= len(whole):
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected less than {len(whole)}, the number "
            f"of dimensions of logits: the softmax goes over the others"
        )
    checks.check_tensor(function, "library", library)
    checks.check_kind(function, "library", library, checks.FLOATS, "logits", parameters[0])
    totals = (*whole[:batch_dims], *(1 for _ in whole[batch_dims:]))
    if not fits_into(library.shape, totals):
        raise ValueError(
            f"{function}: library has shape {shown(library.shape)}, expected {shown(totals)}, a "
            f"total for each datum, or what broadcasts to that"
        )
