"""The rows of the Poisson likelihood."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.distributions import Poisson

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, normal, to_positive
from tests.exact_gamma import digamma, lgamma


def exact_poisson_nll(log_rate: Exact, x: Exact) -> tuple[Exact, ...]:
    rate = np.exp(log_rate)
    return rate - x * log_rate + lgamma(x + 1), rate - x, digamma(x + 1) - log_rate


def torch_poisson_nll(log_rate: Tensor, target: Tensor) -> Tensor:
    return -Poisson(log_rate.exp(), validate_args=False).log_prob(target)


def sizes_of_poisson(
    value: Tensor, slopes: tuple[Tensor, ...], log_rate: Tensor, x: Tensor
) -> AllSizes:
    digamma = slopes[1] + log_rate
    return value, (log_rate.exp() + x, digamma.abs() + log_rate.abs())


ROWS = (
    Case(
        "poisson_nll",
        vf.poisson_nll,
        torch_poisson_nll,
        exact_poisson_nll,
        (normal(), counts),
        (
            (-100.0, 0.0),
            (13.8, 1e6),
            (16.1, 1e7),
            (80.0, 3.0),
            (0.0, 0.5),
            (2.0, 1.0),
            (-1e4, 0.0),
        ),
        ("lograte", "count"),
        to_positive,
        sizes_of_poisson,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Poisson,
    ((-2.0, 1.0, 6.0),),
    1.5,
    lambda p: Poisson(p.log_rate.exp()),
    ((-30.0, 0.1, 30.0),),
)
