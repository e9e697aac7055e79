"""The standard normal prior."""

from __future__ import annotations

import torch

from vae_fast.latent.checks import check_count
from vae_fast.latent.posteriors.diagonal_normal import DiagonalNormal
from vae_fast.latent.priors.base import FixedPrior


class StandardNormal(FixedPrior):
    """N(0, I).

    Args:
        latent_dim: How many dimensions z has.

    Raises:
        TypeError: ``latent_dim`` is no whole number.
        ValueError: It is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent.priors import StandardNormal
        >>> prior = StandardNormal(2)
        >>> prior.log_prob(torch.zeros(3, 2)), prior.sample((3,)).shape
        (tensor([-1.8379, -1.8379, -1.8379]), torch.Size([3, 2]))
    """

    loc: torch.Tensor
    logvar: torch.Tensor

    def __init__(self, latent_dim: int) -> None:
        check_count("StandardNormal", "latent_dim", latent_dim)
        zeros = torch.zeros(latent_dim)
        super().__init__(DiagonalNormal, loc=zeros, logvar=zeros.clone())
