"""Auto-encoders and variational auto-encoders, ready made or around modules of your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_fast.models.autoencoder import AutoEncoder, AutoEncoderOutput
from vae_fast.models.base import LatentModel
from vae_fast.models.bounds import CIWAE, IWAE, PIWAE
from vae_fast.models.distributional import (
    FlowPriorVAE,
    LearnedPriorVAE,
    MixtureVAE,
    PosteriorOutput,
    PosteriorVAE,
    SphericalVAE,
    VampVAE,
)
from vae_fast.models.factor import FactorVAE
from vae_fast.models.linear import LinearVAE
from vae_fast.models.penalized import DIPVAE, BetaTCVAE, InfoVAE, PenalizedVAE
from vae_fast.models.quantized import FSQVAE, VQVAE, QuantizedAutoEncoder
from vae_fast.models.regularized import DenoisingAutoEncoder, WassersteinAutoEncoder
from vae_fast.models.vae import VAE, Codes, VAEOutput
from vae_fast.models.weighted import AnnealedVAE, BetaVAE

# By the names that they have in files and on the command line.
MODELS: dict[str, type[LatentModel]] = {
    model.kind: model
    for model in (
        AutoEncoder,
        DenoisingAutoEncoder,
        WassersteinAutoEncoder,
        VQVAE,
        FSQVAE,
        VAE,
        BetaVAE,
        AnnealedVAE,
        BetaTCVAE,
        FactorVAE,
        DIPVAE,
        InfoVAE,
        IWAE,
        PIWAE,
        CIWAE,
        VampVAE,
        MixtureVAE,
        LearnedPriorVAE,
        FlowPriorVAE,
        SphericalVAE,
        PosteriorVAE,
        LinearVAE,
    )
}

__all__ = [
    "CIWAE",
    "DIPVAE",
    "FSQVAE",
    "IWAE",
    "MODELS",
    "PIWAE",
    "VAE",
    "VQVAE",
    "AnnealedVAE",
    "AutoEncoder",
    "AutoEncoderOutput",
    "BetaTCVAE",
    "BetaVAE",
    "Codes",
    "DenoisingAutoEncoder",
    "FactorVAE",
    "FlowPriorVAE",
    "InfoVAE",
    "LatentModel",
    "LearnedPriorVAE",
    "LinearVAE",
    "MixtureVAE",
    "PenalizedVAE",
    "PosteriorOutput",
    "PosteriorVAE",
    "QuantizedAutoEncoder",
    "SphericalVAE",
    "VAEOutput",
    "VampVAE",
    "WassersteinAutoEncoder",
    "build",
]


def build(config: Mapping[str, Any]) -> LatentModel:
    """The model that a `LatentModel.config` describes, with fresh weights.

    Raises:
        ValueError: the description is of no model of this package.
    """
    arguments = dict(config)
    kind = arguments.pop("model", None)
    if kind not in MODELS:
        raise ValueError(f"model is {kind!r}; expected one of {(*MODELS,)}")
    try:
        return MODELS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"the model's configuration does not fit: {error}") from error
