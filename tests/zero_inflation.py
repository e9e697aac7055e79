"""What more zeros make of a likelihood of counts: the textbook's, torch's, and terms' sizes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tests.case import AllSizes, Exact, Sizes
from vae_fast.engine.table import LOSSES


def exact_zero_inflated(count: tuple[Exact, ...], logits: Exact, x: Exact) -> tuple[Exact, ...]:
    """From the counts' own value and gradients."""
    nll, *gradients = count
    inflated, counted = 1 / (1 + np.exp(-logits)), np.exp(-nll) / (1 + np.exp(logits))
    zero = inflated + counted
    value = np.where(x == 0, -np.log(zero), nll + np.log1p(np.exp(logits)))
    to_nll = np.where(x == 0, counted / zero, 1)
    of_zero = inflated * np.expm1(-nll) / (1 + np.exp(logits)) / zero
    *params, target = (to_nll * gradient for gradient in gradients)
    return value, *params, np.where(x == 0, of_zero, inflated), target


def torch_zero_inflated(nll: Tensor, logits: Tensor, x: Tensor) -> Tensor:
    zero = softplus(logits) - torch.logaddexp(logits, -nll)
    return torch.where(x == 0, zero, softplus(logits) + nll)


def sizes_of_zero_inflated(
    op: str,
    of_counts: Sizes,
    value: Tensor,
    slopes: tuple[Tensor, ...],
    operands: tuple[Tensor, ...],
) -> AllSizes:
    """From those of the counts' loss ``op``; the logits come before the target.

    At zero, exponentials of the counts' value and of its sum with the logits are among the factors.
    """
    *params, logits, x = operands
    count = (*params, x)
    nll, gradients = LOSSES[op].value(*count), LOSSES[op].gradients(*count)
    size, sizes = of_counts(nll, gradients, *count)
    is_zero = x == 0
    to_nll = torch.where(is_zero, torch.sigmoid(-(logits + nll)), 1)
    power = torch.where(is_zero & (to_nll > 0), logits.abs() + size, 0)
    each = [to_nll * (s + power * g.abs()) for s, g in zip(sizes, gradients, strict=True)]
    own = slopes[-2].abs() * (1 + power)
    return value.abs() + to_nll * size, (*each[:-1], own, each[-1])
