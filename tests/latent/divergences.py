"""The rows of the divergences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import vae_fast as vf
from tests.case import AllSizes, Case, Exact, normal


def _exact_expm1_minus(x: Exact) -> Exact:
    """exp(x) - 1 - x: by its series near 0, where long double would cancel too."""
    term = series = x * x / 2
    for k in range(3, 28):
        term = term * x / k
        series = series + term
    return np.where(abs(x) < 1, series, np.expm1(x) - x)


def _exact_standard_normal_kl(mu: Exact, logvar: Exact) -> tuple[Exact, ...]:
    return (mu * mu + _exact_expm1_minus(logvar)) / 2, mu, np.expm1(logvar) / 2


def _exact_gaussian_kl(mu: Exact, logvar: Exact, m: Exact, v: Exact) -> tuple[Exact, ...]:
    precision, excess = np.exp(-v), np.expm1(logvar - v)
    slope, square = (mu - m) * precision, (mu - m) ** 2 * precision
    value = (square + _exact_expm1_minus(logvar - v)) / 2
    return value, slope, excess / 2, -slope, -(square + excess) / 2


def _torch_standard_normal_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


def _torch_gaussian_kl(mu: Tensor, logvar: Tensor, m: Tensor, v: Tensor) -> Tensor:
    q = Normal(mu, (0.5 * logvar).exp(), validate_args=False)
    return kl_divergence(q, Normal(m, (0.5 * v).exp(), validate_args=False))


def _gaussian_sizes(
    value: Tensor, slopes: tuple[Tensor, ...], mu: Tensor, logvar: Tensor, m: Tensor, v: Tensor
) -> AllSizes:
    """The difference of the log-variances is rounded, and its exponential multiplies that."""
    y = logvar - v
    of_difference = torch.exp(y) * y.abs()
    excess = 0.5 * (torch.expm1(y).abs() + of_difference)
    square = (2 * slopes[3] + torch.expm1(y)).abs()
    size = value + torch.expm1(y).abs() * y.abs()
    return size, (slopes[0].abs(), excess, slopes[2].abs(), excess + 0.5 * square)


ROWS = (
    Case(
        "standard_normal_kl",
        vf.gaussian_kl,
        _torch_standard_normal_kl,
        _exact_standard_normal_kl,
        (normal(), normal()),
        (
            (0.0, 0.0),
            (0.0, 1e-4),
            (0.0, -1e-7),
            (1e-20, 0.0),
            (3.0, 80.0),
            (3.0, -80.0),
            (1.0, -210.0),
            (3.0, 88.8),
            (0.0, 89.4),
            (2e19, 0.0),
        ),
        ("number", "logvar"),
    ),
    Case(
        "gaussian_kl",
        vf.gaussian_kl,
        _torch_gaussian_kl,
        _exact_gaussian_kl,
        (normal(), normal(), normal(), normal()),
        (
            (0.5, -80.0, 0.5, 80.0),
            (0.5, 40.0, 0.5, -40.0),
            (0.5, -200.0, 0.5, -200.0),
            (0.5, -210.0, 0.5, 0.0),
            (1e-30, -140.0, 0.0, -140.0),
            (2.0, 1e-4, 2.0, 0.0),
            (0.5, 49.0, 0.5, -40.0),
            (2e19, 0.0, 0.0, 0.0),
        ),
        ("number", "logvar", "number", "logvar"),
        sizes=_gaussian_sizes,
    ),
)
