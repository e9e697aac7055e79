"""The tail over K samples: the logarithm of their weights' mean, and the weights' shares in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mean_exp(x: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """log(mean(exp(x))) over a dimension, and softmax(x) over it, which is its gradient.

    Of numbers that are all near zero, the first is as exact as they are: a bound of an order near 1
    divides it by a small number.

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
    below = torch.expm1(x - shift).mean(dim, keepdim=True)  # the mean weight, less one
    is_near, is_empty = below > -0.5, total == 0
    total = torch.where(is_empty, 1, total)
    log = torch.log(total) - math.log(x.shape[dim])
    log = torch.where(is_near, torch.log1p(torch.where(is_near, below, 0)), log)
    value = torch.where(is_empty, -math.inf, log + shift)
    return value.squeeze(dim), weights / total
