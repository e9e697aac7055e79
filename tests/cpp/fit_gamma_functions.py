"""Fits the polynomials of csrc/formulas/gamma_functions.h and prints them (needs NumPy, mpmath).

In float by the minimax fit of fit_polynomials.py. In double, whose polynomials are longer than that
fit can make in double, by interpolation between Chebyshev's nodes in 60 digits.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp
import numpy as np
from fit_polynomials import Array, Function, fit

Exact = Callable[[mp.mpf], mp.mpf]

mp.mp.dps = 60


def stirling(r: mp.mpf) -> mp.mpf:
    """s(r) / r, with lgamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 + s(1 / z)."""
    z = 1 / r
    return (mp.loggamma(z) - ((z - 0.5) * mp.log(z) - z + mp.log(2 * mp.pi) / 2)) * z


def digamma_rest(r: mp.mpf) -> mp.mpf:
    """d(r), with digamma(z) = log z - 1 / (2 z) - d(1 / z) / z**2."""
    return (mp.log(1 / r) - r / 2 - mp.digamma(1 / r)) / (r * r)


def trigamma_rest(r: mp.mpf) -> mp.mpf:
    """The t(r) of trigamma(z) = 1 / z + 1 / (2 z**2) + t(1 / z) / z**3.

    Its first and second integral give d and s: d_k = t_k / (k + 2), s_k = t_k / ((k + 1) (k + 2)).
    Fits of their own have slopes, at the ends, that are far less exact than their values.
    """
    return (mp.polygamma(1, 1 / r) - r - r * r / 2) / r**3


# The root of digamma.
ROOT = mp.mpf("1.46163214496836234126265954232572132846819620400645")


def lgamma1p_factor(y: mp.mpf) -> mp.mpf:
    """lgamma(1 + y) without its roots 0 and 1."""
    return mp.loggamma(1 + y) / (y * (y - 1))


def digamma1p_factor(y: mp.mpf) -> mp.mpf:
    """digamma(1 + y) without its root."""
    return mp.digamma(1 + y) / (1 + y - ROOT)


def in_floats(f: Exact) -> Function:
    def values(x: Array) -> Array:
        return np.array([float(f(mp.mpf(float(v)))) for v in x])

    return values


def ones(x: Array) -> Array:
    return np.full_like(x, 1 - 1e-9)


def print_floats(name: str, coefficients: list[float]) -> None:
    print(f"{name}:")
    print("   ", ", ".join(f"{c:.9e}f" for c in coefficients))


def interpolate(name: str, f: Exact, count: int) -> None:
    """Prints `count` double coefficients of f on [0, 1] in x - 1/2, lowest power first."""
    nodes = [mp.cos(mp.pi * (k + mp.mpf(1) / 2) / count) / 2 for k in range(count)]
    powers = mp.matrix([[x**k for k in range(count)] for x in nodes])
    solution = mp.lu_solve(powers, mp.matrix([f(x + 0.5) for x in nodes]))
    c = [float(v) for v in solution]
    grid = [mp.mpf(k) / 997 + mp.mpf("1e-9") for k in range(997)]
    error = max(abs(mp.polyval(c[::-1], x - 0.5) - f(x)) for x in grid)
    print(f"{name}: {float(error):.2g}")
    print("   ", ", ".join(f"{v:.17e}" for v in c))


def main() -> None:
    t = fit("trigamma_rest", in_floats(trigamma_rest), ones, lambda r: 2 * r, 1e-9, 1, 7)
    print_floats("digamma_rest", [c / (k + 2) for k, c in enumerate(t)])
    print_floats("stirling", [c / (k + 2) / (k + 1) for k, c in enumerate(t)])
    fit(
        "lgamma1p_factor",
        in_floats(lgamma1p_factor),
        in_floats(lambda y: mp.loggamma(1 + y)),
        lambda y: y * (y - 1),
        1e-9,
        1 - 1e-9,
        8,
    )
    fit(
        "digamma1p_factor",
        in_floats(digamma1p_factor),
        in_floats(lambda y: mp.digamma(1 + y)),
        lambda y: y + 1 - float(ROOT),
        1e-9,
        1,
        9,
    )
    interpolate("stirling", stirling, 30)
    interpolate("digamma_rest", digamma_rest, 33)
    interpolate("lgamma1p_factor", lgamma1p_factor, 21)
    interpolate("digamma1p_factor", digamma1p_factor, 21)


if __name__ == "__main__":
    main()
