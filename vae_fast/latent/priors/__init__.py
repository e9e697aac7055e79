"""Priors p(z): modules, which may have parameters that are learned.

Each has ``log_prob(z)`` (in nats, summed over the latent dimensions), ``sample(shape)``, and as
``distribution()`` what ``torch.distributions.kl_divergence`` takes, where there is such.

Example:
    >>> import torch
    >>> from vae_fast.latent import priors
    >>> priors.DiagonalNormal(3).sample((2,)).shape
    torch.Size([2, 3])
"""

from vae_fast.latent.priors.base import FixedPrior, Prior
from vae_fast.latent.priors.diagonal_normal import DiagonalNormal
from vae_fast.latent.priors.flow import Flow
from vae_fast.latent.priors.mixture_of_gaussians import MixtureOfGaussians
from vae_fast.latent.priors.standard_normal import StandardNormal
from vae_fast.latent.priors.vamp import VampPrior

__all__ = [
    "DiagonalNormal",
    "FixedPrior",
    "Flow",
    "MixtureOfGaussians",
    "Prior",
    "StandardNormal",
    "VampPrior",
]
