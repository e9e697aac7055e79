"""The log density of a mixture of diagonal Gaussians, whose components all data share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine import checks, pairs
from vae_fast.engine.call import as_tensor
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.shapes import fits_into

_NAME = "gaussian_mixture_log_prob"


def gaussian_mixture_log_prob(
    x: Tensor, mean: Tensor, logvar: Tensor | float, logits: Tensor | None = None
) -> Tensor:
    """Of each datum, log sum_k softmax(logits)_k N(x; mean_k, exp(logvar_k)), in nats.

    The prior of a VAE that is a mixture (the VampPrior of Tomczak and Welling 2018, equation 9,
    whose components are posteriors), the density of a fitted one, and the E-step of EM: of the sum
    over the data, the gradient in the logarithm of a weight is how many data the component answers
    for, and those in mean and logvar are its moments (Bishop 2006, equations 9.16 to 9.26).

    Each datum meets each component in tiles that stay in the cache, once in the forward and once
    for the gradients of each side: B (D + 1) + 2 K D numbers are read and written, where plain
    PyTorch moves several times B K D.

    Args:
        x: (*batch, D).
        mean: (K, D).
        logvar: Logarithms of the variances, broadcasts to mean; or a number.
        logits: (K,), of the weights, which are their softmax; None: all weigh the same. -infinity
            leaves a component out.

    Returns:
        (*batch), at least in float32.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or there is no component.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mean = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
        >>> vf.gaussian_mixture_log_prob(torch.tensor([[3.0, 0.0]]), mean, 0.0)
        tensor([-2.5310])
    """
    for name, value in (("x", x), ("mean", mean)):
        checks.check_tensor(_NAME, name, value)
    logvar = as_tensor(logvar, x, mean)
    operands: list[tuple[str, Any]] = [("x", x), ("mean", mean), ("logvar", logvar)]
    if logits is not None:
        operands.append(("logits", logits))
    for name, value in operands:
        checks.check_tensor(_NAME, name, value)
        checks.check_kind(_NAME, name, value, FLOATS, "x", x)
    check_components(_NAME, "x", x, "mean", mean)
    if not fits_into(logvar.shape, mean.shape):
        raise ValueError(
            f"{_NAME}: logvar has shape {shown(logvar.shape)}, expected one that broadcasts to "
            f"that of mean, {shown(mean.shape)}"
        )
    count = mean.shape[0]
    if logits is None:
        dtype = arithmetic_dtype((x, mean, logvar))
        log_weights = torch.full((count,), -math.log(count), dtype=dtype, device=x.device)
    elif logits.shape != mean.shape[:1]:
        raise ValueError(
            f"{_NAME}: logits has shape {shown(logits.shape)}, expected {shown(mean.shape[:1])}, "
            f"one for each of the components in mean {shown(mean.shape)}"
        )
    else:
        log_weights = torch.log_softmax(logits.to(arithmetic_dtype((x, mean, logits))), 0)
    value = pairs.log_sum_exp(
        x.reshape(-1, x.shape[-1]),
        mean,
        logvar.expand(mean.shape),
        log_weights.unsqueeze(0),
        marginal=False,
    )
    return value.reshape(x.shape[:-1])


def check_components(
    function: str, of_data: str, x: Tensor, of_others: str, others: Tensor
) -> None:
    """Raises ValueError unless x is (*batch, D) and the others (K, D), K and D at least one."""
    if x.dim() < 1 or others.dim() != 2 or x.shape[-1] != others.shape[1] or x.shape[-1] == 0:
        raise ValueError(
            f"{function}: {of_others} has shape {shown(others.shape)} and {of_data} "
            f"{shown(x.shape)}, expected (K, D) and (*batch, D)"
        )
    if others.shape[0] == 0:
        raise ValueError(
            f"{function}: {of_others} has shape {shown(others.shape)}, expected at least one row"
        )
