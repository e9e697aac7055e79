"""Divergences of q(z|x) from p(z): their rows of the table, and the function around them."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from vae_fast.engine.call import as_tensor, explain, in_result_dtype, logvar_of, loss
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype, sum_dtype
from vae_fast.engine.exponentials import half_expm1, half_expm1_minus
from vae_fast.engine.reductions import Reduction, keep_and_mean, reduce
from vae_fast.engine.standardized import standardized
from vae_fast.engine.table import Loss, enter_loss
from vae_fast.latent.checks import (
    FREE_BITS_PER,
    FreeBitsPer,
    check_free_bits,
    check_latent,
    check_prior,
)

# ---- formulas ------------------------------------------------------------------------------------


def _standard_normal_kl_value(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)); Kingma and Welling 2014, appendix B."""
    return 0.5 * mu * mu + half_expm1_minus(logvar)


def _standard_normal_kl_gradients(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return mu, half_expm1(logvar)


def _gaussian_kl_value(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar)))."""
    half_square, _ = standardized(mu, prior_mu, prior_logvar)
    return half_square + half_expm1_minus(logvar - prior_logvar)


def _gaussian_kl_gradients(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> tuple[Tensor, ...]:
    half_square, slope = standardized(mu, prior_mu, prior_logvar)
    excess = half_expm1(logvar - prior_logvar)
    return slope, excess, -slope, -(half_square + excess)


enter_loss(
    "standard_normal_kl",
    Loss(("mu", "logvar"), _standard_normal_kl_value, _standard_normal_kl_gradients),
)
enter_loss(
    "gaussian_kl",
    Loss(("mu", "logvar", "prior_mu", "prior_logvar"), _gaussian_kl_value, _gaussian_kl_gradients),
)


# ---- the function --------------------------------------------------------------------------------


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor | float | None = None,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    free_bits: float = 0.0,
    free_bits_per: FreeBitsPer = "dimension",
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))), diagonal, in nats.

    Without a prior it is the standard normal N(0, I): 0.5 (mu^2 + exp(logvar) - 1 - logvar), of
    Kingma and Welling 2014, appendix B, evaluated so that nothing cancels: it is never negative.

    The kernel reads the operands once and, where gradients are wanted, writes them once: 8 bytes
    per element in float32, 16 with gradients; twice that with a prior.

    Args:
        mu: Means (*batch, *latent).
        logvar: Logarithms of the variances, broadcasts to mu; or a number.
        prior_mu: Means of the prior, broadcasts to mu; or a number. Both of the prior's, or
            neither.
        prior_logvar: Logarithms of the prior's variances, likewise.
        scale: In place of logvar, as in :func:`reparameterize`.
        free_bits: Nats below which the divergence costs the same and has no gradient (Kingma et
            al. 2016, "Improving variational inference with inverse autoregressive flow",
            appendix C.8).
        free_bits_per: What they are counted per. ``"dimension"``: per latent dimension, after
            averaging over the batch, max(free_bits, mean over the batch of kl_j), as the paper has
            it. ``"group"``: likewise, of the sum over a group, which is an index of the first
            latent dimension: a channel of (B, C, H, W), as the paper has it for pictures; of codes
            (B, D) in G groups give ``mu.unflatten(1, (G, -1))``. ``"sample"``: per latent dimension
            of each sample, before any averaging.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`. With free bits per dimension or group, ``"batchmean"`` is
            their sum over the dimensions or groups, ``"sum"`` that times the number of batch
            entries, ``"mean"`` that divided by the number of latent dimensions.

    Returns:
        The divergence, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype, or neither logvar nor scale is given.
        ValueError: The shapes do not broadcast, the devices differ, both logvar and scale, half a
            prior, an unknown reduction, batch_dims beyond the dimensions, negative free bits, or
            free bits per dimension with a reduction that keeps the batch.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu, logvar = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2)
        >>> vf.gaussian_kl(mu, logvar)
        tensor(0.5000)
        >>> vf.gaussian_kl(mu, logvar, free_bits=0.25)  # the first dimension costs what is free
        tensor(0.7500)
        >>> vf.gaussian_kl(mu, logvar, mu, logvar)  # to a prior of its own
        tensor(0.)
    """
    if logvar is None or scale is not None:
        kl = gaussian_kl(
            mu,
            logvar_of("gaussian_kl", logvar, scale, "mu", mu, prior_mu, prior_logvar),
            prior_mu,
            prior_logvar,
            free_bits=free_bits,
            free_bits_per=free_bits_per,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        is_elementwise = reduction == "none"
        return in_result_dtype(kl, mu, scale, prior_mu, prior_logvar) if is_elementwise else kl
    op, operands = divergence_of("gaussian_kl", mu, logvar, prior_mu, prior_logvar)
    if isinstance(mu, Tensor) and isinstance(batch_dims, int) and mu.dim() <= batch_dims:
        check_latent("gaussian_kl", mu, batch_dims, reduction)
    if free_bits == 0 and free_bits_per in FREE_BITS_PER:
        return loss("gaussian_kl", op, operands, None, batch_dims, reduction)
    check_free_bits("gaussian_kl", free_bits, free_bits_per, reduction)
    explain("gaussian_kl", op, operands, None, batch_dims, reduction)
    dtype = sum_dtype(promoted_dtype(operands))
    if reduction != "none":  # else the elements would be rounded before they are summed
        operands = (mu.to(arithmetic_dtype(operands)), *operands[1:])
    each = loss("gaussian_kl", op, operands, None, batch_dims, "none")
    keep, mean = keep_and_mean(reduction, batch_dims, operands[0])
    if free_bits_per != "sample":
        average = each.mean(tuple(range(batch_dims)), keepdim=True) if batch_dims else each
        inner = tuple(range(batch_dims + 1, each.dim())) if free_bits_per == "group" else ()
        cost = average.sum(inner, keepdim=True) if inner else average
        of_each = cost.clamp(min=free_bits)
        for dim in inner:  # a product that Dynamo traces, with sizes that it does not know
            of_each = of_each / max(each.shape[dim], 1)
        return reduce(of_each.expand_as(each), keep, mean).to(dtype)
    counted = reduce(each.clamp(min=free_bits), keep, mean)
    return counted if reduction == "none" else counted.to(dtype)


def divergence_of(
    function: str,
    mu: Tensor,
    logvar: Tensor | float,
    prior_mu: Tensor | float | None,
    prior_logvar: Tensor | float | None,
) -> tuple[str, tuple[Tensor, ...]]:
    """Which divergence it is, and its operands as tensors."""
    if isinstance(logvar, Tensor) and prior_mu is None and prior_logvar is None:
        return "standard_normal_kl", (mu, logvar)  # without another call
    given = (mu, logvar, prior_mu, prior_logvar)
    tensors: Any = (x if x is None else as_tensor(x, *given) for x in given)
    return divergence(function, *tensors)


def divergence(
    function: str,
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
) -> tuple[str, tuple[Tensor, ...]]:
    """Which divergence these arguments ask for, and its operands."""
    if prior_mu is None and prior_logvar is None:
        return "standard_normal_kl", (mu, logvar)
    check_prior(function, prior_mu, prior_logvar)
    return "gaussian_kl", (mu, logvar, cast(Tensor, prior_mu), cast(Tensor, prior_logvar))
