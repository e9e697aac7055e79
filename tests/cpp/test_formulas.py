"""Formulas of csrc/formulas against mpmath, as compiled for each instruction set."""

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

import formula_oracles as oracles
import mpmath as mp
import numpy as np
import pytest

DIGITS = 120
ORACLE_DIGITS = mp.mpf("1e-90")  # below, the oracle's own sums have lost what is asked for
pytestmark = pytest.mark.of_the_kernels

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


def evaluate(library, name, operands, dtype, *, at_zero=False):
    """The value and the gradients in the operands, at_zero in the parameters: arrays."""
    operands = [np.ascontiguousarray(x, dtype=dtype) for x in operands]
    n = len(operands[0])
    outputs = [np.full(n, np.nan, dtype=dtype) for _ in range(len(operands) + 1)]
    function = library.evaluate_float if dtype == np.float32 else library.evaluate_double
    function.restype = ctypes.c_bool
    pointers = [
        (ctypes.c_void_p * len(x))(*(a.ctypes.data for a in x)) for x in (operands, outputs)
    ]
    assert function(name.encode(), ctypes.c_bool(at_zero), *pointers, ctypes.c_int64(n)), name
    return outputs[:-1] if at_zero else outputs


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
        oracles.lgamma_difference,
        lgamma_difference_operands,
        (COUNTS, (2e-20, 1e-8, 0.5, 0.999, 1, 1.4616, 2, 1e4, 1e10, 5e19)),
        (6, 4, 4),
    ),
    Case(
        "negative_binomial_nll",
        oracles.negative_binomial,
        negative_binomial_operands,
        (MEANS, DISPERSIONS, COUNTS),
        (8, 4, 8, 4),
        ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (math.nan, 1, 1), (1, math.nan, 1), (1, 1, math.nan)),
    ),
    Case(
        "poisson_nll",
        oracles.poisson,
        poisson_operands,
        ((-1e4, -200, -20, 0, 1, math.log(7), math.log(1e6), 18, 80), COUNTS),
        (4, 4, 4),
        ((1, -1), (math.nan, 1), (1, math.nan)),
    ),
    Case(
        "zero_inflated_poisson_nll",
        oracles.zero_inflated_poisson,
        zero_inflated_poisson_operands,
        ((-200, -20, 0, 1, math.log(1e6), 89), LOGITS, COUNTS),
        (5, 4, 5, 4),
        ((1, 0, -1), (math.nan, 0, 0), (1, math.nan, 0), (1, math.nan, 1), (1, 0, math.nan)),
    ),
    Case(
        "zero_inflated_negative_binomial_nll",
        oracles.zero_inflated_negative_binomial,
        zero_inflated_negative_binomial_operands,
        ((0, 1e-40, 1e-8, 1, 1e6, 1e8), (2e-20, 1e-8, 1, 1e10), LOGITS, (0, 0.5, 1, 1e6)),
        (8, 4, 6, 8, 4),
        ((-1, 1, 0, 1), (1, -1, 0, 0), (1, 1, 0, -1), (1, 1, math.nan, 0), (1, 1, math.nan, 1)),
    ),
    Case(
        "gamma_nll",
        oracles.gamma,
        lambda rng, n: (lambda a, r: (a, r, rng.gamma(a) / r + 1e-30))(
            log_uniform(rng, 1e-2, 1e8, n), log_uniform(rng, 1e-6, 1e6, n)
        ),
        ((1e-6, 0.5, 1, 2, 1e3, 1e7), (1e-10, 0.5, 1, 1e10), (0, 1e-35, 1e-20, 1e-3, 1, 1e5)),
        (6, 6, 6, 6),
        ((-1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, -1), (math.nan, 1, 1), (1, math.nan, 1)),
    ),
    Case(
        "laplace_nll",
        oracles.laplace,
        lambda rng, n: (
            rng.standard_normal(n),
            3 * rng.standard_normal(n),
            3 * rng.standard_normal(n),
        ),
        ((0, 0.25), (-200, -100, -50, -7, 0, 3, 40), (0, 1e-40, 0.25, -1e6)),
        (4, 4, 4, 4),
        ((math.nan, 0, 1), (0, math.nan, 1), (0, math.nan, 0), (0, 0, math.nan)),
    ),
    Case(
        "von_mises_nll",
        oracles.von_mises,
        lambda rng, n: (
            rng.uniform(-4, 4, n),
            3 * rng.standard_normal(n),
            rng.uniform(-4, 4, n),
        ),
        (
            (0, 0.25, -3.1415927, 100),
            (-200, -80, -7, 0, 1.79, 1.8, 2.77, 2.78, 7, 40, 80, 100),
            (0, 1e-30, 1e-3, 0.25, 1.5707964, 3.1415927, 6.2831855, -1e3),
        ),
        (6, 6, 8, 6),
        ((math.nan, 0, 1), (0, math.nan, 1), (0, math.nan, 0), (0, 0, math.nan), (0, 0, 3e6)),
    ),
    Case(
        "student_t_nll",
        oracles.student_t,
        lambda rng, n: (
            rng.standard_normal(n),
            3 * rng.standard_normal(n),
            log_uniform(rng, 1e-3, 1e9, n),
            3 * rng.standard_normal(n),
        ),
        (
            (0,),
            (-200, -80, -7, 0, 3, 40),
            (1e-19, 1e-8, 0.5, 1, 2, 30, 1e6, 1e7, 1e10),
            (0, 1e-30, 1e-3, 1.5, 1e6, 1e30),
        ),
        (8, 8, 8, 12, 8),
        ((0, 0, -1, 1), (0, 0, 0, 1), (math.nan, 0, 1, 1), (0, 0, math.nan, 1)),
    ),
    Case(
        "log_normal_nll",
        oracles.log_normal,
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
        oracles.continuous_bernoulli,
        lambda rng, n: (rng.choice([0.01, 1, 10], n) * rng.standard_normal(n), rng.random(n)),
        ((-1e4, -100, -20, -1, -1e-4, 0, 1e-30, 1e-8, 0.01, 1, 3, 20, 100, 1e4), (0, 0.3, 0.5, 1)),
        (8, 6, 1),
        ((math.nan, 0.5), (1, math.nan)),
    ),
    Case(
        "discretized_logistic_nll",
        oracles.discretized_logistic,
        lambda rng, n: (
            rng.uniform(-0.1, 1.1, n),
            rng.uniform(-8, 3, n),
            np.full(n, 256),
            rng.integers(0, 256, n) / 255,
        ),
        ((0.5, 1, 0.005), (-30, -7, 0, 3, 50), (256, 65536, 2), (0, 0.525, 0.502, 1)),
        (6, 6, 6, 6, 6),
        ((math.nan, 0, 9, 0), (0, math.nan, 9, 0), (0, 0, math.nan, 0), (0, 0, 9, math.nan)),
    ),
    Case(
        "ordinal_nll",
        oracles.ordinal,
        lambda rng, n: (
            lambda lower: (4 * rng.standard_normal(n), lower, lower + log_uniform(rng, 1e-4, 30, n))
        )(4 * rng.standard_normal(n)),
        ((-1e4, -20, 0.25, 3, 1e4), (-math.inf, -200, -1, 0), (1e-40, 1e-20, 0.25, 90, math.inf)),
        (6, 6, 6, 6),
        ((0, 1, 0), (math.nan, 0, 1), (0, math.nan, 1), (0, 0, math.nan)),
    ),
    Case(
        "binomial_nll",
        oracles.binomial,
        lambda rng, n: (
            lambda logit, trials: (logit, trials, rng.binomial(trials.astype(np.int64), 0.3))
        )(4 * rng.standard_normal(n), np.floor(log_uniform(rng, 1, 1e7, n))),
        ((-1e4, -100, -20, 0, 1, 20, 100, 1e4), (10, 1e7), (0, 0.5, 1, 3, 9, 10)),
        (6, 6, 6, 6),
        ((0, 10, -1), (0, 10, 11), (math.nan, 10, 1), (0, math.nan, 1), (0, 10, math.nan)),
    ),
    Case(
        "beta_nll",
        oracles.beta,
        lambda rng, n: (lambda a, b: (a, b, rng.beta(a, b).clip(1e-20, 1 - 1e-6)))(
            log_uniform(rng, 1e-2, 1e7, n), log_uniform(rng, 1e-2, 1e7, n)
        ),
        ((1e-6, 0.5, 1, 2, 1e7), (1e-6, 0.5, 1, 3, 1e6), (0, 1e-40, 1e-20, 1e-3, 0.5, 0.999, 1)),
        (6, 6, 6, 6),
        ((-1, 1, 0.5), (1, 0, 0.5), (1, 1, -1), (1, 1, 2), (math.nan, 1, 0.5), (1, 1, math.nan)),
    ),
    Case(
        "beta_binomial_nll",
        oracles.beta_binomial,
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
each_with_zero = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name.endswith(("poisson_nll", "negative_binomial_nll"))],
    ids=lambda case: case.name,
)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@cache
def operands_and_exact(case):
    """Floats, for both dtypes."""
    n = int(os.environ.get("FORMULA_OPERANDS", "60"))
    grid = np.array(list(itertools.product(*case.grid))).T
    drawn = np.array(case.operands(np.random.default_rng(0), n))
    operands = np.concatenate([grid, drawn], axis=1).astype(np.float32)
    with mp.workdps(DIGITS):
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


