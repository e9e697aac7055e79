"""The rows of the Bernoulli likelihood."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor, nn

import vae_fast as vf
from tests.case import AllSizes, Case, Distributed, Exact, normal, to_unit_interval, unit_interval


def _exact_bernoulli(logits: Exact, target: Exact) -> tuple[Exact, ...]:
    value = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-abs(logits)))
    return value, 1 / (1 + np.exp(-logits)) - target, -logits


def _exact_bernoulli_probs(p: Exact, x: Exact) -> tuple[Exact, ...]:
    log_p, log_q = np.log(p), np.log1p(-p)
    return -x * log_p - (1 - x) * log_q, (1 - x) / (1 - p) - x / p, log_q - log_p


def _sizes(value: Tensor, slopes: tuple[Tensor, ...], logits: Tensor, x: Tensor) -> AllSizes:
    own = torch.sigmoid(-logits.abs())
    return value, (own + torch.where(logits > 0, 1 - x, x), slopes[1].abs())


def _sizes_of_probs(value: Tensor, slopes: tuple[Tensor, ...], p: Tensor, x: Tensor) -> AllSizes:
    floor = 1e-12
    product = p.clamp(min=floor) * (1 - p).clamp(min=floor)
    in_probs = torch.where(p < 0.5, p + x, 2 - x - p) / product
    logs = -torch.log(p).clamp(min=-100) - torch.log1p(-p).clamp(min=-100)
    return value, (in_probs, logs)


ROWS = (
    Case(
        "bernoulli_nll",
        vf.bernoulli_nll,
        partial(nn.functional.binary_cross_entropy_with_logits, reduction="none"),
        _exact_bernoulli,
        (normal(3.0), unit_interval()),
        ((1e4, 0.0), (1e4, 1.0), (-1e4, 0.3), (30.0, 1.0), (90.0, 1.0), (-90.0, 0.0), (1e-40, 0.5)),
        ("logit", "unit"),
        to_unit_interval,
        _sizes,
    ),
    Case(
        "bernoulli_probs_nll",
        partial(vf.bernoulli_nll, from_probs=True),
        partial(nn.functional.binary_cross_entropy, reduction="none"),
        _exact_bernoulli_probs,
        (unit_interval(0.02), unit_interval()),
        ((1e-11, 1.0), (1e-11, 0.0), (0.999999, 1.0), (0.999999, 0.0), (0.5, 1e-40)),
        ("prob", "unit"),
        to_unit_interval,
        _sizes_of_probs,
    ),
)

DISTRIBUTION = Distributed(
    vf.distributions.Bernoulli,
    ((-2.0, 0.0, 5.0),),
    0.5,
    lambda p: td.Bernoulli(logits=p.logits),
    ((-20.0, 0.1, 30.0),),
)
