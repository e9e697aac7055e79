"""The rule for every tolerance: the error is at most twice that of PyTorch's own expression.

Both are measured against float64. To that comes one unit in the last place of the result, for the
rounding of the result itself (all of the error, where PyTorch is exact).
"""

import torch
from torch import Tensor


def ulp(x: Tensor, dtype: torch.dtype) -> Tensor:
    """One unit in the last place of ``x`` were it of ``dtype``; of the least normal near zero."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(x.abs().double().clamp(min=info.tiny)).exponent
    return info.eps * torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), exponent - 1)


def error(actual: Tensor, expected: Tensor) -> Tensor:
    """|actual - expected| in float64; 0 where both are the same infinity or both NaN."""
    actual, expected = actual.detach().double(), expected.detach().double()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    return torch.where(same, 0.0, (actual - expected).abs())


def assert_within_rule(actual: Tensor, torchs: Tensor, expected: Tensor, what: str = "") -> None:
    """The tolerance rule.

    Args:
        actual: What is tested, in its own dtype.
        torchs: The same by PyTorch's own expression, in the dtype of the arithmetic.
        expected: The same in float64.
        what: Said where it fails.
    """
    assert actual.shape == expected.shape, what
    if actual.numel() == 0:
        return
    rounding = ulp(expected.detach(), actual.dtype)
    ours = (error(actual, expected) - rounding).max()
    allowed = 2 * error(torchs, expected).max()
    assert ours <= allowed, f"{what}: error {ours:.3g} beyond rounding, allowed {allowed:.3g}"
