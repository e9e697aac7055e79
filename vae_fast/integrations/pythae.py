"""Models of pythae: VAE, BetaVAE, DisentangledBetaVAE, VAMP, IWAE, CIWAE and MIWAE.

What is replaced is ``loss_function``: the divergence, the densities of z and the "bce" of the
decoder's probabilities. "mse" and the sampling stay pythae's, and so do their noise, the other
terms and what the model returns: the same seed gives the same run, to rounding.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast.engine.shapes import broadcast_shapes
from vae_fast.integrations._switch import Peer, Switched, revert, switch_class
from vae_fast.latent import gaussian_kl
from vae_fast.likelihoods.bernoulli import bernoulli_nll
from vae_fast.likelihoods.gaussian import gaussian_nll

__all__ = ["apply", "revert"]

_PEER = Peer("pythae", tried="0.1.2")
_VAE, _BetaVAE, _DisentangledBetaVAE, _VAMP, _IWAE, _CIWAE, _MIWAE = _MODELS = _PEER.names(
    "pythae.models", "VAE", "BetaVAE", "DisentangledBetaVAE", "VAMP", "IWAE", "CIWAE", "MIWAE"
)
_ARGUMENTS = ("self", "recon_x", "x", "mu", "log_var", "z")
for _model in _MODELS:
    _epoch = ("epoch",) if _model in (_DisentangledBetaVAE, _VAMP) else ()
    _PEER.expect(_model.loss_function, *_ARGUMENTS, *_epoch)
_PEER.expect(_VAMP._log_p_z, "self", "z")

Model = TypeVar("Model")
Terms = tuple[Tensor, Tensor, Tensor]
_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def _log_density(mean: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """Log N(z; mean, exp(logvar)) without its constant, as pythae has it, summed over z's rows."""
    shape = broadcast_shapes(mean.shape, z.shape)
    cost = gaussian_nll(
        z.expand(shape), mean.expand(shape), logvar, batch_dims=len(shape) - 1, reduction="sample"
    )
    return shape[-1] * _HALF_LOG_2_PI - cost


class _Loss(Switched):
    model_config: Any

    def _reconstruction(self, recon_x: Tensor, x: Tensor) -> Tensor:
        """Of recon_x (B, *samples, D) and x (B, D), in nats: (B, *samples)."""
        samples = recon_x.dim() - 2
        x = x.reshape(len(x), *(1,) * samples, -1).expand_as(recon_x)
        if self.model_config.reconstruction_loss == "bce":
            how: Any = {"batch_dims": 1 + samples, "reduction": "sample"}
            return bernoulli_nll(recon_x, x, from_probs=True, **how)
        # torch's own is as fast.
        return 0.5 * functional.mse_loss(recon_x, x, reduction="none").sum(-1)


class _VAELoss(_Loss):
    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor, *epoch: int
    ) -> Terms:
        recon_loss = self._reconstruction(recon_x.reshape(len(x), -1), x)
        kl = self._divergence(mu, log_var, z)
        loss = (recon_loss + self._weighed(kl, *epoch)).mean(dim=0)
        return loss, recon_loss.mean(dim=0), kl.mean(dim=0)

    def _divergence(self, mu: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        return gaussian_kl(mu, log_var, reduction="sample")

    def _weighed(self, kl: Tensor) -> Tensor:
        return kl


class _BetaLoss(_VAELoss):
    beta: float

    def _weighed(self, kl: Tensor) -> Tensor:
        return self.beta * kl


class _DisentangledBetaLoss(_VAELoss):
    beta: float
    C: float
    warmup_epoch: int

    def _weighed(self, kl: Tensor, epoch: int) -> Tensor:  # type: ignore[override]
        return self.beta * torch.abs(kl - self.C * min(epoch / (self.warmup_epoch + 1), 1))


class _VampLoss(_VAELoss):
    number_components: int
    linear_scheduling: int
    training: bool

    def _divergence(self, mu: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        return _log_density(mu, log_var, z) - self._log_p_z(z)

    def _weighed(self, kl: Tensor, epoch: int) -> Tensor:  # type: ignore[override]
        if self.linear_scheduling <= 0 or epoch > self.linear_scheduling or not self.training:
            return kl
        return epoch / self.linear_scheduling * kl

    def _log_p_z(self, z: Tensor) -> Tensor:
        own: Any = self
        count = self.number_components
        shape = (count, *own.model_config.input_dim)
        prior = own.encoder(own.pseudo_inputs(own.idle_input.to(z.device)).reshape(shape))
        each = _log_density(prior.embedding, prior.log_covariance, z.unsqueeze(1))
        return torch.logsumexp(each, dim=1) - math.log(count)


class _ImportanceLoss(_Loss):
    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
    ) -> Terms:
        recon_loss = self._reconstruction(recon_x, x)
        log_p_z = -0.5 * z.square().sum(dim=-1)
        kl = _log_density(mu, log_var, z) - log_p_z
        log_w = -(recon_loss + kl)
        bound = -(torch.softmax(log_w, dim=1).detach() * log_w).sum(1)
        return self._loss(bound, log_w), self._shown(recon_loss), self._shown(kl)

    def _loss(self, bound: Tensor, log_w: Tensor) -> Tensor:
        return bound.mean()

    def _shown(self, term: Tensor) -> Tensor:
        return term.mean()


class _MultipleImportanceLoss(_ImportanceLoss):
    def _shown(self, term: Tensor) -> Tensor:
        return term.mean(dim=0)


class _CombinedImportanceLoss(_MultipleImportanceLoss):
    beta: float

    def _loss(self, bound: Tensor, log_w: Tensor) -> Tensor:
        return (-self.beta * log_w.mean(dim=-1) + (1 - self.beta) * bound).mean()


_SERVED: dict[type, type[Switched]] = {
    _VAE: _VAELoss,
    _BetaVAE: _BetaLoss,
    _DisentangledBetaVAE: _DisentangledBetaLoss,
    _VAMP: _VampLoss,
    _IWAE: _ImportanceLoss,
    _CIWAE: _CombinedImportanceLoss,
    _MIWAE: _MultipleImportanceLoss,
}


def apply(model: Model) -> Model:
    """Switches the loss of a model.

    Args:
        model: A model of one of the classes above, itself, with any encoder and decoder. (A class
            that inherits from one of them, as pythae's other models do, may have another loss.)

    Returns:
        The model.

    Raises:
        TypeError: The model is of another class.
        ValueError: It is switched already.
    """
    return switch_class(_PEER, model, _SERVED)
