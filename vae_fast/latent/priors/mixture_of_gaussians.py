"""Mixtures of normal distributions as priors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_fast.latent.checks import check_count
from vae_fast.latent.gaussian_mixture import gaussian_mixture_log_prob
from vae_fast.latent.priors.base import Prior
from vae_fast.latent.sampling import reparameterize


class GaussianMixture(Prior):
    """What priors that are mixtures of diagonal normals share: density and samples.

    The density is :func:`vae_fast.gaussian_mixture_log_prob`'s.
    """

    def components(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Means and log-variances (K, D), and the logits of the weights (K,); None: equal ones."""
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """Of z (*batch, D): (*batch), in nats."""
        return gaussian_mixture_log_prob(z, *self.components())

    def _draw(self, shape: torch.Size) -> Tensor:
        mean, logvar, logits = self.components()
        if logits is None:
            index = torch.randint(mean.shape[0], (shape.numel(),), device=mean.device)
        else:
            weights = torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 0)
            index = torch.multinomial(weights, shape.numel(), replacement=True)
        z = reparameterize(mean[index], logvar.expand_as(mean)[index])
        return z.reshape(*shape, mean.shape[-1])


class MixtureOfGaussians(GaussianMixture):
    """A mixture of diagonal normals, whose means, log-variances and weights are learned.

    The means start apart from each other, drawn from N(0, I), or all would stay one.

    Args:
        latent_dim: How many dimensions z has.
        num_components: K.

    Raises:
        TypeError: An argument is no whole number.
        ValueError: One is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent.priors import MixtureOfGaussians
        >>> prior = MixtureOfGaussians(2, num_components=5)
        >>> prior.log_prob(torch.zeros(3, 2)).shape, prior.sample((4,)).shape
        (torch.Size([3]), torch.Size([4, 2]))
    """

    def __init__(self, latent_dim: int, num_components: int) -> None:
        super().__init__()
        check_count("MixtureOfGaussians", "latent_dim", latent_dim)
        check_count("MixtureOfGaussians", "num_components", num_components)
        self.loc = nn.Parameter(torch.randn(num_components, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(num_components, latent_dim))
        self.logits = nn.Parameter(torch.zeros(num_components))

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """The parameters."""
        return self.loc, self.logvar, self.logits
