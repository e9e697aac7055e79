"""The rows of the von Mises likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal

_FROM = 500  # from here on the asymptotic series, below the recurrence of so many steps
_STEPS = 320
_LOG_TWO_PI = np.log(np.arctan(np.longdouble(1)) * 8)
_SERIES = [np.longdouble(a) / b for a, b in ((1, 8), (1, 16), (25, 384), (13, 128), (1073, 5120))]


def _bessel(log_k: Exact) -> tuple[Exact, Exact]:
    """log I0(k) - k and k (1 - I1(k) / I0(k)), by Miller's recurrence of positive terms."""
    k = np.exp(log_k)
    near, far = np.minimum(k, _FROM), np.maximum(k, _FROM)
    ratio, above = np.zeros_like(k), np.zeros_like(k)
    for n in range(_STEPS, 0, -1):
        ratio = near / (2 * n + near * ratio)  # I_n / I_(n - 1)
        above = ratio * (1 + above)
    series = [c / far**n for n, c in enumerate(_SERIES, 1)]
    log_far = sum(series) - (_LOG_TWO_PI + log_k) / 2
    rest_far = 0.5 + sum(n * c for n, c in enumerate(series, 1))
    # exp(k) = I0 + 2 (I1 + I2 + ...)
    return (
        np.where(k > _FROM, log_far, -np.log1p(2 * above)),
        np.where(k > _FROM, rest_far, near * (1 - ratio)),
    )


def _exact_von_mises_nll(mean: Exact, log_concentration: Exact, x: Exact) -> tuple[Exact, ...]:
    k, half = np.exp(log_concentration), (x - mean) / 2
    log_rest, ratio_rest = _bessel(log_concentration)
    excess, slope = 2 * k * np.sin(half) ** 2, 2 * k * np.sin(half) * np.cos(half)
    return _LOG_TWO_PI + log_rest + excess, -slope, excess - ratio_rest, slope


def _torch_von_mises_nll(mean: Tensor, log_concentration: Tensor, target: Tensor) -> Tensor:
    """Not VonMises.log_prob, whose polynomials are float32's in float64, too."""
    k = log_concentration.exp()
    return math.log(2 * math.pi) + torch.special.i0e(k).log() + k * (1 - torch.cos(target - mean))


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


def _around(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """On the circle."""
    return torch.sin(x - mean), 1 - torch.cos(x - mean)


DISTRIBUTION = Distributed(
    vf.distributions.VonMises, ((-1.0, 0.3, 2.0), (-2.0, 0.0, 4.0)), math.nan, around=_around
)
