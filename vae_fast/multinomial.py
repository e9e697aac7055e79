"""The kernel of the multinomial likelihood as an autograd function.

Apart from the elementwise losses, because the softmax couples the elements of a row: the gradient
in one needs all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from vae_fast import reference
from vae_fast._extension import C
from vae_fast.upstream import scaled

if C is not None:
    from vae_fast import _rules  # noqa: F401  (registers what the ops need from Python)


def _entries(shape: torch.Size, keep: int, mean: int) -> int:
    """What a sum is divided by."""
    return shape[keep : keep + mean].numel()


def _spread(upstream: Tensor, dims: int) -> Tensor:
    """(shape[:keep]) -> a shape that broadcasts with ``dims`` dimensions; a number as it is."""
    return (
        upstream
        if upstream.dim() == 0
        else upstream.reshape(*upstream.shape, *(1,) * (dims - upstream.dim()))
    )


class _Multinomial(torch.autograd.Function):
    """The sums of rows, reduced further; the gradient in the logits is made in the forward.

    Not for a target that requires a gradient. The gradient is an output, so that the compiler may
    save it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, target: Tensor, keep: int, mean: int, want: bool
    ) -> tuple[Tensor, Tensor]:
        entries = _entries(logits.shape, keep, mean)
        # Over nothing the mean is not a number, but for nothing there is no gradient either.
        rows, gradient = torch.ops.vae_fast.multinomial_rows(
            logits, target, 1 / max(1, entries), want
        )
        value = reference.reduce(rows, keep, 0)
        return value / entries if mean else value, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        logits, target, ctx.keep, ctx.mean, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # else the second output would get one, of zeros
        ctx.save_for_backward(logits, target, output[1])
        ctx.save_for_forward(logits, target)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _of_gradient: None) -> Any:
        if upstream is None:
            return (None,) * 5
        logits, target, gradient = ctx.saved_tensors
        factor = _spread(upstream, logits.dim())
        if torch.is_grad_enabled():
            of_rows, _in_target = reference.multinomial_gradient(logits, target)
            in_logits = of_rows * (factor / _entries(logits.shape, ctx.keep, ctx.mean))
            return in_logits.to(logits.dtype), None, None, None, None
        if logits.dtype == torch.float16:
            of_rows = factor.expand(*logits.shape[:-1], 1).squeeze(-1)
            scale = 1 / max(1, _entries(logits.shape, ctx.keep, ctx.mean))
            in_logits = torch.ops.vae_fast.multinomial_rows_backward(of_rows, logits, target, scale)
            return in_logits, None, None, None, None
        return scaled(gradient, factor), None, None, None, None


class _MultinomialForward(_Multinomial):
    """With forward-mode AD too: apart, because Dynamo refuses functions that have it."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None]:
        logits, target = ctx.saved_tensors
        gradients = reference.multinomial_gradient(logits, target)
        terms = [g * t for g, t in zip(gradients, tangents, strict=False) if t is not None]
        return reference.reduce(sum(terms[1:], terms[0]), ctx.keep, ctx.mean), None


# Some releases of torch say nothing of its type.
_apply = cast(Callable[..., tuple[Tensor, Tensor]], _Multinomial.apply)
_apply_forward = cast(Callable[..., tuple[Tensor, Tensor]], _MultinomialForward.apply)


def evaluate(logits: Tensor, target: Tensor, keep: int, mean: int) -> Tensor:
    """As :func:`vae_fast.reference.multinomial_nll`, where at least the last dimension is summed.

    With the extension, for a target that requires no gradient.
    """
    apply = _apply if torch.compiler.is_compiling() else _apply_forward
    # float16's is made in the backward, where the upstream one is known before it is rounded.
    want = torch.is_grad_enabled() and logits.requires_grad and logits.dtype != torch.float16
    return apply(logits, target, keep, mean, want)[0]
