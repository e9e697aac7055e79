"""The tail over K samples: the logarithm of their weights' mean, and the weights' shares in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mean_exp(x: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """log(mean(exp(x))) over a dimension, and softmax(x) over it, which is its gradient.

    Args:
        x: Floats, of the dtype of the arithmetic. -infinity is a weight of zero.
        dim: The dimension, not empty.

    Returns:
        The first without the dimension, the second of x's shape. Where all of x is -infinity, they
        are -infinity and zero, and so is the gradient.
    """
    largest = x.detach().amax(dim, keepdim=True)
    shift = torch.where(largest.isinf(), 0, largest)
    weights = torch.exp(x - shift)
    total = weights.sum(dim, keepdim=True)  # at least one, unless all of x is -infinity
    is_empty = total == 0
    total = torch.where(is_empty, 1, total)
    value = torch.where(is_empty, -math.inf, torch.log(total)) + (shift - math.log(x.shape[dim]))
    return value.squeeze(dim), weights / total
