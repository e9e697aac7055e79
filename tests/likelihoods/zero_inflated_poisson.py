"""The rows of the zero-inflated Poisson likelihood."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, normal, to_positive
from tests.likelihoods.poisson import exact_poisson_nll, sizes_of_poisson, torch_poisson_nll
from tests.zero_inflation import (
    exact_zero_inflated,
    sizes_of_zero_inflated,
    torch_zero_inflated,
)


def _exact(log_rate: Exact, logits: Exact, x: Exact) -> tuple[Exact, ...]:
    return exact_zero_inflated(exact_poisson_nll(log_rate, x), logits, x)


def _torch(log_rate: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    return torch_zero_inflated(torch_poisson_nll(log_rate, target), logits, target)


def _public(log_rate: Tensor, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.zero_inflated_poisson_nll(log_rate, target, logits, **options)


def _sizes(value: Tensor, slopes: tuple[Tensor, ...], *operands: Tensor) -> AllSizes:
    return sizes_of_zero_inflated("poisson_nll", sizes_of_poisson, value, slopes, operands)


ROWS = (
    Case(
        "zero_inflated_poisson_nll",
        _public,
        _torch,
        _exact,
        (normal(), normal(), counts),
        (
            (1.0, 0.5, 0.0),
            (-20.0, 3.0, 0.0),
            (2.0, -5.0, 0.0),
            (3.0, 20.0, 0.0),
            (-100.0, -2.0, 0.0),
            (13.8, 0.5, 1e6),
            (1.0, -80.0, 3.0),
            (1.0, 80.0, 3.0),
            (89.0, 0.5, 0.0),
        ),
        ("lograte", "logit", "count"),
        to_positive,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.ZeroInflatedPoisson, ((-2.0, 1.0, 6.0), (-1.0, 0.5, 0.0)), 0.5
)
