"""The FactorVAE."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from vae_fast.latent.seeds import Generator
from vae_fast.models.base import Shape, sizes_of
from vae_fast.models.penalized import PenalizedVAE, batch_noise
from vae_fast.models.settings import check_number
from vae_fast.models.vae import Codes


class FactorVAE(PenalizedVAE):
    """loss = nll + kl + gamma TC(z), the total correlation by a discriminator.

    Kim and Mnih 2018, "Disentangling by factorising", equation 2 and algorithm 1: D tells codes of
    data from codes whose dimensions were permuted over the batch, each by itself, and log D / (1 -
    D), the logit, estimates log q(z) / prod_d q(z_d). D learns in the same step, by the gradient of
    its own cross-entropy, whose value the loss does not have and which does not reach the encoder;
    the total correlation does not reach D. (The paper permutes the codes of a second batch; these
    are of the same one.)

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        gamma: weight of the total correlation.
        discriminator_hidden: sizes of D's hidden layers; the paper has six of 1000.
        **networks: the other arguments of a VAE.

    Example:
        >>> import torch
        >>> from vae_fast.models import FactorVAE
        >>> model = FactorVAE(784, 10, gamma=6.0, discriminator_hidden=(64, 64))
        >>> model.loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "factor_vae"
    title: ClassVar[str] = "FactorVAE"
    gamma: float

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        gamma: float = 6.0,
        discriminator_hidden: Sequence[int] = (256, 256, 256),
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        sizes = sizes_of("discriminator_hidden", discriminator_hidden)
        if not sizes:
            raise ValueError("FactorVAE: discriminator_hidden is empty, expected at least one size")
        gamma = check_number(self, "gamma", gamma, above=0)
        self._keep(gamma=gamma, discriminator_hidden=list(sizes))
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((math.prod(self.latent_shape), *sizes)):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def penalty(self, codes: Codes, x: Tensor, generator: Generator | None) -> Tensor:
        """The total correlation, and in training what D learns by."""
        z = codes.z
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        correlation: Tensor = functional_call(self.discriminator, fixed, (z,)).mean()
        if not self.training:
            return self.gamma * correlation
        order = batch_noise(z, generator, torch.rand).argsort(0)
        permuted = z.detach().gather(0, order)
        logits = self.discriminator(torch.cat((z.detach(), permuted))).squeeze(1)
        of_data = torch.arange(len(logits), device=z.device) < len(z)
        own = functional.binary_cross_entropy_with_logits(logits, of_data.to(logits.dtype))
        return self.gamma * correlation + (own - own.detach())
