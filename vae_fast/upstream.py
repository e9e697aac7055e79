"""What the autograd functions of this package ask of the gradient that comes to them."""

from __future__ import annotations

import torch
from torch import Tensor

_Key = torch._C.DispatchKey
# A tensor with one of these has no value of its own: of torch.vmap, of torch.func, of a subclass.
_WRAPPERS = (_Key.FuncTorchBatched, _Key.FuncTorchGradWrapper, _Key.Python)


def has_value(upstream: Tensor) -> bool:
    """Whether it is one ordinary tensor of the CPU, whose value nobody has to wait for."""
    if torch.compiler.is_compiling():
        return False
    keys = torch._C._dispatch_keys(upstream)  # the batches of is_grads_batched have none of the CPU
    return keys.has(_Key.CPU) and not any(keys.has(wrapper) for wrapper in _WRAPPERS)


def scaled(gradient: Tensor, upstream: Tensor) -> Tensor:
    """The gradient that was made for an upstream one of 1: itself, where it is 1.

    Args:
        gradient: Left as it is.
        upstream: Broadcasts with it.
    """
    if upstream.dim() == 0 and has_value(upstream) and upstream == 1:
        return gradient
    return (gradient * upstream).to(gradient.dtype)
