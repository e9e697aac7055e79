"""Fits the polynomials of csrc/formulas/bessel_functions.h and prints them (needs mpmath).

By interpolation between Chebyshev's nodes in 60 digits, in u - 1/2 for u = FROM / k in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fit_gamma_functions import interpolate
from mpmath import mp, mpf


def scaled(nu: int, k: mpf) -> mpf:
    """The Bessel function I_nu(k), exp(-k) times; far out by its asymptotic series."""
    if k < 500:
        return mp.besseli(nu, k) * mp.exp(-k)
    term = total = mpf(1)
    for j in range(1, 40):
        term *= -(4 * nu * nu - (2 * j - 1) ** 2) / (8 * j * k)
        total += term
    return total / mp.sqrt(2 * mp.pi * k)


def rest(function: Callable[[mpf], mpf], start: int, u: mpf) -> mpf:
    return function(start / u)


def log_rest(k: mpf) -> mpf:
    """log I0(k) - k + log(2 pi k) / 2."""
    return mp.log(scaled(0, k)) + mp.log(2 * mp.pi * k) / 2


def ratio_rest(k: mpf) -> mpf:
    """k (1 - I1(k) / I0(k))."""
    return k * (1 - scaled(1, k) / scaled(0, k))


if __name__ == "__main__":
    for start, counts in ((6, (8, 10)), (16, (19, 20))):
        for function, count in zip((log_rest, ratio_rest), counts, strict=True):
            name, at = f"{function.__name__} from {start}", partial(rest, function, start)
            interpolate(name, at, count)
