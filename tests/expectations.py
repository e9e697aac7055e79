"""Gradients of expectations, sampled: to 3 standard errors on 10^6 samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_COUNT, _PARTS = 50_000, 20


def are_unbiased(
    value: Callable[..., Tensor], parameters: Sequence[Tensor], exact: Sequence[Tensor]
) -> None:
    """That the mean gradient of ``value`` in each parameter is the exact one.

    Args:
        value: One for each sample, of parameters with a leading dimension of samples.
        parameters: Of one distribution.
        exact: The gradients of the expectation.
    """
    sums = [(torch.zeros_like(x), torch.zeros_like(x)) for x in exact]
    for _ in range(_PARTS):
        each = [x.detach().expand(_COUNT, *x.shape).clone().requires_grad_() for x in parameters]
        slopes = torch.autograd.grad(value(*each).sum(), each)
        sums = [
            (s + g.sum(0), s2 + (g * g).sum(0)) for (s, s2), g in zip(sums, slopes, strict=True)
        ]
    total = _COUNT * _PARTS
    for (s, s2), expected in zip(sums, exact, strict=True):
        mean = s / total
        error = ((s2 / total - mean**2).clamp(min=0) / total).sqrt()
        # A gradient without variance is right to rounding.
        distance = (mean - expected).abs()
        assert (distance <= 3 * error + 1e-9).all(), (mean, expected, error)
