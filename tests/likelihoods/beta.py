"""The rows of the Beta likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, positive, unit_interval
from tests.exact_gamma import digamma, lgamma


def _exact_beta_nll(a: Exact, b: Exact, x: Exact) -> tuple[Exact, ...]:
    log_x, log_rest = np.log(x), np.log1p(-x)
    of_x, of_rest = (np.where(k == 1, 0, (k - 1) * y) for k, y in ((a, log_x), (b, log_rest)))
    value = lgamma(a) + lgamma(b) - lgamma(a + b) - of_x - of_rest
    of_n = digamma(a + b)
    in_x = (b - 1) / (1 - x) - (a - 1) / x
    return value, digamma(a) - of_n - log_x, digamma(b) - of_n - log_rest, in_x


def _torch_beta_nll(alpha: Tensor, beta: Tensor, target: Tensor) -> Tensor:
    return -Beta(alpha, beta, validate_args=False).log_prob(target)


def _beta_nll(alpha: Tensor, beta: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.beta_nll(alpha, target, beta, **options)


def _several(shape: tuple[int, ...]) -> Tensor:
    return 3 * positive(0.3)(shape)


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    alpha, beta, target = operands
    return [alpha.abs().clamp(min=1e-30), beta.abs().clamp(min=1e-30), target.sigmoid()]


def _sizes(value: Tensor, slopes: tuple[Tensor, ...], a: Tensor, b: Tensor, x: Tensor) -> AllSizes:
    log_a, log_b, log_n, log_x, log_rest = (
        torch.log(y).abs() for y in (a, b, a + b, x.clamp(min=1e-99), (1 - x).clamp(min=1e-99))
    )
    excess = (b * x - a * (1 - x)).abs()
    in_value = value.abs() + excess + log_a + log_b + log_n + log_x + log_rest + 1
    in_a = 1 + 1 / a + log_x + log_a + 2 * log_n
    in_b = 1 + 1 / b + log_rest + log_b + 2 * log_n
    return in_value, (in_a, in_b, (1 + b) / (1 - x) + (1 + a) / x)


ROWS = (
    Case(
        "beta_nll",
        _beta_nll,
        _torch_beta_nll,
        _exact_beta_nll,
        (_several, _several, unit_interval(0.3)),
        (
            (1e6, 1e6, 0.5),
            (1e7, 3.0, 0.999999),
            (1e-6, 1e-6, 0.5),
            (0.5, 0.5, 1e-20),
            (2.0, 3.0, 1e-40),
            (1.0, 1.0, 1e-30),
            (300.0, 1e4, 0.05),
        ),
        ("positive", "positive", "unit"),
        _to_its_domain,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Beta,
    ((0.3, 1.0, 7.0), (0.5, 4.0, 3.0)),
    1.5,
    lambda p: Beta(p.alpha, p.beta),
    ((1e-3, 3.0, 1e6), (5.0, 3.0, 1e6)),
)
