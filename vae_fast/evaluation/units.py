"""Which dimensions of the code a VAE uses."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.evaluation.checks import check_posterior
from vae_fast.latent import gaussian_kl

_ACTIVE_FROM = 0.01


def active_units(mu: Tensor, *, threshold: float = _ACTIVE_FROM) -> Tensor:
    """Which dimensions tell data apart: the variance of q's mean over the data is above 0.01.

    Burda et al. 2016, section 5.2: A_u = Cov_x(E_q(u | x)[u]).

    Args:
        mu: (N, D), the means of q(z | x) of N data.
        threshold: of the variance.

    Returns:
        (D,) bool.

    Raises:
        TypeError: mu is no floating tensor.
        ValueError: it is not (N, D) with at least 2 data.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import active_units
        >>> active_units(torch.tensor([[1.0, 0.01], [-1.0, 0.0]]))
        tensor([ True, False])
    """
    check_posterior("active_units", mu, mu)
    return mu.double().var(0) > threshold


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z_j | x) || N(0, 1)) of each dimension j, averaged over the data, in nats.

    Args:
        mu: (N, D), the means of q(z | x).
        logvar: (N, D), the logarithms of its variances.

    Returns:
        (D,) float64; their sum is the divergence in the ELBO.

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: they are not (N, D) both, with at least 2 data.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import kl_per_dimension
        >>> kl_per_dimension(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2, 2))
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    check_posterior("kl_per_dimension", mu, logvar)
    with torch.no_grad():
        return gaussian_kl(mu.double(), logvar.double(), reduction="none").mean(0)
