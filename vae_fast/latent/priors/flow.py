"""A normalizing flow as a prior."""

from __future__ import annotations

from torch.distributions import Distribution

from vae_fast.latent.checks import check_count
from vae_fast.latent.flows import masked_autoregressive_flow
from vae_fast.latent.priors.base import Prior


class Flow(Prior):
    """A masked autoregressive flow from N(0, I) (Papamakarios et al. 2017, arXiv:1705.07057).

    Of the package zuko (``pip install 'vae_fast[flows]'``). Chen et al. 2017, "Variational lossy
    autoencoder" (arXiv:1611.02731), have such a prior: a density takes one pass of the networks, a
    sample one for each latent dimension.

    Args:
        latent_dim: How many dimensions z has.
        transforms: How many layers of autoregressive networks.
        hidden: Sizes of each network's hidden layers.

    Raises:
        ModuleNotFoundError: zuko is not installed.
        TypeError: ``latent_dim`` is no whole number.
        ValueError: It is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent.priors import Flow
        >>> prior = Flow(2)
        >>> prior.log_prob(torch.zeros(3, 2)).shape, prior.sample((4,)).shape
        (torch.Size([3]), torch.Size([4, 2]))
    """

    def __init__(
        self, latent_dim: int, transforms: int = 3, hidden: tuple[int, ...] = (64, 64)
    ) -> None:
        super().__init__()
        check_count("Flow", "latent_dim", latent_dim)
        self.flow = masked_autoregressive_flow(latent_dim, 0, transforms, hidden)

    def distribution(self) -> Distribution:
        """Of the networks as they are; torch has no divergences of it."""
        whole: Distribution = self.flow()
        return whole
