"""What the nodes of autograd have in common.

They are `_SingleLevelFunction`s, run where the ops' kernels of the key Autograd are: torch.func
then sees them as it sees torch's own nodes, level by level. A `torch.autograd.Function` would hide
the op from everything above autograd.

A node's forward is given what the op below autograd has returned already: an outer level of
torch.func has to see the op, which it would not from inside of the forward, where no graph is made.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from vae_fast.engine import fakes
from vae_fast.engine.shapes import broadcast_shape

BelowAutograd: Any = torch._C._AutoDispatchBelowAutograd
WithoutAutocast: Any = torch._C._ExcludeDispatchKeyGuard  # with AUTOCAST
_Key: Any = torch._C.DispatchKey
# Of every device that can have kernels.
AUTOCAST = (
    torch._C.DispatchKeySet(_Key.AutocastCPU)
    | torch._C.DispatchKeySet(_Key.AutocastCUDA)
    | torch._C.DispatchKeySet(_Key.AutocastPrivateUse1)
)
_allow_single_level = torch._C._functorch.set_single_level_autograd_function_allowed
is_transformed = torch._C._are_functorch_transforms_active

# Keeps what is registered alive.
library: Any = torch.library.Library("vae_fast", "FRAGMENT")  # type: ignore[no-untyped-call]

# The type of device that has the GPU's kernels, or None.
_gpu: str | None = None


def use_gpu(device: str) -> None:
    """The GPU's kernels are there, for devices of that type."""
    global _gpu
    _gpu = device


def has_kernels(x: Tensor) -> bool:
    """Whether there are kernels where the tensor is."""
    return x.is_cpu or x.device.type == _gpu


def recording_of(x: Tensor) -> int:
    """The graph that records what is queued now where the tensor is; 0: none does."""
    if x.is_cpu or x.device.type != _gpu:
        return 0
    recording: int = torch.ops.vae_fast.recording.default(x)
    return recording


def autocast_key(device: str) -> str:
    """The dispatcher's key of the device's autocast."""
    return f"Autocast{torch._C._dispatch_key_for_device(device)}"


def scale(gradient: Tensor, factor: Tensor) -> None:
    """Gradient *= factor, in place; a factor of one costs no pass over the gradient."""
    if gradient.device.type == _gpu:
        torch.ops.vae_fast.scale_.default(gradient, factor)
    elif factor.dim() > 0 or not factor.is_cpu or factor.item() != 1:
        gradient.mul_(factor)


Formula = Callable[[str, Sequence[Tensor]], Sequence[Tensor]]
_formula: Formula | None = None


def set_gradient_formula(formula: Formula) -> None:
    """Takes the losses' gradients as differentiable expressions."""
    global _formula
    _formula = formula


