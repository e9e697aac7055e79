"""The divergence from the prior in its three parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from vae_fast.engine import checks
from vae_fast.engine.checks import shown
from vae_fast.latent.aggregated_posterior import aggregated_posterior_log_prob
from vae_fast.likelihoods.gaussian import gaussian_nll


class KLDecomposition(NamedTuple):
    """What E[KL(q(z|x) || p(z))] is made of, in nats per datum: their sum.

    Attributes:
        mutual_information: I(x; z) = E[log q(z|x) - log q(z)], what the code says of the datum.
        total_correlation: KL(q(z) || prod_d q(z_d)), how far its dimensions are from independent.
        dimension_wise_kl: sum_d KL(q(z_d) || p(z_d)), how far each is from the prior.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu = torch.zeros(4, 2)
        >>> parts = vf.kl_decomposition(torch.ones(4, 2), mu, mu)  # q(z|x) is the prior
        >>> [round(part.item(), 5) + 0.0 for part in parts]
        [0.0, 0.0, 0.0]
    """

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


# An exported program that returns one can be stored.
_register_namedtuple(KLDecomposition, serialized_type_name="vae_fast.KLDecomposition")


def kl_decomposition(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    dataset_size: int | None = None,
    stratified: bool = False,
) -> KLDecomposition:
    """The divergence of q(z|x) from N(0, I) as mutual information, total correlation and the rest.

    Chen et al. 2018 ("Isolating sources of disentanglement in VAEs", equation 2). The beta-TC-VAE
    minimises nll + alpha mutual_information + beta total_correlation + gamma dimension_wise_kl,
    with alpha = gamma = 1 and beta of 4 to 10; FactorVAE has the same target (Kim and Mnih 2018).
    Each is the average over z of a difference of log densities, with q(z) of
    :func:`aggregated_posterior_log_prob`; their sum is log q(z|x) - log p(z), a one-sample estimate
    of the KL, however q(z) is estimated. A total correlation estimated from a minibatch by weights
    is biased: between models compare it at equal batch sizes.

    Args:
        z: (B, D), row i drawn from q(z | x_i).
        mu: (B, D), means of q(z | x_i).
        logvar: (B, D), logarithms of the variances.
        dataset_size: N, from which the B data are a minibatch; None: they are all data.
        stratified: As in :func:`aggregated_posterior_log_prob`.

    Returns:
        The three parts, each averaged over the batch, with gradients in z, mu and logvar.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or the dataset is smaller than the minibatch.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu, logvar = torch.randn(64, 10), torch.zeros(64, 10)
        >>> z = vf.reparameterize(mu, logvar)
        >>> parts = vf.kl_decomposition(z, mu, logvar, dataset_size=60_000)
        >>> information, correlation, rest = parts
        >>> loss = information + 6.0 * correlation + rest  # beside the nll
    """
    checks.check_tensor("kl_decomposition", "z", z)
    checks.check_tensor("kl_decomposition", "mu", mu)
    if z.shape != mu.shape:
        raise ValueError(
            f"kl_decomposition: z has shape {shown(z.shape)}, expected {shown(mu.shape)} like mu: "
            f"each row drawn from q(z | x_i) of its own"
        )
    log_q, log_marginals = aggregated_posterior_log_prob(
        z, mu, logvar, dataset_size=dataset_size, stratified=stratified
    )
    independent = log_marginals.sum(1)
    log_conditional = -gaussian_nll(mu, z, logvar, reduction="sample")
    log_prior = -gaussian_nll(torch.zeros_like(z), z, reduction="sample")
    return KLDecomposition(
        (log_conditional - log_q).mean(),
        (log_q - independent).mean(),
        (independent - log_prior).mean(),
    )
