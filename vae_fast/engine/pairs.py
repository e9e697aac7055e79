"""Data against components: B rows against K others over D dimensions, and a reduction over those.

Every function here stands on the squared distance of a datum from a component and reduces over the
components: the logarithm of a sum of densities, a sum of a kernel's values, the nearest. Kernels
walk through tiles of pairs, and compute them once more for the gradients of each side: nothing of
size B x K is held. Plain PyTorch holds B x K x D numbers. It computes where there are no kernels,
and derivatives of derivatives everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine import extension
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype, sum_dtype
from vae_fast.engine.fakes import fake_nothing

_ops = torch.ops.vae_fast

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# Of the squared distance s and a width: exp(-s / (2 width)) and width / (width + s).
KERNELS = ("rbf", "imq")


def log_sum_exp(
    x: Tensor, mean: Tensor, logvar: Tensor, log_weights: Tensor, *, marginal: bool
) -> Tensor:
    """Of each row, or of each of its numbers, log sum_k w_bk N(x_b; mean_k, exp(logvar_k)).

    Args:
        x: (B, D).
        mean: (K, D).
        logvar: (K, D).
        log_weights: (1, K), or (B, K) where they differ from row to row.
        marginal: Of each number by itself, under the mixture's marginal densities.

    Returns:
        (B,), or (B, D) where ``marginal``, at least in float32. Where all weights are zero it is
        -infinity, and has no gradient.
    """
    if extension.use_reference(x.device.type):
        return _plain_log_sum_exp(x, mean, logvar, log_weights, marginal)
    apply: Any = _LogSumExp.apply
    value: Tensor = apply(x, mean, logvar, log_weights, marginal)
    return value


def _plain_log_sum_exp(
    x: Tensor, mean: Tensor, logvar: Tensor, log_weights: Tensor, marginal: bool
) -> Tensor:
    operands = (x, mean, logvar, log_weights)
    dtype = arithmetic_dtype(operands)
    x, mean, logvar, log_weights = (operand.to(dtype) for operand in operands)
    standard = (x.unsqueeze(1) - mean) * torch.exp(-0.5 * logvar)
    each = -0.5 * (standard * standard + logvar) - _HALF_LOG_TWO_PI
    weights = log_weights.unsqueeze(2)
    value = torch.logsumexp(each + weights if marginal else each.sum(2, True) + weights, 1)
    return (value if marginal else value.squeeze(1)).to(sum_dtype(promoted_dtype(operands)))


def kernel_sum(x: Tensor, y: Tensor, *, kernel: str, widths: Sequence[float]) -> Tensor:
    """sum_k f(|x_b - y_k|^2) of each row, f the sum of a kernel's values over its widths.

    Args:
        x: (B, D).
        y: (K, D).
        kernel: Of `KERNELS`.
        widths: At least one, all above zero.

    Returns:
        (B,), float64: what is made of it are small differences.
    """
    number = KERNELS.index(kernel)
    if extension.use_reference(x.device.type):
        return _plain_kernel_sum(x, y, number, widths)
    # Dynamo takes no tensor twice.
    apply: Any = _KernelSum.apply
    sums: Tensor = apply(x, y.view_as(y) if y is x else y, number, list(widths))
    return sums


def _plain_kernel_sum(x: Tensor, y: Tensor, kernel: int, widths: Sequence[float]) -> Tensor:
    dtype = arithmetic_dtype((x, y))
    squares = (x.to(dtype).unsqueeze(1) - y.to(dtype)).square().sum(2)
    values = [
        torch.exp(squares * (-0.5 / width))
        if KERNELS[kernel] == "rbf"
        else width / (width + squares)
        for width in widths
    ]
    return sum(values, torch.zeros_like(squares)).double().sum(1)


def nearest(x: Tensor, codes: Tensor) -> Tensor:
    """The k of the least |x_b - code_k|^2, the first of equals: (B,) int64, no gradient.

    Args:
        x: (B, D).
        codes: (K, D).
    """
    if not extension.use_reference(x.device.type):
        indices: Tensor = _ops.pairs_nearest(x.detach(), codes.detach())
        return indices
    dtype = arithmetic_dtype((x, codes))
    return (x.to(dtype).unsqueeze(1) - codes.to(dtype)).square().sum(2).argmin(1)


# ---- autograd ------------------------------------------------------------------------------------


def _wanted(ctx: Any, count: int) -> int:
    return sum(1 << k for k in range(count) if ctx.needs_input_grad[k])


def _given(gradients: Sequence[Tensor], want: int) -> list[Tensor | None]:
    return [gradient if want >> k & 1 else None for k, gradient in enumerate(gradients)]


def _second_derivatives(
    plain: Callable[..., Tensor],
    upstream: Tensor,
    operands: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """In upstream and the operands, of the gradients that a backward gave, in plain PyTorch."""

    def backward(upstream: Tensor, *operands: Tensor) -> tuple[Tensor, ...]:
        firsts = torch.func.vjp(plain, *operands)[1](upstream)
        return tuple(x for x, given in zip(firsts, gradients, strict=True) if given is not None)

    weights = tuple(gradient for gradient in gradients if gradient is not None)
    seconds: tuple[Tensor, ...] = torch.func.vjp(backward, upstream, *operands)[1](weights)
    return seconds


def _gradients(function: Any, *args: Any) -> tuple[Tensor, ...]:
    """As a function that has derivatives of its own only where somebody asks for them."""
    is_differentiated = torch.is_grad_enabled() or torch.compiler.is_compiling()
    gradients: tuple[Tensor, ...] = (function.apply if is_differentiated else function.forward)(
        *args
    )
    return gradients


class _LogSumExp(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, mean: Tensor, logvar: Tensor, log_weights: Tensor, marginal: bool
    ) -> Tensor:
        value: Tensor = _ops.pairs_log_sum_exp(x, mean, logvar, log_weights, marginal)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *operands, ctx.marginal = inputs
        ctx.save_for_backward(output, *operands)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        want = _wanted(ctx, 4)
        gradients = _gradients(
            _LogSumExpGradients, upstream, *ctx.saved_tensors, ctx.marginal, want
        )
        return *_given(gradients, want), None


class _LogSumExpGradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        upstream: Tensor,
        value: Tensor,
        x: Tensor,
        mean: Tensor,
        logvar: Tensor,
        log_weights: Tensor,
        marginal: bool,
        want: int,
    ) -> tuple[Tensor, ...]:
        operands = (x, mean, logvar, log_weights)
        gradients: tuple[Tensor, ...] = _ops.pairs_log_sum_exp_backward(
            upstream, value, *operands, marginal, want
        )
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        upstream, _, *operands, ctx.marginal, ctx.want = inputs
        ctx.save_for_backward(upstream, *operands)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        upstream, *operands = ctx.saved_tensors
        plain = partial(_plain_log_sum_exp, marginal=ctx.marginal)
        given = _given(gradients, ctx.want)
        of_upstream, *others = _second_derivatives(plain, upstream, operands, given)
        return of_upstream, None, *others, None, None


class _KernelSum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, kernel: int, widths: Sequence[float]) -> Tensor:
        sums: Tensor = _ops.pairs_kernel_sum(x, y, kernel, widths)
        return sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, ctx.kernel, ctx.widths = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        want = _wanted(ctx, 2)
        given = (*ctx.saved_tensors, ctx.kernel, ctx.widths)
        gradients = _gradients(_KernelSumGradients, upstream, *given, want)
        return *_given(gradients, want), None, None


class _KernelSumGradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        upstream: Tensor, x: Tensor, y: Tensor, kernel: int, widths: Sequence[float], want: int
    ) -> tuple[Tensor, ...]:
        gradients: tuple[Tensor, ...] = _ops.pairs_kernel_sum_backward(
            upstream, x, y, kernel, widths, want
        )
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        upstream, x, y, ctx.kernel, ctx.widths, ctx.want = inputs
        ctx.save_for_backward(upstream, x, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        upstream, *operands = ctx.saved_tensors
        plain = partial(_plain_kernel_sum, kernel=ctx.kernel, widths=ctx.widths)
        given = _given(gradients, ctx.want)
        return *_second_derivatives(plain, upstream, operands, given), None, None, None


# ---- fakes and batch rules -----------------------------------------------------------------------


def _fake_log_sum_exp(
    x: Tensor, mean: Tensor, logvar: Tensor, log_weights: Tensor, marginal: bool
) -> Tensor:
    dtype = sum_dtype(promoted_dtype((x, mean, logvar, log_weights)))
    return x.new_empty(x.shape if marginal else x.shape[:1], dtype=dtype)


def _fake_gradients(operands: Sequence[Tensor], want: int) -> tuple[Tensor, ...]:
    return tuple(
        operand.new_empty(operand.shape) if want >> k & 1 else fake_nothing(operand)
        for k, operand in enumerate(operands)
    )


def _fake_log_sum_exp_backward(upstream: Tensor, value: Tensor, *args: Any) -> tuple[Tensor, ...]:
    *operands, _, want = args
    return _fake_gradients(operands, want)


def _fake_kernel_sum(x: Tensor, y: Tensor, kernel: int, widths: Sequence[float]) -> Tensor:
    return x.new_empty(x.shape[:1], dtype=torch.float64)


def _fake_kernel_sum_backward(upstream: Tensor, *args: Any) -> tuple[Tensor, ...]:
    x, y, _, _, want = args
    return _fake_gradients((x, y), want)


def _fake_nearest(x: Tensor, codes: Tensor) -> Tensor:
    return x.new_empty(x.shape[:1], dtype=torch.int64)


def _batch_rule(op: Any) -> Callable[..., Any]:
    """One call for each batch entry: it fills the machine by itself."""

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        results = [
            op(
                *(
                    arg if dim is None else arg.select(dim, entry)
                    for arg, dim in zip(args, in_dims, strict=True)
                )
            )
            for entry in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule


_FAKES: dict[str, Callable[..., Any]] = {
    "pairs_log_sum_exp": _fake_log_sum_exp,
    "pairs_log_sum_exp_backward": _fake_log_sum_exp_backward,
    "pairs_kernel_sum": _fake_kernel_sum,
    "pairs_kernel_sum_backward": _fake_kernel_sum_backward,
    "pairs_nearest": _fake_nearest,
}

if extension.C is not None:
    for _name, _fake in _FAKES.items():
        torch.library.register_fake(f"vae_fast::{_name}", _fake)
        torch.library.register_vmap(f"vae_fast::{_name}", _batch_rule(getattr(_ops, _name)))
