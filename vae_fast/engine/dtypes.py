"""Which dtype arithmetic, sums and results have; :mod:`vae_fast` has it in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def promoted_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """The floating dtype that the operands promote to.

    By torch's rule: one without dimensions does not raise that of others.
    """
    floating = [operand for operand in operands if operand.is_floating_point()]
    dimensioned = [operand for operand in floating if operand.dim() > 0]
    return functools.reduce(
        torch.promote_types, (operand.dtype for operand in dimensioned or floating)
    )


def arithmetic_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """float64 where any operand is, else float32."""
    return torch.float64 if torch.float64 in [x.dtype for x in operands] else torch.float32


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of arithmetic and of sums: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def result_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """The dtype of elementwise results; under autocast, as the kernels have it, that of sums."""
    dtype = promoted_dtype(operands)
    return sum_dtype(dtype) if is_autocast(operands[0].device.type) else dtype


# Asked once: Dynamo of torch 2.10 does not trace the question.
_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", torch._C._get_privateuse1_backend_name())
_WITH_AUTOCAST = frozenset(filter(torch.amp.is_autocast_available, _DEVICES))


def is_autocast(device: str) -> bool:
    """Whether autocast is on for this type of device, which may have none."""
    return device in _WITH_AUTOCAST and torch.is_autocast_enabled(device)
