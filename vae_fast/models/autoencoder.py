"""The auto-encoder: a code without a distribution."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vae_fast.functional import ELBO
from vae_fast.models.base import LatentModel
from vae_fast.models.likelihoods import Params


class AutoEncoderOutput(NamedTuple):
    """What `AutoEncoder.forward` gives.

    Attributes:
        params: of p(x | z): logits, or mean and log-variance.
        z: the codes (B, *latent).
    """

    params: Params
    z: Tensor


class AutoEncoder(LatentModel):
    """x to its code and back, trained to reconstruct; the VAE's networks and likelihood.

    It is the control for the VAE: nothing asks its codes to fill the space around the origin, so
    that decoding a random code gives nothing sensible. Arguments: see `LatentModel`.
    """

    kind: ClassVar[str] = "ae"
    code_size: ClassVar[int] = 1

    def encode(self, x: Tensor) -> Tensor:
        """The codes of x, (B, *latent)."""
        z: Tensor = self.encoder(self.prepare(x))
        return torch.unflatten(z, 1, self.latent_shape) if z.dim() == 2 else z

    def forward(self, x: Tensor) -> AutoEncoderOutput:
        """Encode and decode."""
        z = self.encode(x)
        return AutoEncoderOutput(self.decode(z), z)

    def loss(self, x: Tensor, *, beta: float | Tensor = 1.0, free_bits: float = 0.0) -> ELBO:
        """The negative log-likelihood of the reconstruction, in nats per datum.

        `beta` and `free_bits` weigh a term that is zero here.
        """
        prepared = self.prepare(x)
        nll = self._nll(self.encode(prepared), x, prepared)
        return ELBO(nll, nll, torch.zeros_like(nll))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the code of x, (B, *input_shape)."""
        return self.mean(self(x).params)

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """The codes of x, (B, *latent)."""
        return self.encode(x)
