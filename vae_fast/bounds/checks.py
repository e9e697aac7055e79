"""Checks of what a bound is made of; see :mod:`vae_fast.engine.checks`."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from vae_fast.bounds.estimators import ESTIMATORS, Estimator, Settings
from vae_fast.engine.checks import (
    FLOATS,
    check_choice,
    check_kind,
    check_reduction_name,
    check_tensor,
    is_int,
    is_number,
    shown,
)
from vae_fast.engine.shapes import fits_into, same_shape


def check_log_weights(function: str, log_weights: Any, reduction: Any) -> None:
    """Raises unless they are floats (K, *batch), and the reduction is one."""
    check_tensor(function, "log_weights", log_weights)
    check_kind(function, "log_weights", log_weights, FLOATS, "log_weights", log_weights)
    check_reduction_name(function, reduction)
    if log_weights.dim() < 1 or log_weights.shape[0] == 0:
        raise ValueError(
            f"{function}: log_weights has shape {shown(log_weights.shape)}, expected (K, *batch), "
            f"with K at least 1"
        )


def estimator_of(function: str, estimator: Any) -> Estimator:
    """The row of the table that has this name; raises unless there is one."""
    check_choice(function, "estimator", estimator, ESTIMATORS)
    return ESTIMATORS[estimator]


def check_settings(
    function: str, estimator: str, num_samples: int, alpha: Any = None, groups: Any = None
) -> None:
    """Raises unless an estimator of the table takes these, and has what it cannot be without."""
    row = ESTIMATORS[estimator]
    for name, value, is_needed in (
        ("alpha", alpha, row.alpha is None),
        ("groups", groups, row.takes == ("groups",)),
    ):
        if value is not None and name not in row.takes:
            raise ValueError(f"{function}: {name} is {value}, which estimator {estimator!r} lacks")
        if value is None and is_needed:
            raise ValueError(
                f"{function}: {name} is missing, expected with estimator {estimator!r}"
            )
    if alpha is not None:
        if not is_number(alpha):
            raise TypeError(f"{function}: alpha is of type {type(alpha).__name__}, expected float")
        if not math.isfinite(alpha) or (estimator == "ciwae" and not 0 <= alpha <= 1):
            expected = "0 to 1" if estimator == "ciwae" else "a finite number"
            raise ValueError(f"{function}: alpha is {alpha}, expected {expected}")
    if groups is not None:
        if not is_int(groups):
            raise TypeError(f"{function}: groups is of type {type(groups).__name__}, expected int")
        if groups < 1 or num_samples % groups:
            raise ValueError(
                f"{function}: groups is {groups}, expected a divisor of the number of samples, "
                f"{num_samples}"
            )
    if num_samples < 2 and row.independent and not row.has_path:
        raise ValueError(
            f"{function}: there is one sample, expected at least 2 with estimator {estimator!r}, "
            f"which compares each with the others"
        )


def settings_of(
    function: str, estimator: str, log_weights: Tensor, alpha: Any, groups: Any, baseline: Any
) -> Settings:
    """The settings of a call, checked, with what an estimator has where they are not given."""
    row = ESTIMATORS[estimator]
    check_settings(function, estimator, log_weights.shape[0], alpha, groups)
    if baseline is None:
        baseline = 0.0
    elif "baseline" not in row.takes:
        raise ValueError(f"{function}: baseline is given, which estimator {estimator!r} lacks")
    elif isinstance(baseline, Tensor):
        check_kind(function, "baseline", baseline, FLOATS, "log_weights", log_weights)
        if not fits_into(baseline.shape, log_weights.shape):
            raise ValueError(
                f"{function}: baseline has shape {shown(baseline.shape)}, expected one that "
                f"broadcasts to that of log_weights, {shown(log_weights.shape)}"
            )
        baseline = baseline.detach()
    elif not is_number(baseline):
        raise TypeError(
            f"{function}: baseline is of type {type(baseline).__name__}, expected float or Tensor"
        )
    order = row.alpha if alpha is None else float(alpha)
    assert order is not None
    return Settings(order, 1 if groups is None else int(groups), baseline)


def check_parts(
    function: str, estimator: str, log_weights: Tensor, log_q: Tensor | None, path: Tensor | None
) -> None:
    """``log_q`` and ``path``: there where they are wanted, and of the right shape."""
    row, shape = ESTIMATORS[estimator], log_weights.shape
    for name, part, expected in (("log_q", log_q, shape), ("path", path, (2, *shape))):
        if part is None:
            if name in row.wants:
                raise ValueError(
                    f"{function}: {name} is missing, expected with estimator {estimator!r}"
                )
            continue
        if name not in row.wants:
            raise ValueError(f"{function}: {name} is given, which estimator {estimator!r} lacks")
        check_tensor(function, name, part)
        check_kind(function, name, part, FLOATS, "log_weights", log_weights)
        if not same_shape(part.shape, expected):
            raise ValueError(
                f"{function}: {name} has shape {shown(part.shape)}, expected {shown(expected)} for "
                f"log_weights {shown(shape)}"
            )
