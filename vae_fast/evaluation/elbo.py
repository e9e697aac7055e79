"""The bound of each datum, with its parts."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.bounds import ELBO
from vae_fast.latent import gaussian_kl, reparameterize
from vae_fast.models import VAE


@torch.no_grad()
def elbo_per_datum(model: VAE, x: Tensor, num_samples: int = 1) -> ELBO:
    """The negative evidence lower bound of each datum and its two terms, in nats.

    Args:
        model: on the device of x.
        x: (N, *input_shape), floats or uint8.
        num_samples: codes drawn from q(z | x), over which -log p(x | z) is averaged; the divergence
            is exact.

    Returns:
        loss = nll + kl, nll and kl, (N,) each.

    Raises:
        ValueError: num_samples is below 1.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> from vae_fast.evaluation import elbo_per_datum
        >>> terms = elbo_per_datum(vf.VAE(6, 2, hidden=(8,)), torch.rand(3, 6), 10)
        >>> terms.nll.shape, torch.equal(terms.loss, terms.nll + terms.kl)
        (torch.Size([3]), True)
    """
    if num_samples < 1:
        raise ValueError(f"elbo_per_datum: num_samples is {num_samples}; expected at least 1")
    mu, logvar = model.encode(x)
    z = reparameterize(mu, logvar, num_samples=num_samples)
    nll = -model.conditional_log_likelihood(x, z).mean(0)
    kl = gaussian_kl(mu, logvar, reduction="sample")
    return ELBO(nll + kl, nll, kl)
