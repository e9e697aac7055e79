"""The rule for every tolerance: the error is at most twice that of PyTorch's own expression.

Both are measured against long double. To that comes one unit in the last place of the result, for
its rounding (all of the error, where PyTorch happens to be exact). A single sum may be right by
luck, PyTorch's or ours, so that the rule holds for the largest error over a few draws, relative to
the result (to 1 where it is smaller: what it must be right to near 0 has tests of its own).
"""

from __future__ import annotations

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
    """|actual - expected|; 0 where both are the same infinity or both not a number."""
    value = exactly(actual)
    overflows = np.abs(expected) > torch.finfo(actual.dtype).max
    expected = np.where(overflows, np.copysign(np.inf, expected), expected)
    same = (value == expected) | (np.isnan(value) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0, np.abs(value - expected))


class Comparison:
    """Collects results over draws, by what they are of; then the rule holds for each."""

    def __init__(self) -> None:
        self._errors: dict[str, tuple[float, float]] = {}

    def add(self, what: str, actual: Tensor, torchs: Tensor, expected: np.ndarray) -> None:
        """One result: ours, PyTorch's own and the exact one."""
        assert actual.shape == expected.shape, what
        if actual.numel() == 0:
            return
        scale = np.maximum(np.abs(expected), 1)
        ours = ((error(actual, expected) - ulp(expected, actual.dtype)) / scale).max()
        theirs = (error(torchs, expected) / scale).max()
        before = self._errors.get(what, (0.0, 0.0))
        self._errors[what] = max(before[0], ours), max(before[1], theirs)

    def check(self) -> None:
        for what, (ours, theirs) in self._errors.items():
            assert ours <= 2 * theirs, (
                f"{what}: error {float(ours):.3g} beyond rounding, PyTorch's is {float(theirs):.3g}"
            )
