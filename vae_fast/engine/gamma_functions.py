"""Functions of the gamma function in plain PyTorch, in pieces that do not cancel.

The large terms of Stirling's formula meet those of a likelihood; what is left are the rests here
(csrc/formulas/gamma_functions.h has the same). All of them differentiate to any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.logarithms import minus_log, polynomial

# From here on Stirling's series is exact in float64; below, nothing is large enough to cancel.
_SERIES_FROM = 10
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
# Of lgamma: B_2k / (2k (2k - 1)); of digamma: B_2k / (2k).
_LGAMMA_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def _stirling_step(z: Tensor) -> Tensor:
    """stirling_rest(z) - stirling_rest(z + 1) = (z + 1/2) log(1 + 1/z) - 1."""
    y = 1 / z
    near = 0.5 * y - (z + 0.5) * minus_log(y, 1 + y)[0]
    return torch.where(z < 1, (z + 0.5) * torch.log1p(y) - 1, near)


def stirling_rest(z: Tensor) -> Tensor:
    """lgamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), for z > 0; in float64, of small terms."""
    wide = z.double()
    is_large = wide > _SERIES_FROM
    small = torch.where(is_large, 1, wide)
    large = torch.where(is_large, wide, small + _SERIES_FROM)
    series = polynomial(_LGAMMA_SERIES, 1 / (large * large)) / large
    rest = series
    for i in reversed(range(_SERIES_FROM)):
        rest = rest + _stirling_step(small + i)
    return torch.where(is_large, series, rest).to(z.dtype)


def digamma_rest(z: Tensor) -> Tensor:
    """digamma(z) - log z, for z > 0; in float64, as what it is the difference of."""
    wide = z.double()
    is_large = wide > _SERIES_FROM
    large, small = torch.where(is_large, wide, 1), torch.where(is_large, 1, wide)
    square = 1 / (large * large)
    series = -(0.5 / large + square * polynomial(_DIGAMMA_SERIES, square))
    return torch.where(is_large, series, torch.digamma(small) - torch.log(small)).to(z.dtype)


def stirling_rest_ratio(x: Tensor, t: Tensor) -> Tensor:
    """lgamma(z) - lgamma(t) - (z log z - t log t - x) for z = x + t, x >= 0 and t > 0."""
    return stirling_rest(x + t) - stirling_rest(t) - 0.5 * torch.log1p(x / t)


def _chord(coefficients: tuple[float, ...], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A polynomial p at a, and (p(a) - p(b)) / (a - b), where a - b may be 0."""
    at_a, slope = torch.full_like(a, coefficients[-1]), torch.zeros_like(a)
    for coefficient in reversed(coefficients[:-1]):
        at_a, slope = at_a * a + coefficient, slope * b + at_a
    return at_a, slope


def digamma_rest_difference(x: Tensor, t: Tensor) -> Tensor:
    """digamma_rest(x + t) - digamma_rest(t), x >= 0 and t > 0.

    Exact relatively at a large t, by the chords of the series; a small one is raised first, by
    digamma(t) = digamma(t + 1) - 1 / t, whose differences have one sign.
    """
    is_large = t > _SERIES_FROM
    large = torch.where(is_large, t, t + _SERIES_FROM)
    a, b = 1 / large, 1 / (x + large)
    at_a, slope = _chord(_DIGAMMA_SERIES, a * a, b * b)
    series = (x * a * b) * (0.5 + (a + b) * (at_a + b * b * slope))
    small = torch.where(is_large, 1, t)
    raised = torch.log1p(x / (small + _SERIES_FROM)) - torch.log1p(x / small)
    for i in range(_SERIES_FROM):
        raised = raised + x / (small + i) / (x + small + i)
    return series + torch.where(is_large, 0, raised)


def lgamma_rest(z: Tensor) -> Tensor:
    """As stirling_rest, to the last bits of a float64's 1, not of itself.

    Below 10 it is the difference of which it is the rest: the compiler takes minutes over the ten
    steps there.
    """
    is_large = z > _SERIES_FROM
    large, small = torch.where(is_large, z, 1), torch.where(is_large, 1, z)
    series = polynomial(_LGAMMA_SERIES, 1 / (large * large)) / large
    leading = (small - 0.5) * torch.log(small) - small + _HALF_LOG_TWO_PI
    return torch.where(is_large, series, torch.lgamma(small) - leading)


def lgamma_bend(a: Tensor, b: Tensor) -> Tensor:
    """lgamma(b) - lgamma(a) - (b - a) digamma(a), without b log(b / a) - b + a: for KLs."""
    rests = (a - b) * digamma_rest(a) + (lgamma_rest(b) - lgamma_rest(a))
    return rests + 0.5 * (torch.log(a) - torch.log(b))


def dirichlet_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of two Dirichlet distributions, of two shares a Beta's, by their concentrations.

    Along the last dimension. By lgamma's bends at each and at their sums, and a multinomial's
    deviance of the means.
    """
    n, n_q = p.sum(-1, keepdim=True), q.sum(-1, keepdim=True)
    ratio = (p * n_q) / (q * n)
    each = lgamma_bend(p, q) + q * minus_log(ratio - 1, ratio)[0]
    return each.sum(-1) - lgamma_bend(n, n_q).squeeze(-1)


def at_least_one(x: Tensor) -> Tensor:
    """max(1, x), of slope 1 at 1, where releases of torch differ about that of clamp."""
    return torch.where(x < 1, 1, x)


def count_term(x: Tensor) -> tuple[Tensor, Tensor]:
    """lgamma(x + 1) - (x + 1/2) log(X) + x, X = max(1, x), and digamma(x + 1) - log(X), x >= 0."""
    is_small = x < 1
    small, large = torch.where(is_small, x, 0), torch.where(is_small, 1, x)
    value = torch.where(
        is_small, torch.lgamma(small + 1) + small, stirling_rest(large) + _HALF_LOG_TWO_PI
    )
    return value, torch.where(is_small, torch.digamma(small + 1), 1 / large + digamma_rest(large))


def count_deviance(x: Tensor, mean: Tensor, excess: Tensor) -> tuple[Tensor, Tensor]:
    """(mean - x) - x log(mean / X), X = max(1, x), and the logarithm: what count_term leaves out.

    ``excess`` is mean - x, as exact as it is to be. A mean of 0 gives finite numbers.
    """
    is_small, top = x < 1, at_least_one(x)
    above = torch.where(is_small, mean - 1, excess / top)
    u = mean / top
    of_share, log = minus_log(above, torch.where(u > 0, u, 1))
    return torch.where(is_small, excess - x * log, x * of_share), log


def choose_term(hits: Tensor, misses: Tensor, all_: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """-log(n choose k) without the terms of count_deviance at k and at n - k.

    Beside it count_term's slopes of the hits, the misses and all of them.
    """
    counts = (hits, misses, all_)
    (h, in_h), (m, in_m), (n, in_n) = (count_term(x) for x in counts)
    log_h, log_m, log_n = (torch.log(at_least_one(x)) for x in counts)
    return 0.5 * ((log_h - log_n) + log_m) + ((h - n) + m), (in_h, in_m, in_n)
