"""The entries of the fused functions, which give None where their composition is to be taken.

When a kernel takes the tensors, and which gradients it makes in the forward, is said here as the
fast binding has it (csrc/bindings: counts.cpp, mixture.cpp, sparse_linear.cpp).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine.shapes import fits_into
from vae_fast.stable.composed import Composed, Tensors, call_fused, is_plain

_ops = torch.ops.vae_fast
_INDICES = (torch.int32, torch.int64)


def _is_plain_csr(starts: Tensor, columns: Tensor, values: Tensor) -> bool:
    """Whether they are dense and fit together: the starts of the rows, a column for each value."""
    return (
        all(x.dim() == 1 and x.is_contiguous() for x in (starts, columns, values))
        and len(starts) > 0
        and len(columns) == len(values)
        and starts.dtype is columns.dtype
        and starts.dtype in _INDICES
    )


class Fused:
    """The entries of the fused functions.

    Args:
        losses: The names of the elementwise losses, in the order that compositions count them.
    """

    def __init__(self, losses: Iterable[str]) -> None:
        self._losses = list(losses)

    # ---- likelihoods of counts by rows -----------------------------------------------------------

    def counts_nll(
        self,
        op: str,
        parameters: Sequence[Tensor],
        library: Tensor | None,
        target: Tensor,
        starts: Tensor | None,
        columns: Tensor | None,
        mask: Tensor | None,
        batch_dims: int,
        keep: int,
        mean: int,
        is_log: bool,
    ) -> Tensor | None:
        """See :func:`vae_fast.engine.counts.counts_loss`."""
        tensors = [*parameters, library, target, starts, columns, mask]
        count, shape = len(parameters), parameters[0].shape

        def evaluate(own: Tensors, upstream: Tensor | None, want: int) -> Any:
            by_element = not parameters[0].is_cpu
            given = [_in_row(x, shape, batch_dims) for x in own] if by_element else own
            of_row = min(mean, batch_dims + 1) if by_element else mean
            value, gradients = _ops.counts_kernel.default(
                given[:count], *given[count:], upstream, op, batch_dims, keep, of_row, is_log, want
            )
            if by_element:
                gradients = [
                    _as_gradient_of(own[k], gradient, shape) if want >> k & 1 else None
                    for k, gradient in enumerate(gradients)
                ]
            return value, gradients

        numbers = (self._losses.index(op), batch_dims, keep, mean, int(is_log))
        function = Composed("counts_nll", numbers, count + 1, evaluate)
        if not is_plain(function, tensors):
            return None
        if not _takes_counts(parameters, library, target, starts, columns, mask, batch_dims):
            return None
        if not parameters[0].is_cpu:
            # Of what is not shares of a total, the composition is one kernel as well.
            if library is None:
                return None
            if starts is not None and columns is not None:
                table = _dense_of_csr(starts, columns, target, shape[-1])
                tensors[count + 1 : count + 4] = table, None, None
        has_halves = any(x.dtype is torch.float16 for x in parameters)
        return call_fused(function, tensors, in_forward=keep == 0 and not has_halves)

    # ---- mixtures --------------------------------------------------------------------------------

    def mixture_nll(
        self,
        op: str,
        logits: Tensor,
        target: Tensor,
        parameters: Sequence[Tensor],
        mask: Tensor | None,
        batch_dims: int,
        event_dims: int,
        keep: int,
        mean: int,
    ) -> Tensor | None:
        """See :func:`vae_fast.mixture_nll`."""
        tensors = [logits, *parameters, target, mask]
        count = 1 + len(parameters)

        def evaluate(own: Tensors, upstream: Tensor | None, want: int) -> Any:
            return _ops.mixture_kernel.default(
                own[:count], *own[count:], upstream, op, batch_dims, event_dims, keep, mean, want
            )

        numbers = (logits.shape[batch_dims], batch_dims, event_dims, keep, mean)
        function = Composed(f"mixture_nll of {op}", numbers, count, evaluate)
        if not is_plain(function, tensors):
            return None
        whole = (*logits.shape, *target.shape[target.dim() - event_dims :])
        is_summed = any(x.shape != whole for x in parameters)
        return call_fused(
            function,
            tensors,
            in_forward=keep <= batch_dims
            and not any(x.dtype is torch.float16 for x in (logits, *parameters))
            and not (keep > 0 and is_summed),
        )

    def discretized_logistic_mixture_nll(
        self,
        params: Tensor,
        target: Tensor,
        mask: Tensor | None,
        levels: Tensor,
        components: int,
        channels: int,
        batch_dims: int,
        keep: int,
        mean: int,
    ) -> Tensor | None:
        """See :func:`vae_fast.discretized_logistic_mixture_nll`."""
        tensors = [params, target, mask, levels]

        def evaluate(own: Tensors, upstream: Tensor | None, want: int) -> Any:
            return _ops.pixel_mixture_kernel.default(
                *own, upstream, components, channels, batch_dims, keep, mean, want
            )

        numbers = (components, batch_dims, 0, keep, mean)
        function = Composed("discretized_logistic_mixture_nll", numbers, 1, evaluate)
        if not is_plain(function, tensors):
            return None
        is_half = params.dtype is torch.float16
        return call_fused(function, tensors, in_forward=keep <= batch_dims and not is_half)

    # ---- a linear layer of a table in CSR --------------------------------------------------------

    def sparse_linear(
        self,
        weight: Tensor,
        bias: Tensor | None,
        values: Tensor,
        starts: Tensor,
        columns: Tensor,
        log1p: bool,
    ) -> Tensor | None:
        """See :func:`vae_fast.sparse_linear`."""
        tensors = [weight, bias, values, starts, columns]

        def evaluate(own: Any, upstream: Tensor | None, want: int) -> Any:
            weight, bias, values, *places = own
            numbers = values.to(weight.dtype)
            table = (*places, torch.log1p(numbers) if log1p else numbers)
            if upstream is None:
                return _layer_output(weight, bias, table), ()
            return weight, _layer_gradients(weight, upstream, table, want)

        function = Composed("sparse_linear", (int(log1p),), 2, evaluate)
        if not is_plain(function, tensors):
            return None
        if not _takes_layer(weight, bias, values, starts, columns):
            return None
        return call_fused(function, tensors, in_forward=False)


def _in_row(x: Tensor | None, shape: Sequence[int], batch_dims: int) -> Tensor | None:
    """For a device whose rows are runs: without the shape of the event.

    A copy only where the memory's order demands it.
    """
    if x is None or len(shape) == batch_dims + 1:
        return x
    own = x[(None,) * (len(shape) - x.dim())]
    if any(size != 1 for size in own.shape[batch_dims:]):
        own = own.expand(*own.shape[:batch_dims], *shape[batch_dims:])
    return own.flatten(batch_dims)


def _as_gradient_of(variable: Any, made: Tensor, shape: Sequence[int]) -> Tensor:
    """From what such a device made of it, in the call's shape where it is to be summed."""
    if made.numel() == variable.numel():
        return made.view(variable.shape).to(variable.dtype)
    return made.view(shape).sum_to_size(variable.shape).to(variable.dtype)


