"""Auto-encoders and variational auto-encoders, ready made or around modules of your own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_fast.models.autoencoder import AutoEncoder, AutoEncoderOutput
from vae_fast.models.base import LatentModel
from vae_fast.models.vae import VAE, VAEOutput

__all__ = ["VAE", "AutoEncoder", "AutoEncoderOutput", "LatentModel", "VAEOutput", "build"]

_MODELS: dict[str, type[LatentModel]] = {model.kind: model for model in (AutoEncoder, VAE)}


def build(config: Mapping[str, Any]) -> LatentModel:
    """The model that a `LatentModel.config` describes, with fresh weights.

    Raises:
        ValueError: the description is of no model of this package.
    """
    arguments = dict(config)
    kind = arguments.pop("model", None)
    if kind not in _MODELS:
        raise ValueError(f"model is {kind!r}; expected one of {(*_MODELS,)}")
    try:
        return _MODELS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"the model's configuration does not fit: {error}") from error
