"""The rows of the binomial likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Binomial

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, normal, trials
from tests.exact_gamma import digamma, lgamma


def _exact_binomial_nll(logits: Exact, n: Exact, x: Exact) -> tuple[Exact, ...]:
    p, q, m = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits)), n - x
    value = lgamma(x + 1) + lgamma(m + 1) - lgamma(n + 1) - x * np.log(p) - m * np.log(q)
    in_n = digamma(m + 1) - digamma(n + 1) - np.log(q)
    return value, m * p - x * q, in_n, digamma(x + 1) - digamma(m + 1) - logits


def _torch_binomial_nll(logits: Tensor, total_count: Tensor, target: Tensor) -> Tensor:
    return -Binomial(total_count, logits=logits, validate_args=False).log_prob(target)


def _binomial_nll(logits: Tensor, total_count: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.binomial_nll(logits, target, total_count, **options)


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    logits, misses, hits = operands
    return [logits, misses.abs() + hits.abs(), hits.abs()]


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], logits: Tensor, n: Tensor, x: Tensor
) -> AllSizes:
    p, q, m = torch.sigmoid(logits), torch.sigmoid(-logits), n - x
    log_n = torch.log(n.clamp(min=1))
    in_n = slopes[1].abs() + 2 * (torch.log(m.clamp(min=1)) - log_n).abs() + 1
    in_x = slopes[2].abs() + 2 * logits.abs() + 2 * log_n + 1
    return value + slopes[0].abs(), (m * p + x * q, in_n, in_x)


ROWS = (
    Case(
        "binomial_nll",
        _binomial_nll,
        _torch_binomial_nll,
        _exact_binomial_nll,
        (normal(), trials, counts),
        (
            (0.0, 1e7, 5e6),
            (-100.0, 10.0, 0.0),
            (-100.0, 10.0, 3.0),
            (90.0, 10.0, 9.0),
            (1e4, 10.0, 1.0),
            (-16.0, 1e7, 1.0),
            (1.0, 0.5, 0.25),
            (1.0, 1.0, 1.0),
        ),
        ("logit", "trials", "count"),
        _to_its_domain,
        _sizes,
        whole_targets=range(256),
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Binomial,
    ((-2.0, 0.0, 5.0), (1.0, 40.0, 7.0)),
    41.0,
    lambda p: Binomial(p.total_count, logits=p.logits),
    ((-9.0, 1.0, 30.0), (5.0, 7.0, 9.0)),
)
