"""The rows of the Gamma likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Gamma

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, positive
from tests.exact_gamma import digamma, lgamma


def _exact_gamma_nll(a: Exact, rate: Exact, x: Exact) -> tuple[Exact, ...]:
    value = lgamma(a) - a * np.log(rate * x) + np.log(x) + rate * x
    return value, digamma(a) - np.log(rate * x), x - a / rate, rate - (a - 1) / x


def _torch_gamma_nll(concentration: Tensor, rate: Tensor, target: Tensor) -> Tensor:
    return -Gamma(concentration, rate, validate_args=False).log_prob(target)


def _gamma_nll(concentration: Tensor, rate: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.gamma_nll(concentration, target, rate, **options)


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    concentration, rate, target = (x.abs() for x in operands)
    return [concentration.clamp(min=1e-30), rate.clamp(min=1e-30), target]


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], a: Tensor, rate: Tensor, x: Tensor
) -> AllSizes:
    mu = rate * x
    logs = torch.log(x).abs() + torch.log(a).abs()
    in_value = value.abs() + (mu - a).abs() + logs + 1
    in_a = 1 + 1 / a + torch.log(mu).abs() + torch.log(a).abs()
    return in_value, (in_a, x + a / rate, rate + (1 + a) / x)


ROWS = (
    Case(
        "gamma_nll",
        _gamma_nll,
        _torch_gamma_nll,
        _exact_gamma_nll,
        (positive(0.5), positive(0.5), positive(0.5)),
        (
            (1e6, 1e3, 1e3),
            (1e7, 10.0, 1e6),
            (1e-6, 1.0, 1e-20),
            (1.0, 1e-10, 1e5),
            (0.5, 1e-30, 1e-6),
            (1e-3, 1e10, 1e-30),
            (2.0, 1e10, 1.0),
        ),
        ("positive", "positive", "positive"),
        _to_its_domain,
        _sizes,
        whole_targets=range(1, 20_000_000),
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Gamma,
    ((0.3, 1.0, 40.0), (2.0, 0.1, 1.0)),
    -1.0,
    lambda p: Gamma(p.concentration, p.rate),
    ((1e-3, 3.0, 1e6), (5.0, 3.0, 1e6)),
)