def _dense_of_csr(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """As torch makes it dense; not checked: to look at the indices would be to wait for them."""
    make = torch.ops.aten._sparse_csr_tensor_unsafe.default
    size = len(starts) - 1, width
    table: Tensor = make(starts, columns, values, size, layout=torch.sparse_csr)
    return table.to_dense()


def _takes_counts(
    parameters: Sequence[Tensor],
    library: Tensor | None,
    target: Tensor,
    starts: Tensor | None,
    columns: Tensor | None,
    mask: Tensor | None,
    batch_dims: int,
) -> bool:
    """The composition says what is wrong with all else."""
    first = parameters[0]
    shape = first.shape
    if batch_dims >= first.dim() or first.numel() == 0:
        return False
    is_dense = starts is None or columns is None
    spread: list[Any] = [*parameters, library, mask, target if is_dense else None]
    given = [x for x in (*spread, target, starts, columns) if x is not None]
    if any(x.device != first.device for x in given):
        return False
    if not all(x is None or fits_into(x.shape, shape) for x in spread):
        return False
    if library is not None:
        event = library.shape[max(0, library.dim() - first.dim() + batch_dims) :]
        if any(size != 1 for size in event):
            return False
    if starts is None or columns is None:
        return True
    return (
        _is_plain_csr(starts, columns, target)
        and 0 < batch_dims == first.dim() - 1
        and len(starts) == shape[batch_dims - 1] + 1
    )


def _layer_output(weight: Tensor, bias: Tensor | None, table: tuple[Tensor, ...]) -> Tensor:
    """X weight^T + bias, of the starts, columns and values of x."""
    shape = len(table[0]) - 1, weight.shape[0]
    y = weight.new_zeros(shape)
    if bias is not None:
        y.copy_(bias)
    _ops.csr_product_.default(y, weight.t().contiguous(), *table, False)
    return y


def _layer_gradients(
    weight: Tensor, upstream: Tensor, table: tuple[Tensor, ...], want: int
) -> tuple[Tensor | None, Tensor | None]:
    """In the weight, as it lies, or autograd would copy it; and in the bias."""
    own = upstream.to(weight.dtype).contiguous()
    of_weight = None
    if want & 1:
        made = weight.new_zeros((weight.shape[1], weight.shape[0]))
        _ops.csr_product_.default(made, own, *table, True)
        of_weight = made.t() if weight.t().is_contiguous() else made.t().contiguous()
    return of_weight, own.sum(0) if want & 2 else None


def _takes_layer(
    weight: Tensor, bias: Tensor | None, values: Tensor, starts: Tensor, columns: Tensor
) -> bool:
    return (
        weight.is_cpu
        and values.is_cpu
        and weight.dim() == 2
        and weight.numel() > 0
        and weight.dtype in (torch.float32, torch.float64)
        and (
            bias is None
            or (bias.is_cpu and bias.dtype is weight.dtype and bias.shape == weight.shape[:1])
        )
        and _is_plain_csr(starts, columns, values)
    )
