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


def _of_large_order(order: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """As `bessel_orders`; with z = k / order, s = sqrt(1 + z^2) - 1 and p = 1 / (1 + s)."""
    z = k / order
    root = torch.hypot(torch.ones_like(z), z)
    s, p = z * (z / (1 + root)), 1 / root
    slope = [math.fsum([c / order ** (j + 1) for j, c in enumerate(of)]) for of in _BY_POWER]
    # What the terms are at p above what they are at 1, Stirling's series, is (p - 1) times this.
    value = [c / (j + 1) for j, c in enumerate(slope)]
    chord = [math.fsum(value[j:]) for j in range(len(value))]
    leading = order * (s - torch.log1p(0.5 * s)) - 0.5 * torch.log1p(s)
    log = leading - s * p * polynomial(tuple(chord), p)
    rest = p * p * (0.5 + p * polynomial(tuple(slope), p))
    return log, (1 / (2 + s) - rest / order) / order


def bessel_orders(order: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """Of an order n >= 0 and k >= 0, in float64.

    log(I_n(k) gamma(n + 1) (2 / k)^n), which is k^2 / (4 n + 4) for a small k, and
    I_(n+1)(k) / (k I_n(k)), which is 1 / (2 n + 2) there: both to full relative accuracy. The slope
    of the first is k times the second.
    """
    k = k.double()
    steps = max(0, math.ceil(_LARGE_ORDER - order))
    log, ratio = _of_large_order(order + steps, k)
    square, excesses = k * k, [torch.zeros_like(k)]
    for step in reversed(range(steps)):
        twice, excess = 2 * (order + step + 1), square * ratio
        excesses.append(excess / twice)
        ratio = 1 / (twice + excess)
    return log + torch.log1p(torch.stack(excesses)).sum(0), ratio
