"""The rule for every tolerance: the error is at most twice that of PyTorch's own expression.

Both are measured against long double. To that comes one unit in the last place of the result, for
its rounding (all of the error, where PyTorch happens to be exact). A single sum may be right by
luck, PyTorch's or ours, so that the rule holds for the largest error over a few draws.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from cases import exactly
from torch import Tensor


def ulp(x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """One unit in the last place of ``x`` were it of ``dtype``; of the least normal near zero."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.maximum(np.abs(x), info.tiny))
    return np.ldexp(np.longdouble(info.eps), exponent - 1)


def error(actual: Tensor, expected: np.ndarray) -> np.ndarray:
    """|actual - expected|; 0 where both are the same infinity or both not a number.

    From half a unit above the largest number on, numbers round to infinity.
    """
    value = exactly(actual)
    largest = np.longdouble(torch.finfo(actual.dtype).max)
    overflows = np.abs(expected) >= largest + ulp(largest, actual.dtype) / 2
    expected = np.where(overflows, np.copysign(np.inf, expected), expected)
    same = (value == expected) | (np.isnan(value) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(value - expected))


class Comparison:
    """Collects results over draws, by what they are of; then the rule holds for each."""

    def __init__(self) -> None:
        self._results: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(
        self,
        what: str,
        actual: Tensor,
        torchs: Tensor,
        expected: np.ndarray,
        magnitude: np.ndarray | None = None,
        stored: np.ndarray | None = None,
    ) -> None:
        """One result: ours, PyTorch's own and the exact one.

        Errors count relative to ``magnitude`` (of a sum: that of its terms; else the result's),
        or to its mean where it is less: what must be right near zero has tests of its own.
        ``stored`` is the size of the partial sums that are stored on the way to the result and then
        scaled by the upstream gradient: two more roundings.
        """
        assert actual.shape == expected.shape, what
        ours = error(actual, expected) - ulp(expected, actual.dtype)
        if stored is not None:
            ours = ours - 2 * ulp(stored, actual.dtype)
        theirs = error(torchs, expected)
        magnitude = np.abs(expected) if magnitude is None else magnitude
        self._results[what].append(np.stack([np.ravel(x) for x in (ours, theirs, magnitude)]))

    def check(self) -> None:
        for what, results in self._results.items():
            ours, theirs, magnitude = np.concatenate(results, axis=1)
            if not np.isfinite(magnitude).any():
                assert (ours <= 0).all(), what
                continue
            scale = np.maximum(magnitude, magnitude[np.isfinite(magnitude)].mean())
            scale = np.where(scale > 0, scale, 1)
            worst, allowed = (ours / scale).max(), 2 * (theirs / scale).max()
            assert worst <= allowed, f"{what}: {worst:.3g} beyond rounding, allowed {allowed:.3g}"
