"""Fits the polynomials of csrc/formulas/bessel_functions.h and prints them (needs mpmath).

By interpolation between Chebyshev's nodes in 60 digits: below FROM in 3 / (k + 3), brought to
[0, 1], from there on in FROM / k.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fit_gamma_functions import interpolate
from mpmath import mp, mpf

Exact = Callable[[mpf], mpf]


def scaled(nu: int, k: mpf) -> mpf:
    """The Bessel function I_nu(k), exp(-k) times; far out by its asymptotic series."""
    if k < 500:
        return mp.besseli(nu, k) * mp.exp(-k)
    term = total = mpf(1)
    for j in range(1, 40):
        term *= -(4 * nu * nu - (2 * j - 1) ** 2) / (8 * j * k)
        total += term
    return total / mp.sqrt(2 * mp.pi * k)


def log_near(k: mpf) -> mpf:
    """log I0(k) - k."""
    return mp.log(scaled(0, k))


def ratio_near(k: mpf) -> mpf:
    """(1 + 2 k) (1 - I1(k) / I0(k)), which is near 1."""
    return (1 + 2 * k) * (1 - scaled(1, k) / scaled(0, k))


def log_far(k: mpf) -> mpf:
    """log I0(k) - k + log(2 pi k) / 2."""
    return log_near(k) + mp.log(2 * mp.pi * k) / 2


def ratio_far(k: mpf) -> mpf:
    """k (1 - I1(k) / I0(k))."""
    return k * ratio_near(k) / (1 + 2 * k)


def in_near(f: Exact, start: int, u: mpf) -> mpf:
    return f(3 * mpf(start + 3) / (start * u + 3) - 3)


def in_far(f: Exact, start: int, u: mpf) -> mpf:
    return f(start / u)


if __name__ == "__main__":
    for start, counts in ((6, (15, 18, 8, 10)), (8, (34, 37, 26, 29))):
        fits = (in_near, log_near), (in_near, ratio_near), (in_far, log_far), (in_far, ratio_far)
        for (place, f), count in zip(fits, counts, strict=True):
            interpolate(f"{f.__name__} from {start}", partial(place, f, start), count)
