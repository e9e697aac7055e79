"""The rows of the zero-inflated negative binomial likelihood."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, normal, positive, to_positive
from tests.likelihoods.negative_binomial import (
    exact_negative_binomial_nll,
    sizes_of_negative_binomial,
    torch_negative_binomial_nll,
)
from tests.zero_inflation import (
    exact_zero_inflated,
    sizes_of_zero_inflated,
    torch_zero_inflated,
)


def _exact(mu: Exact, theta: Exact, logits: Exact, x: Exact) -> tuple[Exact, ...]:
    return exact_zero_inflated(exact_negative_binomial_nll(mu, theta, x), logits, x)


def _torch(mu: Tensor, theta: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    return torch_zero_inflated(torch_negative_binomial_nll(mu, theta, target), logits, target)


def _public(mu: Tensor, theta: Tensor, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.zero_inflated_negative_binomial_nll(mu, target, theta, logits, **options)


def _sizes(value: Tensor, slopes: tuple[Tensor, ...], *operands: Tensor) -> AllSizes:
    op, of_counts = "negative_binomial_nll", sizes_of_negative_binomial
    return sizes_of_zero_inflated(op, of_counts, value, slopes, operands)


ROWS = (
    Case(
        "zero_inflated_negative_binomial_nll",
        _public,
        _torch,
        _exact,
        (positive(), positive(0.5), normal(), counts),
        (
            (5.0, 3.0, 0.5, 0.0),
            (5.0, 1e6, -2.0, 0.0),
            (0.01, 3.0, -5.0, 0.0),
            (5.0, 3.0, 20.0, 0.0),
            (5.0, 1e4, 0.5, 7.0),
            (5.0, 3.0, 80.0, 7.0),
            (5.0, 3.0, -80.0, 7.0),
        ),
        ("positive", "positive", "logit", "count"),
        to_positive,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.ZeroInflatedNegativeBinomial,
    ((3.0, 0.1, 50.0), (3.0, 2.0, 1e6), (-1.0, 0.5, 0.0)),
    -1.0,
)