def gradient_formula(loss: str, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    """The gradients of a loss as differentiable expressions of its operands."""
    assert _formula is not None
    return _formula(loss, operands)


class Node(_SingleLevelFunction):
    """A node of the graph: ``apply(call, *operands)``, where ``call`` is for its own methods."""

    @classmethod
    @cache
    def named(cls, name: str) -> type[Node]:
        """Of a class of its own, whose ``name()`` is that of the fast binding's node."""
        named: Any = type(cls.__name__, (cls,), {})
        named._backward_cls.__name__ = f"VaeFastBackward[{name}]"
        result: type[Node] = named
        return result

    @classmethod
    def connect(cls, call: Any, operands: Sequence[Tensor | None]) -> Any:
        """The results that ``call`` holds, in the graph, with their tangents."""
        apply = cast(Any, cls).apply
        if not is_transformed():
            return apply(call, *operands)
        before = torch._C._functorch.get_single_level_autograd_function_allowed()
        _allow_single_level(True)
        try:
            return apply(call, *operands)
        finally:
            _allow_single_level(before)


def requiring_gradient(operands: Sequence[Tensor | None]) -> int:
    """Bit k: operand k takes part in the graph that is being built."""
    bits = 0
    if torch.is_grad_enabled():
        for k, operand in enumerate(operands):
            if operand is not None and operand.requires_grad:
                bits |= 1 << k
    return bits


def may_have_tangents() -> bool:
    """Whether forward-mode AD is on."""
    return forward_ad._current_level >= 0


def asked_of(ctx: Any, operands: Sequence[Tensor | None]) -> list[bool]:
    """Of which operands the backward that runs now asks the node for the gradient."""
    functions = iter(ctx.next_functions)  # of those that are tensors
    return [x is not None and _is_asked(next(functions)[0]) for x in operands]


def _is_asked(function: Any) -> bool:
    if function is None:
        return False
    try:
        asked: bool = torch._C._will_engine_execute_node(function)
    except RuntimeError:  # it is a leaf that is asked for, or no engine runs
        return True
    return asked


def wanted_of(asked: Sequence[bool]) -> int:
    """Bit k: the gradient in operand k is asked for."""
    return sum(1 << k for k, is_asked in enumerate(asked) if is_asked)


def is_subclass(x: Tensor) -> bool:
    """Whether it answers torch's ops itself."""
    return type(x).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def is_ordinary() -> bool:
    """Whether nothing stands above autograd: then its kernel may be called as it is.

    What the dispatcher would do on the way to it is 3 microseconds of a call.
    """
    return not (
        is_transformed()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._is_any_autocast_enabled()
        or torch._C._is_tracing()
    )


_last_refusal: Callable[[], bytes] | None = None


def set_last_refusal(last_refusal: Callable[[], bytes]) -> None:
    """Takes what says this thread's last refusal by a kernel, as "ValueError: ..."."""
    global _last_refusal
    _last_refusal = last_refusal


def as_refused(error: Exception) -> Exception:
    """A kernel's error, of the type that it was raised as.

    torch passes it on as a ValueError, from 2.15 on as a RuntimeError, of the same text.
    """
    assert _last_refusal is not None
    kind, _, text = _last_refusal().decode().partition(": ")
    if not text or text not in str(error):
        return error
    return TypeError(text) if kind == "TypeError" else ValueError(text)


def call_below(op: str, overload: Any, args: Sequence[Any]) -> Any:
    """The op below autograd.

    What is no refusal (:func:`as_refused`) the op's fake kernel may say better: it checks what
    torch asks before the kernel, and hears why there is no memory for a result.
    """
    try:
        with BelowAutograd():
            return overload(*args)
    except (RuntimeError, ValueError) as error:
        refused = as_refused(error)
        if refused is not error:
            raise refused from None
        try:
            fakes.FAKES[op](*args)
        except (RuntimeError, TypeError, ValueError) as better:
            raise better from None
        raise


def register_below_autograd(op: str) -> None:
    """An op without a node: of a backward, whose derivatives the forward's formulas give."""
    overload = getattr(torch.ops.vae_fast, op).default
    library.impl(op, lambda *args: call_below(op, overload, args), "Autograd")


# ---- gradients that a forward made, for an upstream gradient of one ------------------------------


def keep_for_backward(ctx: Any, inputs: Sequence[Tensor | None], gradients: list[Tensor]) -> None:
    """Saves a node's inputs and the gradients that its forward made.

    These by themselves, where nobody has hooks for saved tensors: the backward then need not look
    at the inputs, and may give them away. Their tensors are of nobody's graph.
    """
    is_watched = (
        is_transformed()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
        or (gradients and type(gradients[0]) is not Tensor)
    )
    ctx.kept = None if is_watched else gradients
    ctx.recording = recording_of(gradients[0]) if ctx.kept else 0
    ctx.save_for_backward(*inputs, *(gradients if is_watched else ()))


def kept(ctx: Any, made: int, inputs: int, upstream: Tensor) -> list[Tensor | None]:
    """The gradients times the upstream one, which is of their leading sizes.

    In their own memory only where nobody else can come to read it, neither a second backward, nor
    another owner, nor a graph that was recorded without its forward and replays for the same one.

    Args:
        ctx: Of a node that called :func:`keep_for_backward`.
        made: Bit k: there is one in operand k.
        inputs: How many inputs were saved.
        upstream: For the value.
    """
    gradients = ctx.kept
    is_ours = bool(gradients) and not torch._C._autograd._get_current_graph_task_keep_graph()
    is_once = not gradients or recording_of(gradients[0]) == ctx.recording
    if is_ours:
        ctx.kept = None
    elif not gradients:  # saved with the inputs; or given away: torch says that the graph is gone
        gradients = list(ctx.saved_tensors[inputs:])
    else:
        gradients = list(gradients)
    result: list[Tensor | None] = [None] * made.bit_length()
    for k in reversed(range(len(result))):
        if made >> k & 1:
            gradient = gradients.pop()
            factor = align(upstream, gradient.dim())
            is_alone = (
                is_ours
                and is_once
                and torch._C._dispatch_keys(upstream) == torch._C._dispatch_keys(gradient)
                and sys.getrefcount(gradient) == 2
                and gradient._use_count() == 1
                and torch._C._storage_Use_Count(gradient.untyped_storage()._cdata) == 2
            )
            if not is_alone:
                gradient = gradient * factor
            else:
                scale(gradient, factor)
            result[k] = gradient
    return result


# ---- reductions: over the dimensions from ``keep`` on, divided by ``mean`` of their sizes --------


def align(upstream: Tensor, dims: int) -> Tensor:
    """(shape[:keep]) -> a shape that broadcasts with ``dims`` dimensions."""
    own = upstream.dim()
    return upstream[(..., *[None] * (dims - own))] if 0 < own < dims else upstream


def spread(upstream: Tensor, shape: Sequence[int], keep: int, mean: int) -> Tensor:
    """An upstream gradient (of shape[:keep]) for every element: the gradient's way."""
    each = align(upstream, len(shape)).expand(shape)
    return each / math.prod(shape[keep : keep + mean]) if mean else each


def reduced(elementwise: Tensor, shape: Sequence[int], keep: int, mean: int) -> Tensor:
    """Elementwise to reduced: the tangent's way."""
    total = elementwise.expand(shape)
    if keep < len(shape):
        total = total.sum(tuple(range(keep, len(shape))))
    return total / math.prod(shape[keep : keep + mean]) if mean else total


def weighted_tangents(gradients: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
    """The sum of the operands' tangents, each times its gradient."""
    terms = [g * t for g, t in zip(gradients, tangents, strict=True) if t is not None]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


# In the domain of every operand of every loss: what a masked-out element is computed on, so that
# no NaN in it reaches a derivative of any order.
_HARMLESS = 0.5


def masked_formula(loss: str, operands: Sequence[Tensor], mask: Tensor | None) -> Sequence[Tensor]:
    """The gradients of an elementwise loss, finite where it is masked out."""
    if mask is not None:
        operands = [
            torch.where(mask, x, _HARMLESS) if x.is_floating_point() else x for x in operands
        ]
    return gradient_formula(loss, operands)


def loss_tangent(
    loss: str,
    operands: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    mask: Tensor | None,
    keep: int,
    mean: int,
) -> Tensor:
    """The tangent of a loss."""
    total = weighted_tangents(masked_formula(loss, operands, mask), tangents)
    if mask is not None:
        total = torch.where(mask, total, 0)
    shape = broadcast_shape(operands if mask is None else (*operands, mask))
    return reduced(total, shape, keep, mean)
