"""The rows of the ordinal likelihood, of the two cutpoints around a class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.case import AllSizes, Case, Exact, normal, positive
from vae_fast.engine.call import as_tensor
from vae_fast.likelihoods.ordinal import interval_nll


def _exact_ordinal_nll(location: Exact, lower: Exact, upper: Exact) -> tuple[Exact, ...]:
    a, b, width = upper - location, lower - location, upper - lower
    value = np.logaddexp(0, -a) + np.logaddexp(0, b) - np.log(-np.expm1(-width))
    to_a, to_b, odds = 1 / (1 + np.exp(a)), 1 / (1 + np.exp(-b)), 1 / np.expm1(width)
    return value, to_a - to_b, to_b + odds, -(to_a + odds)


def _torch_ordinal_nll(location: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return -torch.log(torch.sigmoid(upper - location) - torch.sigmoid(lower - location))


def _ordinal_nll(
    location: Tensor, lower: Tensor | float, upper: Tensor | float, **options: Any
) -> Tensor:
    ends = (as_tensor(x, location, lower, upper) for x in (lower, upper))
    return interval_nll(location, *ends, **options)


def _below(shape: tuple[int, ...]) -> Tensor:
    return -positive()(shape)


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    location, lower, upper = operands
    return [location, -lower.abs(), upper.abs()]


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], location: Tensor, lower: Tensor, upper: Tensor
) -> AllSizes:
    """Each position is wrong by what the difference is rounded by."""
    to_a, to_b = torch.sigmoid(location - upper), torch.sigmoid(lower - location)
    width = upper - lower
    odds = torch.exp(-width) / -torch.expm1(-width)
    of_width = torch.where(width == math.inf, 0, width * (1 + odds))
    of_a = torch.where(upper == math.inf, 0, (1 - to_a) * (upper - location).abs())
    of_b = torch.where(lower == -math.inf, 0, (1 - to_b) * (lower - location).abs())
    in_a, in_b = to_a * (1 + of_a), to_b * (1 + of_b)
    mass = odds * (1 + of_width)
    return value + odds * of_width + in_a + in_b, (in_a + in_b, in_b + mass, in_a + mass)


ROWS = (
    Case(
        "ordinal_nll",
        _ordinal_nll,
        _torch_ordinal_nll,
        _exact_ordinal_nll,
        (normal(), _below, positive()),
        (
            (0.5, -math.inf, 1.0),
            (0.5, 0.25, math.inf),
            (0.5, -math.inf, math.inf),
            (0.5, 0.25, 0.25000006),
            (0.5, 0.0, 1e-30),
            (1e4, -1.0, 1.0),
            (-1e4, -1.0, math.inf),
            (0.5, -200.0, 300.0),
        ),
        ("number", "below", "above"),
        _to_its_domain,
        _sizes,
    ),
)
