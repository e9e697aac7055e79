"""The rows of the continuous Bernoulli likelihood."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import ContinuousBernoulli

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal, unit_interval


def _exact_continuous_bernoulli_nll(logits: Exact, x: Exact) -> tuple[Exact, ...]:
    """With the first terms of their series near 0, where long double would cancel too."""
    a, against = abs(logits), np.where(logits > 0, 1 - x, x)
    with np.errstate(all="ignore"):
        log = np.where(a < 1e-4, a * (a / 24 - 0.5), np.log(-np.expm1(-a) / a))
        slope = np.where(a < 1e-3, a / 12 * (1 - a * a / 60), 1 / np.expm1(a) - 1 / a + 0.5)
    in_size = against - 0.5 + slope
    return against * a + log, np.where(logits > 0, in_size, -in_size), -logits


def _torch_continuous_bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    return -ContinuousBernoulli(logits=logits, validate_args=False).log_prob(target)


def _with_intensities(operands: list[Tensor]) -> list[Tensor]:
    logits, target = operands
    return [logits, target.sigmoid()]


def _sizes(value: Tensor, slopes: tuple[Tensor, ...], logits: Tensor, x: Tensor) -> AllSizes:
    """log((1 - exp(-a)) / a) is between -a and 0, and falls as -log(a)."""
    a, against = logits.abs(), torch.where(logits > 0, 1 - x, x)
    linear = torch.where(against == 0, 0, against * a)
    return linear + torch.log1p(a), (against + 1 / a.clamp(min=1), a)


ROWS = (
    Case(
        "continuous_bernoulli_nll",
        vf.continuous_bernoulli_nll,
        _torch_continuous_bernoulli_nll,
        _exact_continuous_bernoulli_nll,
        (normal(3.0), unit_interval()),
        (
            (1e4, 0.0),
            (1e4, 1.0),
            (-1e4, 0.3),
            (30.0, 1.0),
            (90.0, 1.0),
            (-90.0, 0.0),
            (1e-40, 0.5),
            (-1e-4, 0.3),
            (0.01, 0.3),
        ),
        ("logit", "unit"),
        _with_intensities,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.ContinuousBernoulli,
    ((-2.0, 0.0, 12.0),),
    1.5,
    lambda p: ContinuousBernoulli(logits=p.logits),
)
