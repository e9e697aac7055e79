"""Data against components: B rows against K others over D dimensions, and a reduction over those.

Every function here stands on the squared distance of a datum from a component and reduces over the
components: the logarithm of a sum of densities, a sum of a kernel's values, the nearest. Plain
PyTorch, which is here too, holds B x K x D numbers for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype, sum_dtype

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
    dtype = arithmetic_dtype((x, y))
    squares = (x.to(dtype).unsqueeze(1) - y.to(dtype)).square().sum(2)
    values = [
        torch.exp(squares * (-0.5 / width)) if kernel == "rbf" else width / (width + squares)
        for width in widths
    ]
    return sum(values, torch.zeros_like(squares)).double().sum(1)


def nearest(x: Tensor, codes: Tensor) -> Tensor:
    """The k of the least |x_b - code_k|^2, the first of equals: (B,) int64, no gradient.

    Args:
        x: (B, D).
        codes: (K, D).
    """
    dtype = arithmetic_dtype((x, codes))
    return (x.to(dtype).unsqueeze(1) - codes.to(dtype)).square().sum(2).argmin(1)
