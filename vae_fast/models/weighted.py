"""VAEs whose KL term has another weight, or is held at a capacity."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vae_fast.bounds import ELBO, capacity_loss
from vae_fast.latent.seeds import Generator
from vae_fast.models.base import Shape
from vae_fast.models.settings import check_number, check_whole
from vae_fast.models.vae import VAE


class BetaVAE(VAE):
    """loss = nll + beta kl (Higgins et al. 2017, "beta-VAE", equation 4).

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        beta: the weight, at least 0. That of a training run, as of a warm-up, multiplies it.
        **networks: the other arguments of a VAE.

    Example:
        >>> import torch
        >>> from vae_fast.models import BetaVAE
        >>> loss, nll, kl = BetaVAE(784, 10, beta=4.0).loss(torch.rand(8, 784))
        >>> torch.allclose(loss, nll + 4 * kl)
        True
    """

    kind: ClassVar[str] = "beta_vae"
    title: ClassVar[str] = "beta-VAE"
    takes_estimators: ClassVar[bool] = False
    beta: float

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        beta: float = 4.0,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self._keep(beta=check_number(self, "beta", beta, above=0))

    def _loss(
        self,
        x: Tensor,
        prepared: Tensor,
        beta: float | Tensor,
        free_bits: float,
        generator: Generator | None,
    ) -> ELBO:
        return super()._loss(x, prepared, self.beta * beta, free_bits, generator)


class AnnealedVAE(VAE):
    """loss = nll + gamma |kl - C|, where C rises with the steps of training.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", equation 8: the code takes up
    one factor of the data after another. `steps` counts the losses in training mode, and is saved
    with the weights; evaluation has the whole capacity.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        capacity: C at the end, nats.
        gamma: the weight, 1000 in the paper.
        rise: steps in which C rises from 0.
        **networks: the other arguments of a VAE.

    Example:
        >>> import torch
        >>> from vae_fast.models import AnnealedVAE
        >>> model = AnnealedVAE(784, 10, capacity=5.0, gamma=10.0, rise=100).eval()
        >>> loss, nll, kl = model.loss(torch.rand(8, 784))
        >>> torch.allclose(loss, nll + 10 * (kl - 5).abs())
        True
    """

    kind: ClassVar[str] = "annealed_vae"
    title: ClassVar[str] = "VAE of a rising capacity"
    takes_estimators: ClassVar[bool] = False
    capacity: float
    gamma: float
    rise: int
    steps: Tensor

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        capacity: float = 25.0,
        gamma: float = 1000.0,
        rise: int = 10_000,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self._keep(
            capacity=check_number(self, "capacity", capacity, above=0),
            gamma=check_number(self, "gamma", gamma, above=0),
            rise=check_whole(self, "rise", rise),
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _loss(
        self,
        x: Tensor,
        prepared: Tensor,
        beta: float | Tensor,
        free_bits: float,
        generator: Generator | None,
    ) -> ELBO:
        terms = super()._loss(x, prepared, 0.0, free_bits, generator)
        capacity: float | Tensor = self.capacity
        if self.training:
            capacity = capacity * (self.steps / self.rise).clamp(max=1)
            self.steps += 1
        return capacity_loss(terms, capacity, self.gamma * beta)
