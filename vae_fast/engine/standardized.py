"""How far a number lies from a mean, in plain PyTorch: what the Gaussian formulas share."""

from __future__ import annotations

import torch
from torch import Tensor


def standardized(x: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """((x - mean) / sigma)^2 / 2, and its derivative in x.

    Half of the precision's logarithm at a time, finite so that 0 times it is 0: a small difference
    does not underflow, nor a large precision overflow, before they meet.
    """
    root = torch.exp(-0.5 * logvar).clamp(max=torch.finfo(x.dtype).max)
    distance = (x - mean) * root
    return 0.5 * distance * distance, distance * root
