"""Differences of exponentials, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# exp(x) - 1 - x = x^2 / 2 * (1 + x/3 (1 + x/4 (1 + ...))), enough terms for float64 at |x| < 1.
_SERIES_TERMS = 20
# Beyond this, x is nothing beside exp(x); and inf - inf is not a number.
_EXP_ALONE = 100.0
# Beyond this, 1 is nothing beside exp(x), which will soon be beyond float32.
_LARGE = 80.0


def half_expm1(x: Tensor) -> Tensor:
    """(exp(x) - 1) / 2, finite where exp(x) is not: as exp(x - 1) e / 2, whose x - 1 is exact."""
    is_large = x > _LARGE
    half = 0.5 * torch.expm1(torch.where(is_large, x - 1, x))
    return torch.where(is_large, math.e * half, half)


def half_expm1_minus(x: Tensor) -> Tensor:
    """(exp(x) - 1 - x) / 2 to full relative accuracy, never negative."""
    series = torch.ones_like(x)
    for k in range(_SERIES_TERMS, 2, -1):
        series = 1 + x / k * series
    direct = half_expm1(x) - 0.5 * x.clamp(max=_EXP_ALONE)
    return torch.where(x.abs() < 1, 0.25 * x * x * series, direct)
