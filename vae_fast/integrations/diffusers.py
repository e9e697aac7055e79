"""The posterior of diffusers' autoencoders: ``AutoencoderKL`` and others that give moments.

What is replaced is the ``DiagonalGaussianDistribution`` that ``encode`` returns. Convolutions are
99% of such a model's step: it is not faster, its divergence is right in half precision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_fast.integrations._switch import Peer, Switched, revert, switch
from vae_fast.latent import gaussian_kl, reparameterize
from vae_fast.likelihoods.gaussian import gaussian_nll

__all__ = ["DiagonalGaussianDistribution", "apply", "revert"]

_PEER = Peer("diffusers", tried="0.42.1")
_Theirs: Any = _PEER.names("diffusers.models.autoencoders.vae", "DiagonalGaussianDistribution")
_PEER.expect(_Theirs.__init__, "self", "parameters", "deterministic")
_PEER.expect(_Theirs.sample, "self", "generator")
_PEER.expect(_Theirs.kl, "self", "other")
_PEER.expect(_Theirs.nll, "self", "sample", "dims")

Model = TypeVar("Model")
_EVENT = (1, 2, 3)  # what diffusers sums over


class DiagonalGaussianDistribution(_Theirs):
    """diffusers' class of that name, computed by this package's functions.

    Values and gradients are diffusers', to rounding, with two differences: ``sample`` draws its
    noise as :func:`vae_fast.reparameterize` does, so that a seed gives another z; and the sums
    of half-precision moments are float32.

    Args:
        parameters: Moments (B, 2C, H, W), mean and log-variance, which is clamped to [-30, 20]
            (without a gradient where it is outside).
        deterministic: Whether the variance is 0: ``sample`` is the mean, ``kl`` and ``nll`` are 0.
    """

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        self.parameters, self.deterministic = parameters, deterministic
        self.mean, logvar = torch.chunk(parameters, 2, dim=1)
        self.logvar = torch.clamp(logvar, -30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Standard deviations."""
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variances."""
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(self.logvar)

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """Draws z; of a list of generators each entry of the batch has its own."""
        if self.deterministic:
            return self.mean.clone()
        if isinstance(generator, list) and len(generator) == 1:
            (generator,) = generator
        return reparameterize(self.mean, self.logvar, generator=generator)

    def kl(self, other: Any = None) -> Tensor:
        """KL to N(0, I) or to another one, in nats, summed over the dimensions 1, 2 and 3."""
        if self.deterministic:
            return torch.Tensor([0.0])
        prior = () if other is None else (other.mean, other.logvar)
        operands = (self.mean, self.logvar, *prior)
        if self.mean.dim() == 4:
            return gaussian_kl(*operands, reduction="sample")
        return gaussian_kl(*operands, batch_dims=0, reduction="none").sum(_EVENT)

    def nll(self, sample: Tensor, dims: Sequence[int] = _EVENT) -> Tensor:
        """-log q(sample), in nats, summed over ``dims``."""
        if self.deterministic:
            return torch.Tensor([0.0])
        operands = (self.mean, sample, self.logvar)
        if self.mean.dim() == 4 and tuple(dims) == _EVENT:
            return gaussian_nll(*operands, reduction="sample")
        return gaussian_nll(*operands, batch_dims=0, reduction="none").sum(tuple(dims))


class _Autoencoder(Switched):
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        encoded = super().encode(*args, **kwargs)  # type: ignore[misc]
        if isinstance(encoded, tuple):
            return _own(encoded[0]), *encoded[1:]
        encoded.latent_dist = _own(encoded.latent_dist)
        return encoded


def _own(posterior: Any) -> Any:
    """Of the model's posterior; others, which some models have by configuration, stay."""
    if type(posterior) is not _Theirs:
        return posterior
    return DiagonalGaussianDistribution(posterior.parameters, posterior.deterministic)


def apply(model: Model) -> Model:
    """Switches a model's posterior to :class:`DiagonalGaussianDistribution`.

    Args:
        model: An autoencoder of diffusers (or of a class that inherits from one) whose ``encode``
            gives a ``DiagonalGaussianDistribution``. A pipeline's is its ``vae``.

    Returns:
        The model.

    Raises:
        TypeError: The model is of another kind.
        ValueError: It is switched already.
    """
    is_served = hasattr(model, "encode") and any(
        getattr(sys.modules[kind.__module__], "DiagonalGaussianDistribution", None) is _Theirs
        for kind in type(model).__mro__
    )
    expected = "an autoencoder of diffusers that gives a DiagonalGaussianDistribution"
    return switch(model, _Autoencoder if is_served else None, f"{expected}, as AutoencoderKL")