def check(case, operands, exact, outputs, dtype):
    worst = [(0.0, 0)] * len(outputs)
    for i, results in enumerate(exact):
        for k, result in enumerate(results[: len(outputs)]):
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
def test_extremes_and_random_operands(library, case, dtype):
    operands, exact = operands_and_exact(case)
    check(case, operands, exact, evaluate(library, case.name, operands, dtype), dtype)


@each_dtype
@each_with_zero
def test_the_formula_of_zeros(library, case, dtype):
    operands, exact = operands_and_exact(case)
    zeros = np.flatnonzero(operands[-1] == 0)
    exact = [exact[i] for i in zeros]
    outputs = evaluate(library, case.name, operands[:, zeros], dtype, at_zero=True)
    check(case, operands[:, zeros], exact, outputs, dtype)


@each_dtype
@each_case
def test_invalid_operands(library, case, dtype):
    if case.invalid:
        value = evaluate(library, case.name, np.array(case.invalid).T, dtype)[0]
        assert np.isnan(value).all(), value


@each_dtype
@each_with_zero
def test_invalid_parameters_at_zero(library, case, dtype):
    operands = np.array([point for point in case.invalid if point[-1] >= 0])
    value = evaluate(library, case.name, operands.T, dtype, at_zero=True)[0]
    assert np.isnan(value).all(), value


@pytest.mark.parametrize("name", ["negative_binomial_nll", "zero_inflated_negative_binomial_nll"])
def test_ten_million_counts_are_finite(library, name):
    rng, n = np.random.default_rng(1), 10**6
    for _ in range(10):
        mu, theta, counts = negative_binomial_operands(rng, n)
        logits = [5 * rng.standard_normal(n)] if "zero" in name else []
        operands = [x.astype(np.float32) for x in (mu, theta, *logits, counts)]
        for k, output in enumerate(evaluate(library, name, operands, np.float32)):
            wrong = ~np.isfinite(output)
            assert not wrong.any(), (k, [x[wrong][:3] for x in operands])
