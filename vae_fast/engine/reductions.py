"""Reductions, as the public functions name them (:mod:`vae_fast` has them in words) and ops do.

An op has two whole numbers: how many leading dimensions the result keeps, and over how many of the
next ones the sum is averaged.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor

Reduction = Literal["none", "sample", "sum", "batchmean", "mean"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)


def keep_and_mean(reduction: str, batch_dims: int, first: Tensor) -> tuple[int, int]:
    """A public reduction as the ops have it: dimensions kept, dimensions averaged over."""
    if reduction == "sample":
        return batch_dims, 0
    if reduction == "sum":
        return 0, 0
    dims = first.dim()
    if reduction == "none":
        return dims, 0
    if reduction == "mean":
        return 0, dims
    if reduction == "batchmean":
        return 0, batch_dims
    raise ValueError(reduction)


def reduce(value: Tensor, keep: int, mean: int) -> Tensor:
    """``value`` summed over the dimensions from ``keep`` on, divided by ``mean`` of their sizes."""
    if keep == value.dim():
        return value
    total = value.sum(tuple(range(keep, value.dim())))
    return total / math.prod(value.shape[keep : keep + mean]) if mean else total
