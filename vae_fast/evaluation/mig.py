"""The mutual information gap."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.evaluation.aggregated import aggregated_log_prob
from vae_fast.evaluation.checks import check_posterior
from vae_fast.evaluation.factors import checked_factors, gap_of_the_best_two


@torch.no_grad()
def mutual_information_gap(
    mu: Tensor,
    logvar: Tensor,
    factors: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> float:
    """How much more one dimension of the code knows of a factor than any other, from 0 to 1.

    MIG of Chen et al. 2018, equation 6: the mean over the factors of the two largest
    I(z_j; v_k) / H(v_k), one minus the other, with the exact q(z_j) and q(z_j | v_k) of the data
    that are given, at one code drawn for each.

    Args:
        mu: (N, D), the means of q(z | x) of N data.
        logvar: (N, D), the logarithms of its variances.
        factors: (N, F), or (N,) for one: whole numbers, which are classes.
        generator: for the noise, of the CPU.

    Raises:
        TypeError: codes are no floats, or factors no whole numbers.
        ValueError: the shapes do not fit, or a factor is constant.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import mutual_information_gap
        >>> label = torch.arange(100) % 2
        >>> mu = torch.stack([10.0 * label, torch.zeros(100)], dim=1)
        >>> round(mutual_information_gap(mu, torch.zeros(100, 2), label), 3)
        1.0
    """
    check_posterior("mutual_information_gap", mu, logvar)
    factors = checked_factors("mutual_information_gap", mu, factors).to(mu.device)
    if factors.is_floating_point():
        raise TypeError("mutual_information_gap: factors are floats; expected classes' numbers")
    mu, logvar = mu.double(), logvar.double()
    noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device="cpu").to(mu.device)
    z = mu + (0.5 * logvar).exp() * noise
    _, marginals = aggregated_log_prob(z, mu, logvar)
    scores = []
    for factor in factors.T:
        information = torch.zeros_like(mu[0])
        entropy = torch.zeros((), dtype=mu.dtype, device=mu.device)
        for value in torch.unique(factor):
            own = factor == value
            share = own.double().mean()
            entropy = entropy - share * share.log()
            _, within = aggregated_log_prob(z[own], mu[own], logvar[own])
            information = information + (within - marginals[own]).sum(0) / len(mu)
        scores.append(information / entropy)
    return float(gap_of_the_best_two(torch.stack(scores, dim=1)).mean())
