"""The loss of a VAE from several codes of each datum, by any estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vae_fast.bounds import ELBO, importance_weighted_loss, mark_path
from vae_fast.bounds.checks import check_settings, estimator_of
from vae_fast.bounds.estimators import ESTIMATORS
from vae_fast.latent import gaussian_kl, gaussian_log_ratio, reparameterize
from vae_fast.latent.checks import check_num_samples, check_pairs
from vae_fast.latent.seeds import Generator

if TYPE_CHECKING:
    from vae_fast.models.vae import VAE


class Sampling(NamedTuple):
    """How codes are drawn and what is made of them; see `VAE.loss`."""

    estimator: str = "elbo"
    num_samples: int = 1
    alpha: float | None = None
    groups: int | None = None
    antithetic: bool = False


def check_sampling(owner: str, sampling: Sampling, *, weighs_kl: bool, free_bits: float) -> None:
    """Raises unless the settings go together.

    Args:
        owner: whose they are, for the messages.
        sampling: the settings.
        weighs_kl: whether the KL term has another weight than one.
        free_bits: of the KL term.

    Raises:
        TypeError: one has a wrong type.
        ValueError: one is out of its range, or the estimator has no use for it.
    """
    estimator, num_samples, alpha, groups, antithetic = sampling
    row = estimator_of(owner, estimator)
    check_num_samples(owner, num_samples)
    check_settings(owner, estimator, num_samples, alpha, groups)
    if weighs_kl and not row.is_elbo:
        raise ValueError(
            f"{owner}: beta is not 1, and the bound of estimator {estimator!r} has no KL term to "
            f"weigh"
        )
    if free_bits and estimator != "elbo":
        raise ValueError(
            f"{owner}: free_bits is {free_bits}, which estimator {estimator!r} lacks: they are of "
            f"the KL term in closed form"
        )
    if antithetic and row.independent:
        raise ValueError(
            f"{owner}: antithetic is True, and estimator {estimator!r} needs independent samples"
        )
    if antithetic:
        check_pairs(owner, num_samples)


def sampled_terms(
    model: VAE,
    x: Tensor,
    prepared: Tensor,
    sampling: Sampling,
    beta: float | Tensor,
    free_bits: float,
    generator: Generator | None,
) -> ELBO:
    """The loss and its terms, nats per datum; see `VAE.loss`.

    Args:
        model: encodes and decodes.
        x: (B, *input_shape), the data as they came.
        prepared: the same as floats.
        sampling: how many codes, and which estimator.
        beta: weight of the KL term.
        free_bits: of the KL term.
        generator: for the noise.
    """
    weighs_kl = isinstance(beta, Tensor) or beta != 1
    check_sampling("VAE", sampling, weighs_kl=weighs_kl, free_bits=free_bits)
    mu, logvar = model.encode(prepared)
    drawn: dict[str, Any] = {
        "num_samples": sampling.num_samples,
        "generator": generator,
        "antithetic": sampling.antithetic,
    }
    if sampling.estimator == "elbo":
        nll = model._conditional_nll(x, prepared, reparameterize(mu, logvar, **drawn)).mean()
        kl = gaussian_kl(mu, logvar, free_bits=free_bits)
        return ELBO(nll + kl * beta, nll, kl)
    row = ESTIMATORS[sampling.estimator]
    parts: dict[str, Any] = {}
    if row.wants:
        z = reparameterize(mu, logvar, **drawn)
        parts["log_q"] = log_q = _log_ratio(z.detach(), mu, logvar)
        if "path" in row.wants:
            z, parts["path"] = mark_path(z, batch_dims=2)
        if not row.has_path:
            z = z.detach()
        nll = model._conditional_nll(x, prepared, z)
        # The score weighs what it does whatever beta is.
        ratio = _log_ratio(z, mu.detach(), logvar.detach())
        log_weights = -nll - beta * ratio - (log_q - log_q.detach())
    else:
        zero = torch.zeros_like(mu)
        noise = reparameterize(zero, zero, **drawn)
        log_weights, nll = log_weights_of(model, x, prepared, mu, logvar, noise)
    loss = importance_weighted_loss(
        log_weights,
        estimator=sampling.estimator,
        alpha=sampling.alpha,
        groups=sampling.groups,
        **parts,
    )
    with torch.no_grad():
        return ELBO(loss, nll.detach().mean(), gaussian_kl(mu, logvar))


def log_weights_of(
    model: VAE, x: Tensor, prepared: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Of z = mu + exp(logvar / 2) noise: log p(x | z) + log p(z) - log q(z | x), and -log p(x | z).

    Both (K, B). Made of the noise itself, since z - mu loses digits where sigma is small.
    """
    z = reparameterize(mu.expand_as(noise), logvar.expand_as(noise), noise=noise)
    nll = model._conditional_nll(x, prepared, z)
    return -nll - _log_ratio(z, mu, logvar, noise), nll


def _log_ratio(z: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor | None = None) -> Tensor:
    return gaussian_log_ratio(z, mu, logvar, noise=noise, batch_dims=2, reduction="sample")
