"""Formulas of csrc/formulas against mpmath, as compiled for each instruction set.

An oracle gives for the value and the gradient in each operand the exact number and its size: that
of what it is the difference of, or how much an operand's own rounding moves it. Errors are counted
in units of the last place of the larger one of the two.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

mp.mp.dps = 120
ORACLE_DIGITS = mp.mpf("1e-90")  # below, its own sums have lost what is asked for
ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    *("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
    *("-fopenmp-simd", "-fno-thread-jumps", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
    *("-shared", "-fPIC"),
]
SETS = {
    "base": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
}


def runs_here(name: str) -> bool:
    flags = Path("/proc/cpuinfo").read_text().split()
    return all(f.removeprefix("-m") in flags for f in SETS[name])


@pytest.fixture(scope="session", params=[name for name in SETS if runs_here(name)])
def library(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("formulas") / f"{request.param}.so"
    source = ROOT / "tests/cpp/formula_library.cpp"
    command = [os.environ.get("CXX", "g++"), *FLAGS, *SETS[request.param], f"-I{ROOT}/csrc"]
    subprocess.run([*command, str(source), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def evaluate(library, name, operands, dtype):
    """The value and the gradients in the operands: arrays."""
    operands = [np.ascontiguousarray(x, dtype=dtype) for x in operands]
    n = len(operands[0])
    outputs = [np.full(n, np.nan, dtype=dtype) for _ in range(len(operands) + 1)]
    function = library.evaluate_float if dtype == np.float32 else library.evaluate_double
    function.restype = ctypes.c_bool
    pointers = [
        (ctypes.c_void_p * len(x))(*(a.ctypes.data for a in x)) for x in (operands, outputs)
    ]
    assert function(name.encode(), *pointers, ctypes.c_int64(n)), name
    return outputs


def lgamma_difference(x, t):
    to_x, to_t = mp.digamma(x + t), mp.digamma(x + t) - mp.digamma(t)
    return [(mp.loggamma(x + t) - mp.loggamma(t), x), (to_x, max(1, -mp.log(t))), (to_t, 0)]


def negative_binomial(mu, theta, x):
    if mu == 0 < x:
        return [(mp.inf, 0), (-mp.inf, 0), *negative_binomial(mp.mpf("1e-99"), theta, x)[2:3], None]
    n, m = x + theta, mu + theta
    value = mp.loggamma(theta) - mp.loggamma(n) + mp.loggamma(x + 1) + theta * mp.log1p(mu / theta)
    if x:
        value += x * mp.log1p(theta / mu)
    of_mean = (mu - x) * theta / (mu * m) if x else theta / m
    of_theta = mp.log(m / n) + (n - m) / m
    rest = mp.log(n / theta) - mp.digamma(n) + mp.digamma(theta)
    of_x = mp.digamma(x + 1) - mp.digamma(n) + mp.log1p(theta / mu) if mu else None
    return [
        (value, 0),
        (of_mean, 0),
        (of_theta + rest, of_theta),
        of_x and (of_x, max(1, -mp.log(theta))),
    ]


def poisson(log_rate, x):
    rate = mp.exp(log_rate)
    value = rate - x * log_rate + mp.loggamma(x + 1)
    return [(value, abs(rate - x)), (rate - x, x), (mp.digamma(x + 1) - log_rate, 1)]


def zero_inflated(count, zero_logit, x):
    """From the results for the counts; the gradient in the logit goes before the target's."""
    (nll, size), *gradients = count
    inflated = 1 / (1 + mp.exp(-zero_logit))
    if x > 0:
        value, to_nll, to_logit = nll + mp.log1p(mp.exp(zero_logit)), 1, inflated
    else:
        counted = (1 - inflated) * mp.exp(-nll)
        value, to_nll = -mp.log(inflated + counted), counted / (inflated + counted)
        to_logit = inflated * (1 - inflated) * mp.expm1(-nll) / (inflated + counted)
    power = 0 if x > 0 else abs(nll) + abs(zero_logit)  # of the exponentials among the factors
    scaled = [g and (to_nll * g[0], to_nll * max(g[1], power * abs(g[0]))) for g in gradients]
    own = (to_logit, power * abs(to_logit))
    return [(value, to_nll * size), *scaled[:-1], own, scaled[-1]]


