"""The rows of the Laplace likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import Laplace

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal


def _exact_laplace_nll(mean: Exact, log_scale: Exact, x: Exact) -> tuple[Exact, ...]:
    slope = np.sign(mean - x) * np.exp(-log_scale)
    scaled = (mean - x) * slope
    return np.log(np.longdouble(2)) + log_scale + scaled, slope, 1 - scaled, -slope


def _torch_laplace_nll(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    return -Laplace(mean, log_scale.exp(), validate_args=False).log_prob(target)


def _laplace_nll(mean: Tensor, log_scale: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.laplace_nll(mean, target, log_scale, **options)


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], mean: Tensor, log_scale: Tensor, x: Tensor
) -> AllSizes:
    scaled = (1 - slopes[1]).abs()
    return log_scale.abs() + scaled + 1, (slopes[0].abs(), 1 + scaled, slopes[2].abs())


ROWS = (
    Case(
        "laplace_nll",
        _laplace_nll,
        _torch_laplace_nll,
        _exact_laplace_nll,
        (normal(), normal(), normal()),
        (
            (0.5, 80.0, 0.25),
            (0.5, -40.0, 0.25),
            (0.5, -200.0, 0.5),
            (1e-30, -60.0, 0.0),
            (1e-37, -90.0, 0.0),
        ),
        ("number", "logvar", "number"),
        sizes=_sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Laplace,
    ((-1.0, 0.3, 2.0), (-1.0, 0.0, 0.4)),
    math.nan,
    lambda p: Laplace(p.loc, p.log_scale.exp()),
    ((0.0, 1.0, 2.0), (-30.0, 0.0, 30.0)),
)
