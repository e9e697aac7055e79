"""Data that are classes, by their number: what they must be, and what is looked up by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.exponentials import half_expm1_minus


def check_classes(function: str, target: Tensor, first: Tensor, first_name: str) -> None:
    """What a target must be beside the first operand.

    Raises:
        TypeError: It is no tensor of whole numbers.
        ValueError: It is on another device.
    """
    checks.check_tensor(function, "target", target)
    if target.dtype not in checks.INTEGERS:
        raise TypeError(
            f"{function}: target has dtype {target.dtype}, expected "
            f"{checks.names_of(checks.INTEGERS)}, the numbers of classes"
        )
    if target.device != first.device:
        raise ValueError(
            f"{function}: target is on {target.device}, expected {first.device} like {first_name}"
        )


def class_numbers(x: Tensor, classes: int) -> Tensor:
    """Numbers of classes as int64; a fraction, which is no class, as ``classes``, which is none."""
    index = x.long()
    return torch.where(index == x, index, classes) if x.is_floating_point() else index


def looked_up(
    name: str,
    x: Tensor,
    mask: Tensor | None,
    classes: int,
    look_up: Callable[[Tensor], Tensor],
) -> Tensor:
    """What ``look_up`` gives for the classes as int64.

    Args:
        name: What x is called, where it is refused.
        x: Numbers of classes, of any dtype; where the mask leaves them out they may be anything.
        mask: The function's own.
        classes: How many there are.
        look_up: One of torch's functions, which refuses other numbers than 0 to ``classes`` - 1: on
            the CPU by an exception, on a GPU by an assertion of the device.

    Raises:
        ValueError: One of them is no class (compiled, a RuntimeError at run time).
    """
    index = class_numbers(x, classes)
    if mask is not None:
        index = torch.where(mask, index, 0)
    if torch.compiler.is_compiling():  # generated code would count from the end
        return look_up(torch.where(index < 0, classes, index))
    try:
        return look_up(index)
    except (IndexError, RuntimeError):
        is_none = (index < 0) | (index >= classes)
        if not is_none.any():
            raise
        wrong = x.expand(index.shape)[is_none][0].item()
        raise ValueError(
            f"{name} holds {wrong:.9g}, expected whole numbers from 0 to {classes - 1}"
        ) from None


def one_hot(name: str, x: Tensor, mask: Tensor | None, classes: int, dtype: torch.dtype) -> Tensor:
    """(*shape, ``classes``): 1 for the class of each element, else 0; arguments as `looked_up`."""

    def look_up(index: Tensor) -> Tensor:
        index = index.unsqueeze(-1)
        none = index.new_zeros((*index.shape[:-1], classes), dtype=dtype)
        # Not scatter_, for which torch.func.vmap has no rule.
        return none.scatter_add_(-1, index, torch.ones_like(index, dtype=dtype))

    return looked_up(name, x, mask, classes, look_up)


def classes_kl(log_p: Tensor, log_q: Tensor, dim: int) -> Tensor:
    """KL(p || q) of two distributions over classes, by their log-probabilities along ``dim``.

    With d = log q - log p, sum p (exp(d) - 1 - d): what is added to p log(p / q) is 0 in sum, and
    no term is negative, so that close neighbours do not cancel.
    """
    p, q = torch.exp(log_p), torch.exp(log_q)
    is_void = p == 0
    d = torch.where(is_void, 0, log_q - torch.where(is_void, 0, log_p))
    is_near = d.abs() < 1
    near = 2 * p * half_expm1_minus(torch.where(is_near, d, 0))
    far = (q - p) - p * torch.where(is_near, 0, d)
    return torch.where(is_void, q, torch.where(is_near, near, far)).sum(dim)
