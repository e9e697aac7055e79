"""The rows of the beta-binomial likelihood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, counts, positive, trials
from tests.exact_gamma import digamma, lgamma


def _exact_beta_binomial_nll(a: Exact, b: Exact, n: Exact, x: Exact) -> tuple[Exact, ...]:
    m, s = n - x, a + b
    value = lgamma(x + 1) + lgamma(m + 1) - lgamma(n + 1) + lgamma(a) + lgamma(b) - lgamma(s)
    value += lgamma(n + s) - lgamma(x + a) - lgamma(m + b)
    of_all, of_hits, of_misses = digamma(n + s), digamma(x + a), digamma(m + b)
    in_n = digamma(m + 1) - digamma(n + 1) + of_all - of_misses
    in_x = digamma(x + 1) - digamma(m + 1) - of_hits + of_misses
    in_a = (digamma(a) - of_hits) - (digamma(s) - of_all)
    return value, in_a, (digamma(b) - of_misses) - (digamma(s) - of_all), in_n, in_x


def _torch_beta_binomial_nll(alpha: Tensor, beta: Tensor, n: Tensor, x: Tensor) -> Tensor:
    """torch.distributions has none."""

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    log_choose = torch.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(n - x + 1)
    return log_beta(alpha, beta) - log_beta(x + alpha, n - x + beta) - log_choose


def _beta_binomial_nll(
    alpha: Tensor, beta: Tensor, total_count: Tensor, target: Tensor, **options: Any
) -> Tensor:
    return vf.beta_binomial_nll(alpha, target, beta, total_count, **options)


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    alpha, beta, misses, hits = (x.abs() for x in operands)
    return [alpha.clamp(min=1e-30), beta.clamp(min=1e-30), misses + hits, hits]


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], a: Tensor, b: Tensor, n: Tensor, x: Tensor
) -> AllSizes:
    """Every digamma's difference meets a logarithm of a ratio of means."""
    m, s = n - x, a + b
    of_a, of_b, of_all = (
        torch.log1p(k / t) + k / (t * (k + t)) for k, t in ((x, a), (m, b), (n, s))
    )
    log_a, log_b = -torch.log(a.clamp(max=1)), -torch.log(b.clamp(max=1))
    log_n = torch.log(n.clamp(min=1))
    excess = (m * a - x * b).abs() / (n + s)
    in_n = slopes[2].abs() + 2 * log_n + log_b + 1
    in_x = slopes[3].abs() + 2 * log_n + log_a + log_b + 1
    sizes = (of_a + 2 * of_all, of_b + 2 * of_all, in_n, in_x)
    return value + excess + log_a + log_b + log_n + 1, sizes


ROWS = (
    Case(
        "beta_binomial_nll",
        _beta_binomial_nll,
        _torch_beta_binomial_nll,
        _exact_beta_binomial_nll,
        (positive(0.5), positive(0.5), trials, counts),
        (
            (1.0, 1.0, 1e7, 3.0),
            (30.0, 1e3, 1e4, 300.0),
            (1e6, 1e6, 10.0, 3.0),
            (1e-6, 1e-6, 10.0, 3.0),
            (0.5, 1e4, 1e6, 0.0),
            (3.0, 2.0, 10.0, 10.0),
            (0.7, 0.3, 0.5, 0.25),
        ),
        ("positive", "positive", "trials", "count"),
        _to_its_domain,
        _sizes,
        whole_targets=range(256),
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.BetaBinomial, ((0.3, 1.5, 7.0), (0.5, 4.0, 3.0), (1.0, 20.0, 7.0)), 21.0
)
