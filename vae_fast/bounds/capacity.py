"""The KL term held at a capacity, in place of a weighted one."""

from __future__ import annotations

from torch import Tensor

from vae_fast.bounds.elbo import ELBO


def capacity_loss(terms: ELBO, capacity: float | Tensor, weight: float | Tensor = 1000.0) -> ELBO:
    """Loss = terms.loss + weight |kl - capacity|, in nats (Burgess et al. 2018, equation 8).

    A weight far above 1 holds the KL at the capacity, which is raised over the training: the code
    takes up one factor of the data after another, and the KL at the end is what was asked for.

    Args:
        terms: With ``beta=0``, so that the KL is not in its loss already; of scalars, or one for
            each datum (``reduction="sample"``), whose KL is then held datum by datum.
        capacity: C, in nats; a tensor for a schedule under a CUDA graph.
        weight: The paper's gamma, 1000 there.

    Returns:
        The new loss, and the terms as they were.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> logits, x = torch.zeros(2, 3), torch.ones(2, 3)
        >>> mu, logvar = torch.ones(2, 4), torch.zeros(2, 4)
        >>> terms = vf.elbo_loss(logits, x, mu, logvar, beta=0)
        >>> vf.capacity_loss(terms, capacity=5.0, weight=10.0)  # of a KL of 2
        ELBO(loss=tensor(32.0794), nll=tensor(2.0794), kl=tensor(2.))
    """
    return terms._replace(loss=terms.loss + weight * (terms.kl - capacity).abs())
