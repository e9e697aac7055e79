"""A VAE of which everything is known: linear networks around a Gaussian, probabilistic PCA.

Tipping and Bishop 1999: x = W z + b + noise of variance s, so that x is N(b, W W' + s I) and z
given x is N(M^-1 W' (x - b), s M^-1) with M = W' W + s I, which is diagonal where W's columns are
orthogonal.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from vae_fast.models import VAE

SIZE, LATENT, VARIANCE = 6, 2, 0.5


@dataclass(frozen=True)
class LinearVAE:
    """A model in float64 with the true posterior as q, but for what `spoil` adds to its mean."""

    model: VAE
    weight: Tensor
    bias: Tensor
    x: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.weight @ self.weight.T + VARIANCE * torch.eye(SIZE, dtype=torch.float64)

    def log_prob(self) -> Tensor:
        """log p(x) of each datum."""
        return torch.distributions.MultivariateNormal(self.bias, self.covariance).log_prob(self.x)


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Oracles in float64; where it is computed is the functions' own affair."""
    with torch.device("cpu"):
        yield


def linear_vae(count: int = 40, spoil: float = 0.0) -> LinearVAE:
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = torch.linalg.qr(normal(SIZE, LATENT)).Q * torch.tensor([2.0, 1.0])
    bias = normal(SIZE)
    precision = weight.T @ weight + VARIANCE * torch.eye(LATENT, dtype=torch.float64)
    encoder, decoder = nn.Linear(SIZE, 2 * LATENT), nn.Linear(LATENT, SIZE)
    model = VAE(
        SIZE, LATENT, likelihood="gaussian", decoder_logvar=math.log(VARIANCE),
        encoder=encoder, decoder=decoder,
    ).double()  # fmt: skip
    back = torch.linalg.solve(precision, weight.T)
    logvar = (VARIANCE / precision.diagonal()).log()
    with torch.no_grad():
        decoder.weight.copy_(weight)
        decoder.bias.copy_(bias)
        encoder.weight.copy_(torch.cat([back, torch.zeros_like(back)]))
        encoder.bias.copy_(torch.cat([spoil - back @ bias, logvar + spoil]))
    x = normal(count, LATENT) @ weight.T + bias + VARIANCE**0.5 * normal(count, SIZE)
    return LinearVAE(model, weight, bias, x)
