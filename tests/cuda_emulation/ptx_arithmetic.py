"""The arithmetic of PTX's instructions, on one value per thread."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def smaller(a: Array, b: Array) -> Array:
    """A number rather than NaN; -0 is smaller than +0."""
    return np.where(a == b, np.where(np.signbit(a), a, b), np.fmin(a, b))


def larger(a: Array, b: Array) -> Array:
    """A number rather than NaN; +0 is larger than -0."""
    return np.where(a == b, np.where(np.signbit(a), b, a), np.fmax(a, b))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": smaller,
    "max": larger,
    "copysign": lambda sign, x: np.copysign(x, sign),
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}

UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "not": np.invert,
    "abs": np.abs,
}

# Rounded once: what the hardware approximates comes out exact.
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "rcp": np.reciprocal,
    "ex2": np.exp2,
    "lg2": np.log2,
}

ROUND_TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def to_half(x: NDArray[np.float32], kind: str) -> NDArray[np.uint16]:
    """The bits of x as f16 or bf16, rounded to nearest, ties to even."""
    if kind == "f16":
        rounded = x.astype(np.float16).view(np.uint16)
    else:
        bits = x.view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def to_integer(x: Array, dtype: np.dtype) -> Array:
    """A float that is an integer, clamped to the type's range."""
    bits, info = 8 * dtype.itemsize, np.iinfo(dtype)
    nan = 0 if x.dtype.itemsize < 8 and bits < 64 else (-1 if dtype.kind == "i" else 1) << bits - 1
    inside = (x > info.min) & (x < float(info.max))
    result = np.where(inside, x, 0).astype(dtype)
    result = np.where(x >= float(info.max), dtype.type(info.max), result)
    result = np.where(x <= info.min, dtype.type(info.min), result)
    return np.where(np.isnan(x), dtype.type(nan), result)


def to_float(x: NDArray[np.float64], rounding: str) -> NDArray[np.float32]:
    """A double to float, rounded as the modifier says."""
    nearest = x.astype(np.float32)
    limit = {"rm": np.full_like(nearest, -np.inf), "rp": np.full_like(nearest, np.inf)}.get(
        rounding, np.zeros_like(nearest)
    )
    is_past = {"rm": nearest > x, "rp": nearest < x, "rz": np.abs(nearest) > np.abs(x)}
    return np.where(is_past.get(rounding, False), np.nextafter(nearest, limit), nearest)


def fma_float(
    a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32], rounding: str
) -> NDArray[np.float32]:
    """a * b + c, rounded once: before that, to odd in double, which no second rounding spoils."""
    product = a.astype(np.float64) * b
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    is_even = total.view(np.int64) & 1 == 0
    other = np.nextafter(total, np.copysign(np.inf, error))
    odd = np.where(np.isfinite(error) & (error != 0) & is_even, other, total)
    return to_float(odd, rounding)


# The C library's, which numpy lacks: rounded once.
_libm_fma = ctypes.CDLL("libm.so.6").fma
_libm_fma.argtypes, _libm_fma.restype = [ctypes.c_double] * 3, ctypes.c_double
fma_double = np.frompyfunc(_libm_fma, 3, 1)


def without_subnormals(x: Array) -> Array:
    """What .ftz makes of an operand or a result."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(np.zeros_like(x), x), x)


def saturated(x: Array) -> Array:
    """What .sat makes of a float: between 0 and 1, 0 of a NaN."""
    return np.fmin(np.fmax(x, np.zeros_like(x)), np.ones_like(x))
