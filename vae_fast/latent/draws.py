"""A posterior's sample with its divergence from a prior, whichever they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vae_fast.latent.priors.base import Prior


def rsample_kl(posterior: Distribution, prior: Prior | Distribution) -> tuple[Tensor, Tensor]:
    """A sample z of q(z | x), with its gradients, and the divergence KL(q(z | x) || p(z)), in nats.

    The divergence is that in closed form where ``torch.distributions.kl_divergence`` knows one for
    the two; else it is estimated at the sample, log q(z | x) - log p(z), which is unbiased and may
    be negative. Two of one class that have a pass of their own for both (DiagonalNormal), or an
    estimate from their own noise (Concrete, BinaryConcrete), use that.

    Args:
        posterior: q(z | x), with ``rsample``.
        prior: p(z).

    Returns:
        (z, kl): (*batch, *event) and (*batch).

    Raises:
        NotImplementedError: The posterior has no ``rsample``.

    Example:
        >>> import torch
        >>> from vae_fast.latent import priors, rsample_kl
        >>> from vae_fast.latent.posteriors import DiagonalNormal
        >>> q = DiagonalNormal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
        >>> z, kl = rsample_kl(q, priors.StandardNormal(2))
        >>> z.shape, kl
        (torch.Size([1, 2]), tensor([0.5000]))
    """
    p = prior.distribution() if isinstance(prior, Prior) else prior
    own: Any = getattr(posterior, "rsample_kl", None)
    is_alike = isinstance(p, type(posterior)) or (p is not None and isinstance(posterior, type(p)))
    if own is not None and is_alike:
        z, kl = own(p)
        return z, kl
    if p is not None:
        try:
            kl = kl_divergence(posterior, p)
        except NotImplementedError:
            pass  # there is none: the estimate below
        else:
            return posterior.rsample(), kl
    both: Any = getattr(posterior, "rsample_and_log_prob", None)
    if both is not None:
        z, log_q = both()
    else:
        z = posterior.rsample()
        log_q = posterior.log_prob(z)
    return z, log_q - prior.log_prob(z)
