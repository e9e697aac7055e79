"""Bounds of the evidence."""

from vae_fast.bounds.capacity import capacity_loss
from vae_fast.bounds.elbo import ELBO, ELBOLoss, elbo_loss
from vae_fast.bounds.importance_weighted import importance_weighted_loss, mark_path
from vae_fast.bounds.kl_decomposition import KLDecomposition, kl_decomposition

__all__ = [
    "ELBO",
    "ELBOLoss",
    "KLDecomposition",
    "capacity_loss",
    "elbo_loss",
    "importance_weighted_loss",
    "kl_decomposition",
    "mark_path",
]
