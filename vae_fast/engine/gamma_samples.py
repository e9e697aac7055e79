"""Gamma variates of any concentration, by their logarithms: a small one's underflow."""

from __future__ import annotations

import torch
from torch import Tensor


def log_gamma_parts(concentration: Tensor) -> tuple[Tensor, Tensor]:
    """A Gamma variate as a number that does not underflow, times the exponential of another.

    Of a concentration a below 1 it is one of a + 1, times a uniform number to the power of 1 / a.
    """
    is_small = concentration < 1
    part = torch._standard_gamma(torch.where(is_small, concentration + 1, concentration))
    power = torch.empty_like(part).exponential_() / torch.where(is_small, concentration, 1)
    return part, torch.where(is_small, -power, 0).clamp(min=-1e30)


def log_gamma_sample(concentration: Tensor) -> Tensor:
    """The logarithm of one, with its gradient in the concentration (once: torch has no second)."""
    part, log = log_gamma_parts(concentration)
    return torch.log(part) + log