def zero_inflated_poisson(log_rate, zero_logit, x):
    return zero_inflated(poisson(log_rate, x), zero_logit, x)


def zero_inflated_negative_binomial(mu, theta, zero_logit, x):
    return zero_inflated(negative_binomial(mu, theta, x), zero_logit, x)


def gamma(concentration, rate, x):
    mean = rate * x
    if x == 0:
        value = -mp.log(rate) if concentration == 1 else (concentration - 1) * mp.inf
        return [(value, 0), None, (-concentration / rate, 0), None]
    log_mean = mp.log(mean)
    value = mp.loggamma(concentration) - concentration * log_mean + mp.log(x) + mean
    distance = abs(mean - concentration)
    return [
        (value, max(1, distance, abs(mp.log(x)), abs(mp.log(concentration)))),
        (mp.digamma(concentration) - log_mean, max(1, abs(log_mean), 1 / concentration)),
        (x - concentration / rate, x),
        (rate - (concentration - 1) / x, rate),
    ]


def student_t(mean, log_scale, df, x):
    scale = mp.exp(log_scale)
    z = (x - mean) / scale
    w = z * z / df
    half = (df + 1) / 2
    constant = mp.log(df * mp.pi) / 2 + mp.loggamma(df / 2) - mp.loggamma(half)
    slope = (df + 1) * z / (df + z * z) / scale
    terms = [
        (1 / df + mp.digamma(df / 2) - mp.digamma(half)) / 2,
        (mp.log1p(w) - w / (1 + w)) / 2,
        -w / (1 + w) / df / 2,
    ]
    power = abs(slope) * max(1, abs(log_scale))
    return [
        (log_scale + constant + half * mp.log1p(w), max(1, abs(log_scale * z * slope * scale))),
        (-slope, power),
        (1 - z * slope * scale, max(1, abs(log_scale * z * slope * scale))),
        (sum(terms), max(map(abs, terms)) * max(1, abs(log_scale))),
        (slope, power),
    ]


def laplace(mean, log_scale, x):
    size = mp.exp(-log_scale)
    distance, slope = abs(x - mean) * size, mp.sign(x - mean) * size
    power = max(1, abs(log_scale))
    return [
        (mp.log(2) + log_scale + distance, max(abs(log_scale), power * distance)),
        (-slope, power * size),
        (1 - distance, power * max(1, distance)),
        (slope, power * size),
    ]


def log_normal(mean, logvar, x):
    if x == 0:
        return [(mp.inf, 0), None, None, None]
    distance, precision = mean - mp.log(x), mp.exp(-logvar)
    square, slope = distance**2 * precision / 2, distance * precision
    power = max(1, abs(logvar), abs(mean))
    value = square + logvar / 2 + mp.log(2 * mp.pi) / 2 + mp.log(x)
    return [
        (value, power * max(1, square, abs(slope), abs(mp.log(x)))),
        (slope, power * max(precision, abs(slope))),
        (mp.mpf(0.5) - square, power * max(1, square, abs(slope))),
        ((1 - slope) / x, power * max(1, precision, abs(slope)) / x),
    ]


def continuous_bernoulli(logit, x):
    if logit == 0:
        return [(mp.mpf(0), 0), (mp.mpf(0.5) - x, 0.5), (mp.mpf(0), 0)]
    size, against = abs(logit), 1 - x if logit > 0 else x
    value = against * size + mp.log(-mp.expm1(-size) / size)
    to_size = against + 1 / mp.expm1(size) - 1 / size
    return [(value, against * size), (mp.sign(logit) * to_size, against), (-logit, 0)]


