"""The rows of the negative binomial likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import NegativeBinomial

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, positive, to_positive
from tests.exact_gamma import digamma, lgamma


def exact_negative_binomial_nll(mu: Exact, theta: Exact, x: Exact) -> tuple[Exact, ...]:
    z, both = x + theta, mu + theta
    of_theta = theta * np.log1p(mu / theta)
    of_x = np.where(x == 0, 0, x * np.log(both / mu))
    value = lgamma(theta) - lgamma(z) + lgamma(x + 1) + of_theta + of_x
    in_theta = digamma(theta) - digamma(z) + np.log1p(mu / theta) + (x - mu) / both
    in_x = digamma(x + 1) - digamma(z) + np.log(both / mu)
    return value, np.where(x == 0, theta / both, (mu - x) * theta / (mu * both)), in_theta, in_x


def torch_negative_binomial_nll(mu: Tensor, theta: Tensor, target: Tensor) -> Tensor:
    logits = torch.log(mu) - torch.log(theta)
    return -NegativeBinomial(theta, logits=logits, validate_args=False).log_prob(target)


def _negative_binomial_nll(mu: Tensor, theta: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.negative_binomial_nll(mu, target, theta, **options)


def sizes_of_negative_binomial(
    value: Tensor, slopes: tuple[Tensor, ...], mu: Tensor, theta: Tensor, x: Tensor
) -> AllSizes:
    """Both differences of digammas meet the logarithm of a ratio of means."""
    t = theta.clamp(1e-20, 1e20)
    ratio = (x + t) / (mu + t)
    log_u = torch.log(mu * ratio / x.clamp(min=1))
    of_theta = (x - mu) / (mu + t) - torch.log(ratio)
    of_digammas = torch.log1p(x / t) + x / (t * (x + t))
    in_theta = slopes[1].abs() + 2 * of_theta.abs() + of_digammas
    in_target = slopes[2].abs() + 2 * log_u.abs() + 1
    return value, (slopes[0].abs(), in_theta, in_target)


ROWS = (
    Case(
        "negative_binomial_nll",
        _negative_binomial_nll,
        torch_negative_binomial_nll,
        exact_negative_binomial_nll,
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
        ("positive", "positive", "count"),
        to_positive,
        sizes_of_negative_binomial,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.NegativeBinomial, ((3.0, 0.1, 50.0), (0.3, 2.0, 1e6)), 1.5
)
