"""The rows of the Gaussian likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Normal

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal

_PI = np.arctan(np.longdouble(1)) * 4


def _exact_gaussian_nll(mean: Exact, logvar: Exact, x: Exact) -> tuple[Exact, ...]:
    slope = (mean - x) * np.exp(-logvar)
    square = (mean - x) * slope
    value = (np.log(2 * _PI) + logvar + square) / 2
    return value, slope, (1 - square) / 2, -slope


def _torch_gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    return -Normal(mean, (0.5 * logvar).exp(), validate_args=False).log_prob(target)


def _gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.gaussian_nll(mean, target, logvar, **options)


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], mean: Tensor, logvar: Tensor, x: Tensor
) -> AllSizes:
    square = (1 - 2 * slopes[1]).abs()
    size = 0.5 * (math.log(2 * math.pi) + logvar.abs() + square)
    return size, (slopes[0].abs(), 0.5 * (1 + square), slopes[2].abs())


ROWS = (
    Case(
        "gaussian_nll",
        _gaussian_nll,
        _torch_gaussian_nll,
        _exact_gaussian_nll,
        (normal(), normal(), normal()),
        (
            (0.5, 80.0, 0.25),
            (0.5, -40.0, 0.25),
            (0.5, -160.0, 0.5),
            (0.5, -300.0, 0.5),
            (1e-30, -140.0, 0.0),
            (1e-15, -80.0, 0.0),
            (2e19, 0.0, 0.0),
        ),
        ("number", "logvar", "number"),
        sizes=_sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Normal,
    ((-1.0, 0.3, 2.0), (-1.0, 0.0, 0.4)),
    math.nan,
    lambda p: Normal(p.loc, (0.5 * p.logvar).exp()),
    ((0.0, 1.0, 2.0), (-30.0, 0.0, 30.0)),
)
