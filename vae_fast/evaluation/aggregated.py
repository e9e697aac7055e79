"""q(z) of all data, for more codes than are compared with them at once."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.latent import aggregated_posterior_log_prob

_ELEMENTS = 2**22  # codes x data x dimensions made at once: bounds the memory


def aggregated_log_prob(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Log q(z), (B,), and log q(z_d), (B, D), of all data: mu and logvar (N, D); in nats."""
    parts = torch.split(z, max(1, _ELEMENTS // max(1, mu.numel())))
    joint, marginals = zip(
        *(aggregated_posterior_log_prob(part, mu, logvar) for part in parts), strict=True
    )
    return torch.cat(joint), torch.cat(marginals)
