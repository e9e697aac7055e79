"""The rows of the negative binomial likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import NegativeBinomial

import vae_fast as vf
from tests.case import Case, Exact, counts, positive, to_positive
from tests.exact_gamma import digamma, lgamma


def _exact_negative_binomial_nll(mu: Exact, theta: Exact, x: Exact) -> tuple[Exact, ...]:
    z, both = x + theta, mu + theta
    of_theta = theta * np.log1p(mu / theta)
    of_x = np.where(x == 0, 0, x * np.log(both / mu))
    value = lgamma(theta) - lgamma(z) + lgamma(x + 1) + of_theta + of_x
    in_theta = digamma(theta) - digamma(z) + np.log1p(mu / theta) + (x - mu) / both
    in_x = digamma(x + 1) - digamma(z) + np.log(both / mu)
    return value, np.where(x == 0, theta / both, (mu - x) * theta / (mu * both)), in_theta, in_x


def _torch_negative_binomial_nll(mu: Tensor, theta: Tensor, target: Tensor) -> Tensor:
    logits = torch.log(mu) - torch.log(theta)
    return -NegativeBinomial(theta, logits=logits, validate_args=False).log_prob(target)


def _negative_binomial_nll(mu: Tensor, theta: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.negative_binomial_nll(mu, target, theta, **options)


ROWS = (
    Case(
        "negative_binomial_nll",
        _negative_binomial_nll,
        _torch_negative_binomial_nll,
        _exact_negative_binomial_nll,
        (positive(), positive(0.5), counts),
        (
            (5.0, 1e4, 7.0),
            (5.0, 1e6, 7.0),
            (5.0, 1e-6, 7.0),
            (5.0, 3.0, 0.0),
            (1e-30, 2.0, 1.0),
            (1e6, 10.0, 1e6),
            (0.3, 0.5, 0.25),
        ),
        to_positive,
    ),
)
