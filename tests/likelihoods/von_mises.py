"""The rows of the von Mises likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.distributions import VonMises

import vae_fast as vf
from tests.case import AllSizes, Case, Exact, normal

_STEPS = 200  # of the recurrence, for concentrations up to 100
_LOG_TWO_PI = np.log(np.arctan(np.longdouble(1)) * 8)


def _bessel(k: Exact) -> tuple[Exact, Exact]:
    """log I0(k) - k and I1(k) / I0(k), by Miller's backward recurrence: all terms positive."""
    ratio, above = np.zeros_like(k), np.zeros_like(k)
    for n in range(_STEPS, 0, -1):
        ratio = k / (2 * n + k * ratio)  # I_n / I_(n - 1)
        above = ratio * (1 + above)
    return -np.log1p(2 * above), ratio  # exp(k) = I0 + 2 (I1 + I2 + ...)


def _exact_von_mises_nll(mean: Exact, log_concentration: Exact, x: Exact) -> tuple[Exact, ...]:
    k, half = np.exp(log_concentration), (x - mean) / 2
    log_i0, ratio = _bessel(k)
    excess, slope = 2 * k * np.sin(half) ** 2, 2 * k * np.sin(half) * np.cos(half)
    return _LOG_TWO_PI + log_i0 + excess, -slope, excess - k * (1 - ratio), slope


def _torch_von_mises_nll(mean: Tensor, log_concentration: Tensor, target: Tensor) -> Tensor:
    return -VonMises(mean, log_concentration.exp(), validate_args=False).log_prob(target)


def _von_mises_nll(
    mean: Tensor, log_concentration: Tensor, target: Tensor, **options: Any
) -> Tensor:
    return vf.von_mises_nll(mean, target, log_concentration, **options)


def _sizes(
    value: Tensor, slopes: tuple[Tensor, ...], mean: Tensor, log_concentration: Tensor, x: Tensor
) -> AllSizes:
    k = log_concentration.exp()
    moved = k * (mean.abs() + x.abs())  # by the rounding of the angles
    return 1 + log_concentration.abs() + k + moved, (moved, 1 + k + moved, moved)


ROWS = (
    Case(
        "von_mises_nll",
        _von_mises_nll,
        _torch_von_mises_nll,
        _exact_von_mises_nll,
        (normal(), normal(), normal()),
        (
            (0.5, 80.0, 0.5),
            (0.5, 4.0, 0.25),
            (0.5, -200.0, 0.5),
            (1e-30, 3.0, 0.0),
            (3.0, 1.0, -3.0),
        ),
        ("number", "logvar", "number"),
        sizes=_sizes,
        whole_targets=range(100),
    ),
)