def discretized_logistic(mean, log_scale, half_width, x):
    def value(m, s, h):
        a, b = (x + h - m) * mp.exp(-s), (x - h - m) * mp.exp(-s)
        if x < h - 1:
            return mp.log1p(mp.exp(-a))
        if x > 1 - h:
            return mp.log1p(mp.exp(b))
        return mp.log1p(mp.exp(-a)) + mp.log1p(mp.exp(b)) - mp.log(-mp.expm1(b - a))

    arguments = (mean, log_scale, half_width)
    slopes = [mp.diff(value, arguments, order) for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    power = max(1, abs(log_scale))
    size, far = mp.exp(-log_scale), (abs(x - mean) + half_width) * mp.exp(-log_scale)
    return [
        (value(*arguments), power * max(1, far)),
        (slopes[0], power * size),
        (slopes[1], power * max(1, far)),
        (slopes[2], power * max(size, 1 / half_width)),
        (-slopes[0], power * size),
    ]


def log_choose(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def binomial(logit, n, k):
    p, q = 1 / (1 + mp.exp(-logit)), 1 / (1 + mp.exp(logit))
    value, slope = -log_choose(n, k) - k * mp.log(p) - (n - k) * mp.log(q), (n - k) * p - k * q
    of_n = mp.digamma(n - k + 1) - mp.digamma(n + 1) - mp.log(q)
    of_k = mp.digamma(k + 1) - mp.digamma(n - k + 1) - logit
    return [(value, abs(slope)), (slope, n * min(p, q)), (of_n, 1), (of_k, 1)]


def beta(a, b, x):
    if x == 0 or x == 1:
        shape = a if x == 0 else b
        value = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
        return [((shape - 1) * mp.inf if shape != 1 else value, 100), None, None, None]
    log_x, log_rest = mp.log(x), mp.log(1 - x)
    value = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    value -= (a - 1) * log_x + (b - 1) * log_rest
    n, distance = mp.digamma(a + b), abs(b * x - a * (1 - x))
    return [
        (value, max(1, distance, *(abs(mp.log(v)) for v in (a, b, x, 1 - x)))),
        (mp.digamma(a) - n - log_x, max(1, 1 / a, abs(log_x), abs(mp.log(a + b)))),
        (mp.digamma(b) - n - log_rest, max(1, 1 / b, abs(log_rest), abs(mp.log(a + b)))),
        ((b - 1) / (1 - x) - (a - 1) / x, max(1, b) / (1 - x) + max(1, a) / x),
    ]


def beta_binomial(a, b, n, k):
    m, s = n - k, a + b
    parts = [mp.loggamma(x + t) - mp.loggamma(t) for x, t in ((k, a), (m, b), (n, s))]
    value = -log_choose(n, k) - parts[0] - parts[1] + parts[2]
    rise = [mp.digamma(x + t) for x, t in ((k, a), (m, b), (n, s))]
    all_s = rise[2] - mp.digamma(s)
    slopes = [
        (all_s - (rise[0] - mp.digamma(a)), all_s),
        (all_s - (rise[1] - mp.digamma(b)), all_s),
        (mp.digamma(m + 1) - mp.digamma(n + 1) - rise[1] + rise[2], max(1, -mp.log(b))),
        (mp.digamma(k + 1) - mp.digamma(m + 1) - rise[0] + rise[1], max(1, -mp.log(a), -mp.log(b))),
    ]
    size = max(1, abs(m * a - k * b) / (n + s), -mp.log(a), -mp.log(b))
    return [(value, size), *((slope, max(abs(slope), part)) for slope, part in slopes)]


@dataclass(frozen=True)
class Case:
    name: str
    oracle: Callable  # None where a result may be anything
    operands: Callable  # of a generator of random numbers and how many
    grid: tuple[tuple[float, ...], ...]  # of each operand, all combinations of which are tried
    ulps: tuple[float, ...]  # of the value and each gradient
    invalid: tuple[tuple[float, ...], ...] = ()


def log_uniform(rng, low, high, n):
    return np.exp(rng.uniform(math.log(low), math.log(high), n))


def counts_near(rng, mean):
    """A quarter of them zero, a quarter near the mean, a quarter anything, a quarter fractions."""
    n = len(mean)
    spread = 3 * np.sqrt(mean) * rng.standard_normal(n) + mean
    anything = np.floor(log_uniform(rng, 1, 1e7, n))
    fraction = log_uniform(rng, 1e-6, 1e4, n)
    kinds = [np.zeros(n), np.floor(np.clip(spread, 0, 1e7)), anything, fraction]
    return np.choose(rng.integers(0, 4, n), kinds)


def lgamma_difference_operands(rng, n):
    t = log_uniform(rng, 1e-8, 1e10, n)
    return counts_near(rng, t.clip(0, 1e6)), t


def negative_binomial_operands(rng, n):
    mu, theta = log_uniform(rng, 1e-8, 1e8, n), log_uniform(rng, 1e-8, 1e10, n)
    return mu, theta, counts_near(rng, mu)


def poisson_operands(rng, n):
    log_rate = rng.uniform(-20, 18, n)
    return log_rate, counts_near(rng, np.exp(log_rate))


def zero_inflated_poisson_operands(rng, n):
    log_rate, counts = poisson_operands(rng, n)
    return log_rate, 5 * rng.standard_normal(n), counts


def zero_inflated_negative_binomial_operands(rng, n):
    mu, theta, counts = negative_binomial_operands(rng, n)
    return mu, theta, 5 * rng.standard_normal(n), counts


COUNTS = (0, 1e-3, 0.5, 1, 2, 7, 1e6, 1e7)
MEANS = (0, 1e-40, 1e-8, 0.5, 1, 5, 1e6, 1e8)
DISPERSIONS = (2e-20, 1e-8, 0.5, 1, 1e4, 1e5, 1e6, 1e7, 1e8, 1e10, 5e19)
LOGITS = (-1e3, -200, -20, -1, 0, 3, 20, 80)
CASES = [
    Case(
        "lgamma_difference",
        lgamma_difference,
        lgamma_difference_operands,
        (COUNTS, (2e-20, 1e-8, 0.5, 0.999, 1, 1.4616, 2, 1e4, 1e10, 5e19)),
        (6, 4, 4),
    ),
    Case(
        "negative_binomial_nll",
        negative_binomial,
        negative_binomial_operands,
        (MEANS, DISPERSIONS, COUNTS),
        (8, 4, 8, 4),
        ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (math.nan, 1, 1), (1, math.nan, 1), (1, 1, math.nan)),
    ),
    Case(
        "poisson_nll",
        poisson,
        poisson_operands,
        ((-1e4, -200, -20, 0, 1, math.log(7), math.log(1e6), 18, 80), COUNTS),
        (4, 4, 4),
        ((1, -1), (math.nan, 1), (1, math.nan)),
    ),
    Case(
        "zero_inflated_poisson_nll",
        zero_inflated_poisson,
        zero_inflated_poisson_operands,
        ((-200, -20, 0, 1, math.log(1e6)), LOGITS, COUNTS),
        (5, 4, 5, 4),
        ((1, 0, -1), (math.nan, 0, 0), (1, math.nan, 0), (1, math.nan, 1), (1, 0, math.nan)),
    ),
    Case(
        "zero_inflated_negative_binomial_nll",
        zero_inflated_negative_binomial,
        zero_inflated_negative_binomial_operands,
        ((0, 1e-40, 1e-8, 1, 1e6, 1e8), (2e-20, 1e-8, 1, 1e10), LOGITS, (0, 0.5, 1, 1e6)),
        (8, 4, 6, 8, 4),
        ((-1, 1, 0, 1), (1, -1, 0, 0), (1, 1, 0, -1), (1, 1, math.nan, 0), (1, 1, math.nan, 1)),
    ),
    Case(
        "gamma_nll",
        gamma,
        lambda rng, n: (lambda a, r: (a, r, rng.gamma(a) / r + 1e-30))(
            log_uniform(rng, 1e-2, 1e8, n), log_uniform(rng, 1e-6, 1e6, n)
        ),
        ((1e-6, 0.5, 1, 2, 1e3, 1e7), (1e-10, 0.5, 1, 1e10), (0, 1e-20, 1e-3, 1, 1e5)),
        (6, 6, 6, 6),
        ((-1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, -1), (math.nan, 1, 1), (1, math.nan, 1)),
    ),
    Case(
        "student_t_nll",
        student_t,
        lambda rng, n: (
            rng.standard_normal(n),
            3 * rng.standard_normal(n),
            log_uniform(rng, 1e-3, 1e9, n),
            3 * rng.standard_normal(n),
        ),
        ((0,), (-7, 0, 3, 40), (1e-8, 0.5, 1, 2, 30, 1e6, 1e7, 1e10), (0, 1e-3, 1.5, 1e6)),
        (6, 8, 8, 12, 8),
        ((0, 0, -1, 1), (0, 0, 0, 1), (math.nan, 0, 1, 1), (0, 0, math.nan, 1)),
    ),
    Case(
        "laplace_nll",
        laplace,
        lambda rng, n: tuple(3 * rng.standard_normal((3, n))),
        ((0, 1, -1e4), (-200, -80, -7, 0, 80, 200), (0, 1e-30, 1, 1.0000001, 1e4)),
        (4, 4, 4, 4),
        ((math.nan, 0, 1), (0, math.nan, 1), (0, 0, math.nan)),
    ),
    Case(
        "log_normal_nll",
        log_normal,
        lambda rng, n: (
            rng.standard_normal(n),
            4 * rng.standard_normal(n),
            np.exp(3 * rng.standard_normal(n)),
        ),
        ((0, 1, -50), (-200, -80, -7, 0, 80, 200), (0, 1e-37, 1e-3, 1, 2.7182817, 1e30)),
        (6, 6, 6, 6),
        ((0, 0, -1), (math.nan, 0, 1), (0, math.nan, 1), (0, 0, math.nan)),
    ),
    Case(
        "continuous_bernoulli_nll",
        continuous_bernoulli,
        lambda rng, n: (rng.choice([0.01, 1, 10], n) * rng.standard_normal(n), rng.random(n)),
        ((-1e4, -100, -20, -1, -1e-4, 0, 1e-30, 1e-8, 0.01, 1, 3, 20, 100, 1e4), (0, 0.3, 0.5, 1)),
        (5, 5, 1),
        ((math.nan, 0.5), (1, math.nan)),
    ),
    Case(
        "discretized_logistic_nll",
        discretized_logistic,
        lambda rng, n: (
            rng.uniform(-1.2, 1.2, n),
            rng.uniform(-8, 3, n),
            np.full(n, 1 / 255),
            rng.integers(0, 256, n) / 127.5 - 1,
        ),
        ((0, 1, -0.99), (-30, -7, 0, 3, 50), (1 / 255, 1 / 65535, 1), (-1, 0.05, 0.0039, 1)),
        (6, 6, 6, 6, 6),
        ((math.nan, 0, 0.1, 0), (0, math.nan, 0.1, 0), (0, 0, 0.1, math.nan)),
    ),
    Case(
        "binomial_nll",
        binomial,
        lambda rng, n: (
            lambda logit, trials: (logit, trials, rng.binomial(trials.astype(np.int64), 0.3))
        )(4 * rng.standard_normal(n), np.floor(log_uniform(rng, 1, 1e7, n))),
        ((-1e4, -100, -20, 0, 1, 20, 100, 1e4), (10, 1e7), (0, 0.5, 1, 3, 9, 10)),
        (6, 6, 6, 6),
        ((0, 10, -1), (0, 10, 11), (math.nan, 10, 1), (0, math.nan, 1), (0, 10, math.nan)),
    ),
    Case(
        "beta_nll",
        beta,
        lambda rng, n: (lambda a, b: (a, b, rng.beta(a, b).clip(1e-20, 1 - 1e-6)))(
            log_uniform(rng, 1e-2, 1e7, n), log_uniform(rng, 1e-2, 1e7, n)
        ),
        ((1e-6, 0.5, 1, 2, 1e7), (1e-6, 0.5, 1, 3, 1e6), (0, 1e-20, 1e-3, 0.5, 0.999, 1)),
        (6, 6, 6, 6),
        ((-1, 1, 0.5), (1, 0, 0.5), (1, 1, -1), (1, 1, 2), (math.nan, 1, 0.5), (1, 1, math.nan)),
    ),
    Case(
        "beta_binomial_nll",
        beta_binomial,
        lambda rng, n: (
            lambda a, b, trials: (a, b, trials, rng.binomial(trials.astype(np.int64), 0.3))
        )(
            log_uniform(rng, 1e-4, 1e8, n),
            log_uniform(rng, 1e-4, 1e8, n),
            np.floor(log_uniform(rng, 1, 1e7, n)),
        ),
        ((1e-8, 0.5, 1, 30, 1e10), (1e-8, 0.7, 1, 1e3, 1e10), (10, 1e7), (0, 0.5, 1, 3, 9, 10)),
        (8, 8, 8, 8, 8),
        ((-1, 1, 10, 1), (1, 0, 10, 1), (1, 1, 10, 11), (1, 1, 10, -1), (1, math.nan, 10, 1)),
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@cache
def operands_and_exact(case):
    """Floats, for both dtypes."""
    n = int(os.environ.get("FORMULA_OPERANDS", "1000"))
    grid = np.array(list(itertools.product(*case.grid))).T
    drawn = np.array(case.operands(np.random.default_rng(0), n))
    operands = np.concatenate([grid, drawn], axis=1).astype(np.float32)
    exact = [case.oracle(*(mp.mpf(float(x)) for x in point)) for point in operands.T]
    return operands, exact


def units_off(got, exact, size, dtype):
    """The error in units of the last place. A factor of what is nearly subnormal may be so."""
    limits = np.finfo(dtype)
    if abs(exact) > float(limits.max):
        return 0.0 if got == math.copysign(math.inf, exact) else math.inf
    if not math.isfinite(got):
        return math.inf
    scale = max(abs(exact), abs(size), 1024 * mp.mpf(float(limits.tiny)), ORACLE_DIGITS)
    unit = mp.ldexp(1, int(mp.floor(mp.log(scale, 2))) - limits.nmant)
    return float(abs(mp.mpf(got) - exact) / unit)


@each_dtype
@each_case
def test_extremes_and_random_operands(library, case, dtype):
    operands, exact = operands_and_exact(case)
    outputs = evaluate(library, case.name, operands, dtype)
    worst = [(0.0, 0)] * len(outputs)
    for i, results in enumerate(exact):
        for k, result in enumerate(results):
            got = float(outputs[k][i])
            assert not math.isnan(got), (case.name, k, operands[:, i])
            if result is not None:
                worst[k] = max(worst[k], (units_off(got, *result, dtype), i))
    for k, (units, i) in enumerate(worst):
        where = f"{units:.2f} ULP off in output {k} at {operands[:, i]}: {outputs[k][i]!r}"
        print(case.name, where)
        assert units <= case.ulps[k], f"{where}, exactly {mp.nstr(exact[i][k][0], 17)}"


@each_dtype
@each_case
def test_invalid_operands(library, case, dtype):
    if case.invalid:
        value = evaluate(library, case.name, np.array(case.invalid).T, dtype)[0]
        assert np.isnan(value).all(), value
