"""The rows of the discretized logistic likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal, unit_interval


def _exact_discretized_logistic_nll(
    mean: Exact, log_scale: Exact, levels: Exact, x: Exact
) -> tuple[Exact, ...]:
    step, inverse = 1 / (levels - 1), np.exp(-log_scale)
    a, b = ((x - mean + half) * inverse for half in (step / 2, -step / 2))
    is_lowest, is_highest = x < step / 2, x > 1 - step / 2
    is_inside, width = ~(is_lowest | is_highest), step * inverse
    of_a = np.where(is_highest, 0, np.logaddexp(0, -a))
    of_b = np.where(is_lowest, 0, np.logaddexp(0, b))
    of_mass = np.where(is_inside, np.log(-np.expm1(-width)), 0)
    to_a = np.where(is_highest, 0, 1 / (1 + np.exp(a)))
    to_b = np.where(is_lowest, 0, 1 / (1 + np.exp(-b)))
    to_mass = np.where(is_inside, width / np.expm1(width), 0)
    slope = (to_a - to_b) * inverse
    in_log_scale = to_mass + to_a * a - to_b * b
    in_levels = step * (to_mass + step / 2 * (to_a + to_b) * inverse)
    return of_a + of_b - of_mass, slope, in_log_scale, in_levels, -slope


def _torch_discretized_logistic_nll(
    mean: Tensor, log_scale: Tensor, levels: Tensor, target: Tensor
) -> Tensor:
    """As PixelCNN++'s code has it, with its floor, and without its fallback to the density."""
    half, inverse = 0.5 / (levels - 1), torch.exp(-log_scale)
    a, b = (target + half - mean) * inverse, (target - half - mean) * inverse
    inside = torch.log((torch.sigmoid(a) - torch.sigmoid(b)).clamp(min=1e-12))
    lowest = a - torch.nn.functional.softplus(a)
    highest = -torch.nn.functional.softplus(b)
    at_most = torch.where(target > 1 - half, highest, inside)
    return -torch.where(target < half, lowest, at_most)


def _discretized_logistic_nll(
    mean: Tensor, log_scale: Tensor, levels: Tensor, target: Tensor, **options: Any
) -> Tensor:
    return vf.discretized_logistic_nll(mean, target, log_scale, levels, **options)


def _levels(shape: tuple[int, ...]) -> Tensor:
    """Few, a number between whole ones too, so that there are tails."""
    return 3 + 10 * unit_interval()(shape)


def _log_scale(shape: tuple[int, ...]) -> Tensor:
    """Not beside which a level is nothing: the gradient in it would be all but 1."""
    return normal(0.3)(shape) - 1


def _to_its_domain(operands: list[Tensor]) -> list[Tensor]:
    mean, log_scale, levels, target = operands
    return [mean, log_scale, 2 + levels.abs(), target.sigmoid()]


def _sizes(
    value: Tensor,
    slopes: tuple[Tensor, ...],
    mean: Tensor,
    log_scale: Tensor,
    levels: Tensor,
    x: Tensor,
) -> AllSizes:
    """A position is wrong by what x, mean and their difference are rounded by, over the scale."""
    step, inverse = 1 / (levels - 1), torch.exp(-log_scale)
    width, position = step * inverse, (x + mean.abs() + step) * inverse
    a, b = ((x - mean + half) * inverse for half in (step / 2, -step / 2))
    to_a = torch.where(x > 1 - step / 2, 0, torch.sigmoid(-a))
    to_b = torch.where(x < step / 2, 0, torch.sigmoid(b))
    to_mass = width * torch.exp(-width) / -torch.expm1(-width) * (1 + width)
    both = to_a + to_b + (to_a * torch.sigmoid(a) + to_b * torch.sigmoid(-b)) * position
    in_mean, in_log_scale = both * inverse, to_mass + both * position
    sizes = (in_mean, in_log_scale, step * (to_mass + step * in_mean), in_mean)
    return value + to_mass + (to_a + to_b) * position, sizes


ROWS = (
    Case(
        "discretized_logistic_nll",
        _discretized_logistic_nll,
        _torch_discretized_logistic_nll,
        _exact_discretized_logistic_nll,
        (unit_interval(), _log_scale, _levels, unit_interval()),
        (
            (0.5, -7.69, 256.0, 0.525),
            (0.5, -300.0, 256.0, 0.5),
            (0.2, -80.0, 256.0, 0.9),
            (0.3, 50.0, 256.0, 0.3),
            (0.3, -3.0, 65536.0, 0.7),
            (0.3, -2.0, 2.0, 1.0),
            (0.3, -2.0, 256.0, 0.0),
            (-1e4, 0.0, 256.0, 1.0),
            (0.9, -6.0, 256.0, 1.0),
        ),
        ("number", "logvar", "levels", "unit"),
        _to_its_domain,
        _sizes,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.DiscretizedLogistic, ((-0.1, 0.3, 0.7), (-2.0, -6.0, -1.0)), 0.3
)
