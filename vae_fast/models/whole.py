"""The loss of a VAE of multilayer perceptrons as one op, with one node in autograd's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vae_fast.engine.call import as_tensor
from vae_fast.engine.extension import kernels
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.models.fused import (
    FusedSequential,
    Plain,
    is_flatten,
    leading_run,
    parameters_of,
)

if TYPE_CHECKING:
    from vae_fast.models.vae import VAE

_is_fused_sequential = Plain(FusedSequential)
_is_unflatten = Plain(nn.Unflatten)


def whole_terms(
    model: VAE, x: Tensor, prepared: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor] | None:
    """The negative log-likelihood and the divergence; None where the op does not do it.

    What somebody has changed or looks at on the way is called as it is.

    Args:
        model: whose methods and likelihood are plain; `LatentModel._is_plain`.
        x: (B, *input_shape), the data as they came.
        prepared: the same as floats.
        generator: for the noise.
    """
    likelihood = model.likelihood
    if (
        len(model.latent_shape) > 1
        or likelihood.per_element != 1
        or not _is_fused_sequential(model.encoder)
        or not _is_fused_sequential(model.decoder)
    ):
        return None
    first, *encoder = cast(nn.Sequential, model.encoder)
    *decoder, last = cast(nn.Sequential, model.decoder)
    if not is_flatten(first) or not _is_unflatten(last):
        return None
    assert isinstance(first, nn.Flatten)
    assert isinstance(last, nn.Unflatten)
    if (first.start_dim, first.end_dim) != (1, -1) or last.unflattened_size != model.input_shape:
        return None
    for network in (encoder, decoder):
        if not network or leading_run(network) != network:
            return None
    terms: tuple[Tensor, Tensor] | None = kernels.elbo(
        prepared.flatten(1),
        likelihood.target(x, prepared).flatten(1),
        parameters_of(encoder),
        parameters_of(decoder),
        LIKELIHOODS[likelihood.name].op,
        [as_tensor(value, prepared) for value in likelihood.shared],
        generator,
    )
    return terms
