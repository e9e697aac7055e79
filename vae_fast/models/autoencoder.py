"""The auto-encoder: a code without a distribution."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, overload

import torch
from torch import Tensor

from vae_fast.bounds import ELBO
from vae_fast.engine.likelihood import Params
from vae_fast.latent.seeds import Generator
from vae_fast.models.base import LatentModel, register_output
from vae_fast.models.wide import wide_decoder


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
    that decoding a random code gives nothing sensible. Arguments: see
    :class:`vae_fast.models.LatentModel`.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> model = vf.AutoEncoder((1, 28, 28), 10, architecture="conv")
        >>> model.loss(torch.rand(4, 1, 28, 28)).kl
        tensor(0.)
        >>> model.embed(torch.rand(4, 1, 28, 28)).shape
        torch.Size([4, 10])
    """

    kind: ClassVar[str] = "ae"
    title: ClassVar[str] = "Auto-encoder"
    has_prior: ClassVar[bool] = False
    code_size: ClassVar[int] = 1

    def encode(self, x: Tensor) -> Tensor:
        """The codes of x, (B, *latent)."""
        z: Tensor = self.encoder(self.likelihood.encoded(self.prepare(x)))
        return torch.unflatten(z, 1, self.latent_shape) if z.dim() == 2 else z

    @overload
    def forward(self, x: Tensor, *, return_loss: Literal[False] = False) -> AutoEncoderOutput: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        return_loss: Literal[True],
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> ELBO: ...

    def forward(
        self,
        x: Tensor,
        *,
        return_loss: bool = False,
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> AutoEncoderOutput | ELBO:
        """Encode and decode; or the loss of that.

        Args:
            x: (B, *input_shape), floats or uint8.
            return_loss: the negative log-likelihood of the reconstruction, as `loss` gives it.
            beta: weighs a term that is zero here, as `free_bits` does.
            free_bits: see `beta`.
            generator: for the noise, of which there is none here.
        """
        prepared = self.prepare(x)
        z, penalty = self._coded(prepared, generator)
        if not return_loss:
            return AutoEncoderOutput(self.decode(z), z)
        wide = wide_decoder(self.decoder, x) if self._is_plain(x) else None
        nll = self._nll(z, x, prepared, wide)
        loss = nll if penalty is None else nll + penalty
        return ELBO(loss, nll, torch.zeros_like(nll))

    def _coded(self, prepared: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor | None]:
        """What is decoded, and what the loss has beside the negative log-likelihood."""
        return self.encode(prepared), None

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the code of x, (B, *input_shape)."""
        return self.likelihood.reconstruction(self(x).params, x)

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """The codes of x, (B, *latent)."""
        return self.encode(x)


AutoEncoder._methods = {name: getattr(AutoEncoder, name) for name in ("decode", "_nll")}
register_output(AutoEncoderOutput)
