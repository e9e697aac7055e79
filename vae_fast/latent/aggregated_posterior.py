"""The aggregated posterior q(z) = 1/N sum_n q(z | x_n), from a minibatch of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine import checks, pairs
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.latent.gaussian_mixture import check_components

_NAME = "aggregated_posterior_log_prob"


def aggregated_posterior_log_prob(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    dataset_size: int | None = None,
    stratified: bool = False,
) -> tuple[Tensor, Tensor]:
    """The logarithms of q(z) and of each q(z_d), in nats: of all data, or from a minibatch.

    What the decomposition of the divergence into mutual information, total correlation and
    dimension-wise KL is made of (Chen et al. 2018, "Isolating sources of disentanglement in VAEs",
    equation 2). Each z meets each q(. | x_m) in tiles that stay in the cache: plain PyTorch holds
    B x M x D numbers, several times.

    Args:
        z: (B, D). With a dataset size, row i is drawn from q(z | x_i), the i-th row of mu.
        mu: (M, D), means of q(z | x_m).
        logvar: (M, D), logarithms of the variances.
        dataset_size: N, from which mu is a minibatch, drawn without replacement; None: mu is all.
        stratified: Of the estimates from a minibatch, the stratified one (Chen et al. 2018,
            appendix C.2) in place of the weighted one (C.1): q(z_i | x_i) weighs 1 / N, the next
            row (N - M + 1) / (N (M - 1)), and each other 1 / (M - 1). It is unbiased for q(z).

    Returns:
        log q(z), (B,), and log q(z_d), (B, D), at least in float32.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or the dataset is smaller than the minibatch.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        >>> joint, marginals = vf.aggregated_posterior_log_prob(mu, mu, torch.zeros(2, 2))
        >>> (joint - marginals.sum(1)).abs() < 1e-5  # one dimension varies: no total correlation
        tensor([True, True])
    """
    for name, value in (("z", z), ("mu", mu), ("logvar", logvar)):
        checks.check_tensor(_NAME, name, value)
        checks.check_kind(_NAME, name, value, FLOATS, "z", z)
    check_components(_NAME, "z", z, "mu", mu)
    if z.dim() != 2 or logvar.shape != mu.shape:
        wrong, expected = ("z", "(B, D)") if z.dim() != 2 else ("logvar", shown(mu.shape))
        came = z if z.dim() != 2 else logvar
        raise ValueError(f"{_NAME}: {wrong} has shape {shown(came.shape)}, expected {expected}")
    weights = _log_weights(z, mu, dataset_size, stratified).to(arithmetic_dtype((z, mu, logvar)))
    return (
        pairs.log_sum_exp(z, mu, logvar, weights, marginal=False),
        pairs.log_sum_exp(z, mu, logvar, weights, marginal=True),
    )


def _log_weights(z: Tensor, mu: Tensor, size: int | None, stratified: bool) -> Tensor:
    """(1, M), or (B, M) where they are stratified, float64."""
    count = len(mu)
    if size is None:
        if stratified:
            raise ValueError(
                f"{_NAME}: dataset_size is None, expected a number: stratified needs it"
            )
        return z.new_full((1, count), -math.log(count), dtype=torch.float64)
    if not checks.is_int(size):
        raise TypeError(f"{_NAME}: dataset_size is of type {type(size).__name__}, expected int")
    if len(z) != count:
        raise ValueError(
            f"{_NAME}: z has shape {shown(z.shape)}, expected {shown(mu.shape)}: with dataset_size "
            f"row i is drawn from the i-th q(z | x)"
        )
    if size < count or (stratified and count < 2):
        raise ValueError(
            f"{_NAME}: dataset_size is {size} and mu has {count} rows, expected at least as many "
            f"data as rows" + ", and two rows where stratified" * stratified
        )
    if not stratified:
        return z.new_full((1, count), -math.log(size * count), dtype=torch.float64)
    others = count - 1
    weights = z.new_full((count, count), 1 / others, dtype=torch.float64)
    rows = torch.arange(count, device=z.device)
    weights[rows, rows] = 1 / size
    weights[rows, (rows + 1) % count] = (size - others) / (size * others)
    return weights.log()
