"""The rows of Student's t likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import StudentT

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal, positive
from tests.exact_gamma import digamma, lgamma

_PI = np.arctan(np.longdouble(1)) * 4


def _exact_student_t_nll(mean: Exact, log_scale: Exact, df: Exact, x: Exact) -> tuple[Exact, ...]:
    scale, half = np.exp(log_scale), (df + 1) / 2
    z = (x - mean) / scale
    w = z * z / df
    constant = np.log(df * _PI) / 2 + lgamma(df / 2) - lgamma(half)
    slope = (df + 1) * z / (df + z * z) / scale
    of_digammas = digamma(df / 2) - digamma(half)
    in_df = (1 / df + of_digammas + np.log1p(w) - w / (1 + w) * (1 + 1 / df)) / 2
    value = log_scale + constant + half * np.log1p(w)
    return value, -slope, 1 - z * slope * scale, in_df, slope


def _torch_student_t_nll(mean: Tensor, log_scale: Tensor, df: Tensor, target: Tensor) -> Tensor:
    return -StudentT(df, mean, log_scale.exp(), validate_args=False).log_prob(target)


def _student_t_nll(
    mean: Tensor, log_scale: Tensor, df: Tensor, target: Tensor, **options: Any
) -> Tensor:
    return vf.student_t_nll(mean, target, log_scale, df, **options)


def _with_freedom(operands: list[Tensor]) -> list[Tensor]:
    mean, log_scale, df, target = operands
    return [mean, log_scale, df.abs().clamp(min=1e-3), target]


def _sizes(
    value: Tensor,
    slopes: tuple[Tensor, ...],
    mean: Tensor,
    log_scale: Tensor,
    df: Tensor,
    x: Tensor,
) -> AllSizes:
    """All terms of the value but log_scale are positive; those in df are, too, but one."""
    share = (1 - slopes[1]) / (df + 1)
    w = ((x - mean) * torch.exp(-log_scale)).square() / df
    of_df = torch.minimum(1 / df, 1 / df.square())
    in_df = 2 * of_df + torch.log1p(w) - share + share * share + share / df
    return (
        log_scale.abs() + (value - log_scale) + 1 + (1 - slopes[1]),
        (slopes[0].abs(), 2 - slopes[1], in_df, slopes[3].abs()),
    )


ROWS = (
    Case(
        "student_t_nll",
        _student_t_nll,
        _torch_student_t_nll,
        _exact_student_t_nll,
        (normal(), normal(0.5), positive(0.5), normal()),  # z^2 / df is a float16
        (
            (0.5, 80.0, 3.0, 0.25),
            (0.5, -40.0, 3.0, 0.25),
            (0.5, -300.0, 3.0, 0.5),
            (1e4, -200.0, 2.0, 0.0),
            (0.0, -100.0, 1e-6, 1e-30),
            (0.0, 0.0, 1e7, 1.5),
            (0.0, 0.0, 1e-6, 1.5),
        ),
        ("number", "logvar", "positive", "number"),
        _with_freedom,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.StudentT, ((-1.0, 0.3, 2.0), (-1.0, 0.0, 0.4), (9.0, 12.0, 1e7)), math.nan
)
