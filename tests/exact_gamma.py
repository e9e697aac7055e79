"""lgamma and digamma in long double, which numpy has not: from 30 on by Stirling's series."""

from __future__ import annotations

import numpy as np

from tests.case import Exact

_FROM = 30
# B_2k / (2k (2k - 1)) and B_2k / (2k): the next term is below 1e-20 of the first.
_BERNOULLI = [
    np.longdouble(a) / b
    for a, b in ((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510))
]
_HALF_LOG_TWO_PI = np.log(np.arctan(np.longdouble(1)) * 8) / 2


def _series(z: Exact, divisor: int) -> Exact:
    value = np.zeros_like(z)
    for k in range(len(_BERNOULLI), 0, -1):
        value = value / (z * z) + _BERNOULLI[k - 1] / (2 * k * (2 * k - 1 if divisor else 1))
    return value


def lgamma(x: Exact) -> Exact:
    """For x > 0."""
    z = np.where(x < _FROM, x + _FROM, x)
    below = sum(np.log(x + i) for i in range(_FROM))
    large = (z - 0.5) * np.log(z) - z + _HALF_LOG_TWO_PI + _series(z, 1) / z
    return large - np.where(x < _FROM, below, 0)


def digamma(x: Exact) -> Exact:
    """For x > 0."""
    z = np.where(x < _FROM, x + _FROM, x)
    below = sum(1 / (x + i) for i in range(_FROM))
    large = np.log(z) - 0.5 / z - _series(z, 0) / (z * z)
    return large - np.where(x < _FROM, below, 0)
