"""What is known of the data beside them: the factors that codes may or may not have found."""

from __future__ import annotations

import torch
from torch import Tensor


def checked_factors(function: str, codes: Tensor, factors: Tensor) -> Tensor:
    """Factors as (N, F) on the CPU: int64 where they are classes, float64 where they are numbers.

    Raises:
        TypeError: codes are no floats, or factors neither whole numbers nor floats.
        ValueError: they are not (N, D) and (N,) or (N, F), or a factor is constant.
    """
    if not isinstance(codes, Tensor) or not codes.is_floating_point():
        kind = getattr(codes, "dtype", type(codes).__name__)
        raise TypeError(f"{function}: codes are {kind}; expected a floating tensor")
    if not isinstance(factors, Tensor) or factors.is_complex():
        kind = getattr(factors, "dtype", type(factors).__name__)
        raise TypeError(f"{function}: factors are {kind}; expected whole numbers or floats")
    if factors.dim() == 1:
        factors = factors.unsqueeze(1)
    if codes.dim() != 2 or factors.dim() != 2 or len(codes) != len(factors):
        raise ValueError(
            f"{function}: codes have shape {tuple(codes.shape)} and factors "
            f"{tuple(factors.shape)}; expected (N, D) and (N, F)"
        )
    factors = factors.detach().cpu()
    factors = factors.double() if factors.is_floating_point() else factors.long()
    for column, factor in enumerate(factors.T):
        if len(factor) == 0 or bool((factor == factor[0]).all()):
            raise ValueError(f"{function}: factor {column} has one value alone: it tells nothing")
    return factors


def two_halves(count: int) -> tuple[Tensor, Tensor]:
    """Indices to fit on and to test on, the same at every call."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0), device="cpu")
    return order[count // 2 :], order[: count // 2]


def gap_of_the_best_two(scores: Tensor) -> Tensor:
    """Of (D, F), for each factor how far the best dimension is above the second; of one, itself."""
    if len(scores) == 1:
        return scores[0]
    best = scores.topk(2, dim=0).values
    return best[0] - best[1]
