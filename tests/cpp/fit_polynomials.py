"""Fits the polynomials of csrc/formulas/elementary.h and prints their coefficients (needs NumPy).

Each is a minimax fit (Lawson's algorithm) of the function's own series, weighted by what an error
means in units of the last place of the float result. The coefficients are rounded to float one by
one, lowest power first, and the rest fitted again around them. Against fits of the relative error
this saves a coefficient in exp, log and log1p and halves the error of log1p on [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]


def lawson(y: Array, basis: Array, weight: Array, steps: int) -> tuple[float, Array]:
    """Returns the smallest maximum of weight * |basis @ c - y| that was found, and its c."""
    mass = np.ones_like(y)
    best = math.inf
    best_c: Array = np.zeros(basis.shape[1])
    for _ in range(steps):
        root = np.sqrt(mass) * weight
        solution = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        c = np.asarray(solution, dtype=np.float64)
        error = np.abs((basis @ c - y) * weight)
        if error.max() < best:
            best, best_c = float(error.max()), c
        mass *= error
        mass /= mass.sum()
    return best, best_c


def fit(
    name: str, f: Function, result: Function, slope: Function, low: float, high: float, degree: int
) -> list[float]:
    """Fits f on [low, high], where an error in f makes slope(x) times as much in result(x)."""
    nodes = np.cos(np.pi * (np.arange(3000) + 0.5) / 3000)
    x = (low + high) / 2 + (high - low) / 2 * nodes
    weight = np.abs(slope(x)) / 2.0 ** (np.floor(np.log2(np.abs(result(x)))) - 23)
    rest = f(x)
    coefficients: list[float] = []
    for power in range(degree + 1):
        basis = x[:, None] ** np.arange(power, degree + 1)
        _, c = lawson(rest, basis, weight, steps=400 if power == 0 else 150)
        coefficients.append(float(np.float32(c[0])))
        rest = rest - coefficients[-1] * x**power
    error = np.abs(rest * weight).max()
    print(f"{name}: {error:.3f} ULP")
    print("   ", ", ".join(f"{c:.9e}f" for c in coefficients))
    return coefficients


def exp_series(start: int) -> Function:
    """(exp(x) - its first `start` terms) / x**start."""
    return lambda x: sum((x**k / math.factorial(k + start) for k in range(22)), np.zeros_like(x))


def log1p_tail(x: Array) -> Array:
    """(log(1 + x) - x + x**2 / 2) / x**3."""
    series = sum(((-x) ** k / (k + 3) for k in range(80)), np.zeros_like(x))
    return np.where(np.abs(x) < 0.06, series, (np.log1p(x) - x + x * x / 2) / x**3)


def atanh_tail(v: Array) -> Array:
    """(2 atanh(z / 2) - z) / z**3 at v = z**2."""
    return sum((v**k / ((2 * k + 3) * 4 ** (k + 1)) for k in range(40)), np.zeros_like(v))


def sine_of_root(t: Array) -> Array:
    """sin(pi / 2 * f) / f at t = f**2."""
    return sum(
        ((math.pi / 2) ** (2 * k + 1) * (-t) ** k / math.factorial(2 * k + 1) for k in range(12)),
        np.zeros_like(t),
    )


def cosine_tail_of_root(t: Array) -> Array:
    """(cos(pi / 2 * f) - 1) / f**2 at t = f**2."""
    return -sum(
        ((math.pi / 2) ** (2 * k + 2) * (-t) ** k / math.factorial(2 * k + 2) for k in range(12)),
        np.zeros_like(t),
    )


def main() -> None:
    half = math.log(2) / 2 * 1.001
    root = math.sqrt(0.5)
    fit("exp: expm1_reduced", exp_series(2), np.exp, np.square, -half, half, 4)
    fit(
        "half_expm1",
        exp_series(3),
        lambda x: exp_series(2)(x) * x * x,
        lambda x: x**3,
        -1,
        1,
        6,
    )
    fit("log_reduced", log1p_tail, np.log1p, lambda x: x**3, root - 1, 2 * root - 1, 7)
    fit("log1p_unit", log1p_tail, np.log1p, lambda x: x**3, 1e-9, 1, 7)
    # In v = z**2, whose power 3 / 2 an error is multiplied with.
    fit(
        "log1p_by_division",
        atanh_tail,
        lambda v: 2 * np.arctanh(np.sqrt(v) / 2),
        lambda v: v**1.5,
        1e-9,
        4 / 9,
        3,
    )
    # In t = f**2: the sine's error is weighted by f, the cosine's by f**2.
    fit("sine", sine_of_root, lambda t: np.sin(math.pi / 2 * np.sqrt(t)), np.sqrt, 1e-9, 0.25, 3)
    fit(
        "cosine",
        cosine_tail_of_root,
        lambda t: np.cos(math.pi / 2 * np.sqrt(t)),
        lambda t: t,
        0,
        0.25,
        3,
    )


if __name__ == "__main__":
    main()
