"""Modified Bessel functions of any order from 0 on, in plain PyTorch, to float64's last digits.

Of large orders by the expansion that is uniform in k (DLMF 10.41), in logarithms; of small ones by
the recurrence down from there, whose terms all have one sign. (Orders 0 and 1 alone:
:mod:`vae_fast.engine.bessel_functions`.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.logarithms import polynomial

# From this order on the terms of the expansion are exact in float64.
_LARGE_ORDER = 24
_TERMS = 14


def _slopes_of_terms() -> tuple[tuple[float, ...], ...]:
    """Of log I's expansion, sum_k D_k(p) / order^k, the D_k'(p), from the constant on.

    By Bessel's equation for the logarithm:
    D_(k+1)' = p^2 (1 - p^2) / 2 (D_k'' + sum_(i+j=k) D_i' D_j') + (p - 2 p^3) D_k'.
    """
    size = 3 * _TERMS + 3
    terms = [[0.125, 0.0, -0.625] + [0.0] * (size - 3)]
    while len(terms) < _TERMS:
        last = terms[-1]
        inner = [(j + 1) * last[j + 1] for j in range(size - 1)] + [0.0]
        for a, b in zip(terms[:-1], reversed(terms[:-1]), strict=True):
            for i in range(size):
                for j in range(size - i):
                    inner[i + j] += a[i] * b[j]
        following = [0.0] * size
        for j in range(size):
            of_inner = (0.5 * inner[j - 2] if j >= 2 else 0) - (0.5 * inner[j - 4] if j >= 4 else 0)
            of_last = (last[j - 1] if j >= 1 else 0) - (2 * last[j - 3] if j >= 3 else 0)
            following[j] = of_inner + of_last
        terms.append(following)
    return tuple(tuple(term) for term in terms)


_BY_POWER = tuple(zip(*_slopes_of_terms(), strict=True))


def _slope_at(order: float) -> tuple[float, ...]:
    """Of all terms together, the slope in p as a polynomial in it."""
    return tuple(
        math.fsum([c / order ** (j + 1) for j, c in enumerate(terms)]) for terms in _BY_POWER
    )


def _stretch(order: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """With z = k / order: s = sqrt(1 + z^2) - 1, and p = 1 / (1 + s)."""
    z = k / order
    root = torch.hypot(torch.ones_like(z), z)
    return z * (z / (1 + root)), 1 / root


def _log_of_large_order(order: float, k: Tensor) -> Tensor:
    s, p = _stretch(order, k)
    value = [c / (j + 1) for j, c in enumerate(_slope_at(order))]
    # What the terms are at p above what they are at 1, Stirling's series, is (p - 1) times this.
    chord = tuple(math.fsum(value[j:]) for j in range(len(value)))
    leading = order * (s - torch.log1p(0.5 * s)) - 0.5 * torch.log1p(s)
    return leading - s * p * polynomial(chord, p)


def _ratio_of_large_order(order: float, k: Tensor) -> Tensor:
    s, p = _stretch(order, k)
    rest = p * p * (0.5 + p * polynomial(_slope_at(order), p))
    return (1 / (2 + s) - rest / order) / order


def _steps(order: float) -> int:
    """Down from a large order."""
    return max(0, math.ceil(_LARGE_ORDER - order))


def _ratios(order: float, k: Tensor) -> tuple[Tensor, list[Tensor]]:
    """That of the order, and of each step what the logarithm's argument is above 1."""
    steps = _steps(order)
    ratio, square, excesses = _ratio_of_large_order(order + steps, k), k * k, []
    for step in reversed(range(steps)):
        twice, excess = 2 * (order + step + 1), square * ratio
        excesses.append(excess / twice)
        ratio = 1 / (twice + excess)
    return ratio, excesses


def bessel_ratio(order: float, k: Tensor) -> Tensor:
    """Of an order n >= 0 and k >= 0, in float64: I_(n+1)(k) / (k I_n(k)); of 0 it is 1 / (2 n + 2).

    To full relative accuracy, as its slopes where they are not much less than it.
    """
    return _ratios(order, k.double())[0]


def bessel_orders(order: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """log(I_n(k) gamma(n + 1) (2 / k)^n), which is k^2 / (4 n + 4) for a small k; `bessel_ratio`.

    To full relative accuracy, as that. The slope of the first is k times the second.
    """
    k = k.double()
    ratio, excesses = _ratios(order, k)
    log = _log_of_large_order(order + _steps(order), k)
    if excesses:
        log = log + torch.log1p(torch.stack(excesses)).sum(0)
    return log, ratio
