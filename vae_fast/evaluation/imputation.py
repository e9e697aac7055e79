"""Values that are missing, from those that are there."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.annealing import standard_normal_log_prob
from vae_fast.evaluation.importance import importance_estimate
from vae_fast.models import VAE

_ELEMENTS = 2**25  # samples x data x elements


class Imputation(NamedTuple):
    """Data with their missing values filled in.

    Attributes:
        mean: (N, *input_shape): what was observed, and E[x_missing | x_observed] elsewhere.
        draws: (draws, N, *input_shape): the same with the expected x of one code each, drawn from
            p(z | x_observed): how they differ is what is not known.
        log_likelihood: (N,) float64, log p(x_observed) by importance samples, in nats.
        effective_sample_size: (N,) float64, of their weights.
    """

    mean: Tensor
    draws: Tensor
    log_likelihood: Tensor
    effective_sample_size: Tensor


@torch.no_grad()
def impute(
    model: VAE,
    x: Tensor,
    observed: Tensor,
    *,
    iterations: int = 20,
    chains: int = 16,
    num_samples: int = 500,
    draws: int = 4,
    generator: torch.Generator | None = None,
) -> Imputation:
    """Fill in the values that are not observed, by iteration and then by importance resampling.

    The encoder knows whole data only. So the missing values start at what a draw from the prior
    decodes to, and each iteration replaces them by what a code drawn from q(z | x) decodes to
    (pseudo-Gibbs, Rezende et al. 2014, appendix F). Such a chain does not end at
    p(z | x_observed), since q is not the posterior, and it may stay where it began. So there are
    several, and the mixture of their last q is only the proposal of K importance samples, weighed
    by p(x_observed | z) p(z) / q(z), which do end there (sampling importance resampling, Mattei and
    Frellsen 2019, "MIWAE", section 2.3; the weights of a mixture of proposals, Veach and Guibas
    1995): the mean is weighed by them, and the draws are drawn by them.

    Args:
        model: with a likelihood of independent elements.
        x: (N, *input_shape), floats or uint8; what is at missing places is not looked at.
        observed: (N, *input_shape) or (*input_shape) bool: true where x is known.
        iterations: of each chain.
        chains: C.
        num_samples: K, at least 2; rounded up to a multiple of C.
        draws: of each datum.
        generator: for the noise and the resampling, of the CPU.

    Raises:
        TypeError: observed is not bool.
        ValueError: its shape does not fit, a number is too small, or the elements of the likelihood
            are not independent.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> from vae_fast.evaluation import impute
        >>> model, x = vf.VAE(6, 2, hidden=(8,)), torch.rand(3, 6)
        >>> observed = torch.tensor([True, True, True, True, False, False])
        >>> filled = impute(model, x, observed, num_samples=10)
        >>> torch.equal(filled.mean[:, :4], x[:, :4]), filled.draws.shape
        (True, torch.Size([4, 3, 6]))
    """
    if not isinstance(observed, Tensor) or observed.dtype != torch.bool:
        kind = getattr(observed, "dtype", type(observed).__name__)
        raise TypeError(f"impute: observed is {kind}; expected a tensor of bool")
    if observed.shape not in (x.shape, x.shape[1:]):
        raise ValueError(
            f"impute: observed has shape {tuple(observed.shape)}; expected {tuple(x.shape)} or "
            f"{tuple(x.shape[1:])}, x's"
        )
    for name, value, fewest in (
        ("iterations", iterations, 1),
        ("chains", chains, 1), ("num_samples", num_samples, 2), ("draws", draws, 1),
    ):  # fmt: skip
        if value < fewest:
            raise ValueError(f"impute: {name} is {value}; expected at least {fewest}")
    if model.likelihood.data in ("counts", "classes") or model.conditions:
        raise ValueError(
            f"impute: the likelihood is {model.likelihood.name}; expected one of intensities or "
            "of real numbers"
        )
    observed = observed.to(x.device).expand(x.shape)
    # Codes that are decoded at once: bounds the memory.
    width = max(1, _ELEMENTS // (num_samples * x[0].numel()))
    parts = [
        _impute(model, *part, iterations, chains, num_samples, draws, generator)
        for part in zip(torch.split(x, width), torch.split(observed, width), strict=True)
    ]
    mean, drawn, log_likelihood, size = zip(*parts, strict=True)
    return Imputation(
        torch.cat(mean), torch.cat(drawn, dim=1), torch.cat(log_likelihood), torch.cat(size)
    )


def _impute(
    model: VAE,
    x: Tensor,
    observed: Tensor,
    iterations: int,
    chains: int,
    num_samples: int,
    draws: int,
    generator: torch.Generator | None,
) -> Imputation:
    known = model.prepare(x)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, *model.latent_shape, generator=generator, device="cpu").to(known)

    filled = torch.where(observed, known, model.mean(model.decode(noise(chains, len(x)))))
    for _ in range(iterations):
        mu, logvar = _encoded(model, filled)
        z = mu + torch.exp(0.5 * logvar) * noise(chains, len(x))
        filled = torch.where(observed, known, model.mean(model.decode(z)))
    mu, logvar = _encoded(model, filled)
    each = -(-num_samples // chains)
    z = mu + torch.exp(0.5 * logvar) * noise(each, chains, len(x))
    z = z.flatten(0, 1)  # (K, N, *latent)
    params = model.decode(z)
    # At missing places what is compared does not matter, as long as it is a number.
    nll = model.likelihood.nll(params, filled[0], filled[0], 2, "none")
    likelihood = -torch.where(observed, nll, 0.0).flatten(2).sum(2)
    log_weights = likelihood - _log_proposal(z, mu, logvar)
    log_weights = log_weights + standard_normal_log_prob(z, len(model.latent_shape))
    estimate = importance_estimate(log_weights)
    weights = torch.softmax(log_weights.double(), 0)
    expected = model.mean(params)
    mean = torch.einsum("kn,kn...->n...", weights.to(expected), expected)
    chosen = torch.multinomial(weights.T.cpu(), draws, True, generator=generator).T.to(z.device)
    drawn = expected[chosen, torch.arange(len(x), device=z.device)]
    return Imputation(
        torch.where(observed, known, mean),
        torch.where(observed, known, drawn),
        estimate.log_likelihood,
        estimate.effective_sample_size,
    )


def _encoded(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q(z | x), of (chains, N, *input_shape)."""
    mu, logvar = model.encode(x.flatten(0, 1))
    return mu.reshape(*x.shape[:2], *mu.shape[1:]), logvar.reshape(*x.shape[:2], *mu.shape[1:])


def _log_proposal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Log 1/C sum_c q_c(z) of each datum's chains, (K, N); one chain at a time, for the memory."""
    latent_dims = z.dim() - 2
    chains = [
        standard_normal_log_prob((z - mean) * torch.exp(-0.5 * spread), latent_dims)
        - 0.5 * spread.flatten(1).sum(1)
        for mean, spread in zip(mu, logvar, strict=True)
    ]
    return torch.stack(chains).logsumexp(0) - math.log(len(chains))
