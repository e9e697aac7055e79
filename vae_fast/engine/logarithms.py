"""Logarithms in plain PyTorch that do not cancel, as csrc/formulas/logarithms.h has them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# log 2 = _LN2 + _LN2_REST, the first of few enough bits that k times it is exact.
_LN2, _LN2_REST = float.fromhex("0x1.62e42feep-1"), 1.90821492927058770002e-10


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """By Horner's rule, from the constant on."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def log_distance(l: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: E741
    """What l - log(x) is, where it is small as exact as l, and log(x): of an x > 0.

    In float64; the multiple of log 2 is taken from l first, which is exact.
    """
    wide, size = l.double(), x.double()
    k = torch.round(wide.detach() / math.log(2)).clamp(-500, 500)
    # Where x is at an end of the range, not beyond it.
    k = torch.where(
        size < 2.0**-500, k.clamp(max=0), torch.where(size > 2.0**500, k.clamp(min=0), k)
    )
    rest = torch.log(size * torch.exp2(-k))
    distance = ((wide - k * _LN2) - rest) - k * _LN2_REST
    return distance.to(l.dtype), (k * _LN2 + (k * _LN2_REST + rest)).to(l.dtype)


# y - log(1 + y) = z (y - v P(v)) with z = y / (2 + y) and v = z^2.
_ATANH_TERMS = tuple(2 / k for k in range(3, 33, 2))


def minus_log(y: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """What y - log(u) is, never negative, and log(u): u > 0 and y = u - 1, each as it is exact."""
    is_near, is_far = y.abs() < 0.45, y < -0.7
    near = torch.where(is_near, y, 0)
    z = near / (2 + near)
    v = z * z
    log = torch.where(
        is_far, torch.log(torch.where(is_far, u, 1)), torch.log1p(torch.where(is_far, 0, y))
    )
    return torch.where(is_near, z * (near - v * polynomial(_ATANH_TERMS, v)), y - log), log
