"""Targets that are classes, by their number: what they must be, and what is looked up by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_fast.engine import checks


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


def looked_up(
    function: str,
    target: Tensor,
    mask: Tensor | None,
    classes: int,
    look_up: Callable[[Tensor], Tensor],
) -> Tensor:
    """What ``look_up`` gives for the target as int64.

    Args:
        function: The public function.
        target: Numbers of classes; where the mask leaves them out they may be anything.
        mask: The function's own.
        classes: How many there are.
        look_up: One of torch's functions, which refuses other numbers than 0 to ``classes`` - 1: on
            the CPU by an exception, on a GPU by an assertion of the device.

    Raises:
        ValueError: The target is no class (compiled, a RuntimeError at run time).
    """
    index = target.long()
    if mask is not None:
        index = torch.where(mask, index, 0)
    if torch.compiler.is_compiling():  # generated code would count from the end
        return look_up(torch.where(index < 0, classes, index))
    try:
        return look_up(index)
    except (IndexError, RuntimeError):
        least, most = (int(x) for x in index.aminmax())
        if 0 <= least <= most < classes:
            raise
        raise ValueError(
            f"{function}: target has values from {least} to {most}, expected whole numbers from 0 "
            f"to {classes - 1}"
        ) from None
