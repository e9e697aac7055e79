"""Models of scvi-tools: the likelihood of counts and the divergence of ``SCVI`` and its kin.

What is replaced is the arithmetic inside ``module.loss``. The distributions that a module gives
(with their mean, samples and ``get_normalized``) and its noise stay scvi-tools': the same seed
gives the same run, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_fast.engine.distribution import enter_kl
from vae_fast.integrations._switch import Peer, Switched, switch_class
from vae_fast.integrations._switch import revert as revert_module
from vae_fast.latent import gaussian_kl
from vae_fast.likelihoods.gaussian import gaussian_nll
from vae_fast.likelihoods.negative_binomial import negative_binomial_nll
from vae_fast.likelihoods.poisson import poisson_nll
from vae_fast.likelihoods.zero_inflated_negative_binomial import (
    zero_inflated_negative_binomial_nll,
)

__all__ = ["apply", "revert"]

_PEER = Peer("scvi-tools", tried="1.4.2")
_VAE, _LDVAE, _SCANVAE = _PEER.names("scvi.module", "VAE", "LDVAE", "SCANVAE")
_NB, _ZINB, _Poisson, _Normal = _PEER.names(
    "scvi.distributions", "NegativeBinomial", "ZeroInflatedNegativeBinomial", "Poisson", "Normal"
)
_LOSS = ("self", "tensors", "inference_outputs")
_PEER.expect(_VAE.loss, *_LOSS, "generative_outputs", "kl_weight")
_PEER.expect(
    _SCANVAE.loss,
    *_LOSS,
    "generative_ouputs",
    "kl_weight",
    "labelled_tensors",
    "classification_ratio",
)

Model = TypeVar("Model")
_EPS = 1e-8  # scvi-tools' own: a mean of 0 and a count above it cost log(1e8), not infinity


def _gaussian(p: Any, x: Tensor, scale: Tensor, **how: Any) -> Tensor:
    return gaussian_nll(p.loc, x, scale=scale, **how)


def _poisson(p: Any, x: Tensor, _: Tensor | None, **how: Any) -> Tensor:
    return poisson_nll(torch.log(p.rate), x, **how)


def _negative_binomial(p: Any, x: Tensor, theta: Tensor, **how: Any) -> Tensor:
    return negative_binomial_nll(p.mu + _EPS, x, theta, **how)


def _zero_inflated(p: Any, x: Tensor, theta: Tensor, **how: Any) -> Tensor:
    return zero_inflated_negative_binomial_nll(p.mu + _EPS, x, theta, p.zi_logits, **how)


# The cost of counts, and the name of the parameter that may be each gene's own alone.
_COSTS: dict[type, tuple[Callable[..., Tensor], str]] = {
    _NB: (_negative_binomial, "theta"),
    _ZINB: (_zero_inflated, "theta"),
    _Poisson: (_poisson, ""),
    _Normal: (_gaussian, "scale"),
}


class _Likelihood:
    """Of a cell, in place of p(x|z) inside the loss, which does nothing but sum its log_prob.

    Args:
        px: scvi-tools' distribution.
        of_gene: The dispersion, where it is each gene's: (G,), not (B, G).
    """

    def __init__(self, px: Any, of_gene: Tensor | None) -> None:
        self.px, self.of_gene = px, of_gene

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, 1): summed over the genes already, in the same pass."""
        cost, name = _COSTS[type(self.px)]
        shared = getattr(self.px, name, None) if self.of_gene is None else self.of_gene
        dims = self.px.mean.dim() - 1
        nll = cost(self.px, x, shared, batch_dims=dims, reduction="sample")
        return -nll.unsqueeze(-1)


class _Posterior(torch.distributions.Normal):
    """q(z|x) and p(z) inside the loss, which does nothing but sum their divergence."""

    def __init__(self, of_scvi: torch.distributions.Normal) -> None:
        super().__init__(of_scvi.loc, of_scvi.scale, validate_args=False)


def _divergence(q: Any, p: Any) -> Tensor:
    """(B, 1), likewise."""
    dims = q.loc.dim() - 1
    log_scales = 2 * torch.log(q.scale), 2 * torch.log(p.scale)
    kl = gaussian_kl(
        q.loc, log_scales[0], p.loc, log_scales[1], batch_dims=dims, reduction="sample"
    )
    return kl.unsqueeze(-1)


enter_kl(_Posterior, _divergence, {})


class _Counts(Switched):
    dispersion: str
    px_r: Tensor

    def _with_likelihood(self, generative_outputs: Any) -> dict[str, Any]:
        of_gene = torch.exp(self.px_r) if self.dispersion == "gene" else None
        return {**generative_outputs, "px": _Likelihood(generative_outputs["px"], of_gene)}


# The arguments' names are part of it: scvi-tools gives a loss those that its signature has.


class _VAELoss(_Counts):
    def loss(
        self,
        tensors: Any,
        inference_outputs: Any,
        generative_outputs: Any,
        kl_weight: Any = 1.0,
    ) -> Any:
        inferred = {**inference_outputs, "qz": _Posterior(inference_outputs["qz"])}
        generated = self._with_likelihood(generative_outputs)
        generated["pz"] = _Posterior(generated["pz"])
        return super().loss(tensors, inferred, generated, kl_weight)  # type: ignore[misc]


class _SCANVAELoss(_Counts):
    def loss(
        self,
        tensors: Any,
        inference_outputs: Any,
        generative_ouputs: Any,  # as scvi-tools spells it
        kl_weight: Any = 1.0,
        labelled_tensors: Any = None,
        classification_ratio: Any = None,
    ) -> Any:
        generated = self._with_likelihood(generative_ouputs)
        others = kl_weight, labelled_tensors, classification_ratio
        return super().loss(tensors, inference_outputs, generated, *others)  # type: ignore[misc]


_SERVED = {_VAE: _VAELoss, _LDVAE: _VAELoss, _SCANVAE: _SCANVAELoss}


def apply(model: Model) -> Model:
    """Switches the loss of a model.

    Args:
        model: An ``SCVI``, ``LinearSCVI`` or ``SCANVI`` of scvi-tools, or its ``module``; of any
            ``gene_likelihood``, ``dispersion`` and ``latent_distribution``.

    Returns:
        The model.

    Raises:
        TypeError: The module is not of one of these classes.
        ValueError: It is switched already.
    """
    switch_class(_PEER, _module(model), _SERVED, ", or a model that has one")
    return model


def revert(model: Model) -> Model:
    """Gives a model's module its class back, and so scvi-tools' loss.

    Args:
        model: What :func:`apply` switched, or its module.

    Returns:
        The model.

    Raises:
        ValueError: It is not switched.
    """
    revert_module(_module(model))
    return model


def _module(model: Any) -> Any:
    is_module = isinstance(model, torch.nn.Module)
    return model if is_module else getattr(model, "module", model)
