"""The rows of the log-normal likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import LogNormal

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal, positive

_PI = np.arctan(np.longdouble(1)) * 4


def _exact_log_normal_nll(mean: Exact, logvar: Exact, x: Exact) -> tuple[Exact, ...]:
    log_x = np.log(x)
    slope = (mean - log_x) * np.exp(-logvar)
    square = (mean - log_x) * slope
    value = (np.log(2 * _PI) + logvar + square) / 2 + log_x
    return value, slope, (1 - square) / 2, (1 - slope) / x


def _torch_log_normal_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    return -LogNormal(mean, (0.5 * logvar).exp(), validate_args=False).log_prob(target)


def _log_normal_nll(mean: Tensor, logvar: Tensor, target: Tensor, **options: Any) -> Tensor:
    return vf.log_normal_nll(mean, target, logvar, **options)


def _with_positive_target(operands: list[Tensor]) -> list[Tensor]:
    mean, logvar, target = operands
    return [mean, logvar, target.abs()]


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], mean: Tensor, logvar: Tensor, x: Tensor
) -> AllSizes:
    """log x - mean is wrong by what the larger of the two is rounded by."""
    log_x, slope, precision = torch.log(x).abs(), slopes[0].abs(), torch.exp(-logvar)
    half_square = (0.5 - slopes[1]).abs()
    larger = torch.maximum(mean.abs(), log_x)
    in_logvar = 0.5 + half_square + slope * larger
    in_mean = slope + precision * larger
    return in_logvar + 0.5 * logvar.abs() + 1 + log_x, (in_mean, in_logvar, (1 + in_mean) / x)


ROWS = (
    Case(
        "log_normal_nll",
        _log_normal_nll,
        _torch_log_normal_nll,
        _exact_log_normal_nll,
        # Of an x near 1: the gradient in it goes with 1 / x, and a few small ones would be all.
        (normal(2.0), normal(0.3), positive(0.2)),
        (
            (0.5, 80.0, 0.25),
            (0.5, -40.0, 0.25),
            (1.0, -3.0, 2.7182817),
            (0.0, -300.0, 1.0),
            (-50.0, 2.0, 1e-20),
            (80.0, -7.0, 1e30),
            (1e-20, -80.0, 1.0),
        ),
        ("number", "logvar", "positive"),
        _with_positive_target,
        _sizes,
        whole_targets=range(1, 20_000_000),
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.LogNormal,
    ((-1.0, 0.3, 2.0), (-2.0, -1.0, -3.0)),
    -1.0,
    lambda p: LogNormal(p.loc, (0.5 * p.logvar).exp()),
    ((0.0, 1.0, 2.0), (-30.0, 0.0, 30.0)),
)
