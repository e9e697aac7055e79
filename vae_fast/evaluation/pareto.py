"""Pareto-smoothed importance sampling: the tail of the weights, and weights that it does not rule.

Vehtari, Simpson, Gelman, Yao and Gabry 2024, "Pareto smoothed importance sampling".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.checks import check_log_weights

_FEWEST_IN_TAIL = 5
_ELEMENTS = 2**22  # of a fit, made at once: bounds the memory


class ParetoSmoothed(NamedTuple):
    """Weights after smoothing. float64.

    Attributes:
        log_weights: (K, N), normalised: their logsumexp over K is 0.
        k: (N,), the shape of the tail's generalised Pareto distribution: it has 1 / k moments. Up
            to 0.7 an estimate of these weights can be trusted. 0 where the tail's weights differ by
            rounding alone, as where q is the posterior; infinite where too many of them are equal
            for a fit.
    """

    log_weights: Tensor
    k: Tensor


def fewest_samples() -> int:
    """The least K whose tail, a fifth of it, is enough for a fit."""
    return 5 * _FEWEST_IN_TAIL


def pareto_smooth(log_weights: Tensor) -> ParetoSmoothed:
    """Replace the largest weights by the quantiles of a Pareto distribution fitted to them.

    Vehtari et al. 2024, section 2.4: the min(K / 5, 3 sqrt(K)) largest, fitted by Zhang and
    Stephens 2009 with a weak prior at k = 0.5, none above the largest that was there.

    Args:
        log_weights: (K, N), of any constant: logarithms of the importance ratios of N data.

    Raises:
        TypeError: they are no floating tensor.
        ValueError: they are not (K, N) with K of at least 25.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import pareto_smooth
        >>> z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
        >>> pareto_smooth(0.1 * z).k < 0.7, pareto_smooth(3 * z).k > 0.7
        (tensor([True]), tensor([True]))
    """
    check_log_weights("pareto_smooth", log_weights, fewest_samples())
    count = len(log_weights)
    tail = math.floor(min(count / 5, 3 * math.sqrt(count)))
    wide = log_weights.double()
    wide = wide - wide.amax(0)
    largest = torch.topk(wide, tail + 1, dim=0)  # in falling order
    cutoff = largest.values[-1].clamp(min=math.log(torch.finfo(torch.float64).tiny))
    excess = (largest.values[:-1].flip(0).exp() - cutoff.exp()).clamp(min=0)
    # A spread of this many nats is what the sums of a likelihood are rounded by.
    is_flat = largest.values[0] - cutoff <= math.sqrt(torch.finfo(log_weights.dtype).eps)
    fits = (excess > 0).sum(0) >= _FEWEST_IN_TAIL
    fits &= (_quartile(excess) > 0) & ~is_flat
    safe = torch.where(fits, excess, torch.linspace(0.5, 1.5, tail).to(excess).unsqueeze(1))
    width = max(1, _ELEMENTS // (tail * _grid_size(tail)))
    parts = [_fit(part) for part in torch.split(safe, width, dim=1)]
    k, sigma = (torch.cat(values) for values in zip(*parts, strict=True))
    ranks = (torch.arange(tail).to(safe) + 0.5) / tail
    smoothed = (_quantiles(ranks.unsqueeze(1), k, sigma) + cutoff.exp()).log().clamp(max=0).flip(0)
    kept = torch.where(fits, smoothed, largest.values[:-1])
    wide = wide.scatter(0, largest.indices[:-1], kept)
    shape = torch.where(fits, k, torch.where(is_flat, 0.0, math.inf))
    return ParetoSmoothed(wide - wide.logsumexp(0), shape)


def _grid_size(tail: int) -> int:
    return 30 + math.isqrt(tail)


def _quartile(excess: Tensor) -> Tensor:
    """Of values in rising order (n, N)."""
    return excess[int(len(excess) / 4 + 0.5) - 1]


def _fit(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape and scale of the generalised Pareto distribution of values above 0, (n, N), rising.

    Zhang and Stephens 2009, "A new and efficient estimation method for the generalized Pareto
    distribution", equations 6 and 7: the mean of theta = -k / sigma under a posterior on a grid.
    """
    count, size = len(excess), _grid_size(len(excess))
    steps = (torch.arange(size).to(excess) + 0.5).unsqueeze(1)
    theta = (1 - (size / steps).sqrt()) / (3 * _quartile(excess)) + 1 / excess[-1]  # (m, N)
    shape = torch.log1p(-theta.unsqueeze(1) * excess).mean(1)
    profile = count * ((-theta / shape).log() - shape - 1)
    weight = torch.softmax(profile, 0)
    # Those that carry nothing are left out, as the authors' programs do.
    weight = torch.where(weight >= 10 * torch.finfo(weight.dtype).eps, weight, 0.0)
    best = (theta * weight).sum(0) / weight.sum(0)
    k = torch.log1p(-best * excess).mean(0)
    sigma = -k / best
    return (k * count + 5) / (count + 10), sigma  # the prior: as 10 values more, at 0.5


def _quantiles(ranks: Tensor, k: Tensor, sigma: Tensor) -> Tensor:
    """Of the generalised Pareto distribution: sigma ((1 - p)^-k - 1) / k."""
    exponent = -k * torch.log1p(-ranks)
    near_zero = k.abs() < torch.finfo(k.dtype).eps
    safe = torch.where(near_zero, 1.0, k)
    return sigma * torch.where(near_zero, -torch.log1p(-ranks), torch.expm1(exponent) / safe)
