"""What an auto-encoder and a VAE share: networks around a code, and a likelihood at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vae_fast.functional import ELBO
from vae_fast.models.likelihoods import (
    LIKELIHOODS,
    GaussianLikelihood,
    Likelihood,
    Params,
)
from vae_fast.models.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from vae_fast.models.wide import wide_decoder

ARCHITECTURES = ("mlp", "conv")
_BYTE = 1 / 255

Shape = int | Sequence[int]


class LatentModel(nn.Module):
    """An encoder, a code of `latent_dim` numbers, a decoder and a likelihood p(x | code).

    Args:
        input_shape: of one datum without the batch: 784, or (1, 28, 28).
        latent_dim: size of the code; a shape, such as (4, 8, 8), for modules of your own.
        hidden: sizes of the hidden linear layers, from the data inwards; the decoder mirrors them.
        architecture: "mlp", or "conv" for pictures (C, H, W): convolutions of stride 2 in front of
            the linear layers.
        channels: of those convolutions.
        likelihood: "bernoulli" for intensities in [0, 1], "gaussian" for real values.
        decoder_logvar: of the Gaussian: "learned" (one number), "pixel" (one from the decoder for
            each element), or a number that stays fixed.
        encoder: a module of your own in place of the encoder, from (B, *input_shape) floats to
            (B, `code_size` * latent_dim, ...).
        decoder: a module of your own in place of the decoder, from (B, *latent_dim) to
            (B, *input_shape), or with twice the channels for `decoder_logvar="pixel"`.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """

    kind: ClassVar[str]  # its name on the command line and in files
    code_size: ClassVar[int]  # numbers that the encoder gives for each one in the code

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        hidden: Sequence[int] = (400,),
        architecture: Literal["mlp", "conv"] = "mlp",
        channels: Sequence[int] = (32, 64),
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        decoder_logvar: Literal["learned", "pixel"] | float = "learned",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.input_shape = _shape("input_shape", input_shape)
        self.latent_shape = _shape("latent_dim", latent_dim)
        hidden = _sizes("hidden", hidden)
        channels = _sizes("channels", channels)
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {architecture!r}; expected one of {ARCHITECTURES}")
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {likelihood!r}; expected one of {(*LIKELIHOODS,)}")
        if architecture == "conv":
            if len(self.input_shape) != 3:
                raise ValueError(
                    f"input_shape is {self.input_shape}; convolutions need pictures (C, H, W)"
                )
            if not channels:
                raise ValueError("channels is empty; convolutions need at least one")
        if likelihood == "gaussian":
            self.likelihood: Likelihood = GaussianLikelihood(decoder_logvar)
        else:
            self.likelihood = LIKELIHOODS[likelihood]()

        codes = self.code_size * math.prod(self.latent_shape)
        wanted = (self.likelihood.per_element * self.input_shape[0], *self.input_shape[1:])
        latent = math.prod(self.latent_shape)
        if architecture == "conv":
            self.encoder = encoder or conv_encoder(self.input_shape, channels, hidden, codes)
            self.decoder = decoder or conv_decoder(latent, channels, hidden, wanted)
        else:
            self.encoder = encoder or mlp_encoder(self.input_shape, hidden, codes)
            self.decoder = decoder or mlp_decoder(latent, hidden, wanted)

        # What builds this model again; None where modules came from outside.
        self.config: dict[str, Any] | None = None
        if encoder is None and decoder is None:
            self.config = {
                "model": self.kind,
                "input_shape": list(self.input_shape),
                "latent_dim": latent_dim if isinstance(latent_dim, int) else list(latent_dim),
                "hidden": list(hidden),
                "architecture": architecture,
                "channels": list(channels),
                "likelihood": likelihood,
                "decoder_logvar": decoder_logvar,
            }

    def prepare(self, x: Tensor) -> Tensor:
        """Data as the encoder reads them: floats in the dtype of its weights; uint8 as x / 255."""
        dtype = next(self.parameters()).dtype
        if x.dtype != torch.uint8:
            return x.to(dtype)
        # A single pass over the bytes where the result is torch's default dtype anyway.
        return x * _BYTE if dtype == torch.get_default_dtype() else x.to(dtype) * _BYTE

    def decode(self, z: Tensor) -> Params:
        """Codes (..., *latent) to the parameters of p(x | z), (..., *input_shape).

        Returns:
            The logits (Bernoulli), or the mean and the log-variance (Gaussian).
        """
        batch = z.shape[: z.dim() - len(self.latent_shape)]
        if len(batch) == 1:
            params: Params = self.likelihood(self.decoder(z))
            return params
        params = self.decode(z.reshape(-1, *self.latent_shape))
        if isinstance(params, Tensor):
            return _unflatten(params, batch)
        return tuple(_unflatten(param, batch) for param in params)

    def _nll(self, code: Tensor, x: Tensor, prepared: Tensor) -> Tensor:
        """Negative log-likelihood of x given its codes (B, *latent), in nats per datum.

        Where the decoder ends in a layer with a large output, that output is not made:
        `vae_fast.linear_nll`.

        Args:
            code: (B, *latent).
            x: the data as they came.
            prepared: the same as the encoder reads them.
        """
        wide = wide_decoder(self.decoder, x)
        if wide is None:
            return self.likelihood.nll(self.decode(code), x, prepared, 1, "batchmean")
        return self.likelihood.linear_nll(wide.body(code), wide.layer, x, prepared)

    def mean(self, params: Params) -> Tensor:
        """The expected x under p(x | z), from what `decode` gave."""
        return self.likelihood.mean(params)

    def loss(self, x: Tensor, *, beta: float | Tensor = 1.0, free_bits: float = 0.0) -> ELBO:
        """What training minimises, with its terms, in nats per datum.

        Args:
            x: (B, *input_shape), floats or uint8.
            beta: weight of the KL term in the loss.
            free_bits: nats of KL that each latent dimension has for nothing.

        Returns:
            loss = nll + beta * kl, and both terms unweighted.
        """
        raise NotImplementedError

    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the code of x, (B, *input_shape)."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """One point in the code's space for each x, (B, *latent)."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Decode `n` codes drawn from N(0, I): the expected x of each, (n, *input_shape).

        Only a VAE has been trained to have its codes there; an auto-encoder has not, and the
        difference shows.

        Args:
            n: how many.
            generator: a CPU generator for the codes; None: torch's default one.
        """
        z = torch.randn(n, *self.latent_shape, generator=generator, device="cpu")
        weight = next(self.parameters())
        return self.mean(self.decode(z.to(weight)))


def _unflatten(tensor: Tensor, batch: torch.Size) -> Tensor:
    if tensor.dim() == 0:  # a parameter that all data share
        return tensor
    return tensor.reshape(*batch, *tensor.shape[1:])


def _shape(name: str, value: Shape) -> tuple[int, ...]:
    sizes = _sizes(name, (value,) if isinstance(value, int) else value)
    if not sizes:
        raise ValueError(f"{name} is empty; expected at least one size")
    return sizes


def _sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(values)
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"{name} is {sizes}; expected positive whole numbers")
    return sizes
