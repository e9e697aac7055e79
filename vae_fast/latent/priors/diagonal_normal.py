"""A normal prior whose mean and variances are learned."""

from __future__ import annotations

import torch
from torch import nn

from vae_fast.latent.checks import check_count
from vae_fast.latent.posteriors import diagonal_normal as posterior
from vae_fast.latent.priors.base import Prior


class DiagonalNormal(Prior):
    """N(loc, diag(exp(logvar))), both learned; at first the standard normal.

    Args:
        latent_dim: How many dimensions z has.

    Raises:
        TypeError: ``latent_dim`` is no whole number.
        ValueError: It is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent import priors
        >>> prior = priors.DiagonalNormal(2)
        >>> prior.log_prob(torch.zeros(2)), [name for name, _ in prior.named_parameters()]
        (tensor(-1.8379, grad_fn=<NegBackward0>), ['loc', 'logvar'])
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        check_count("DiagonalNormal", "latent_dim", latent_dim)
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    def distribution(self) -> posterior.DiagonalNormal:
        """Of the parameters as they are."""
        return posterior.DiagonalNormal(self.loc, self.logvar, validate_args=False)
