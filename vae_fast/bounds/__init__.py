"""Bounds of the evidence."""

from vae_fast.bounds.elbo import ELBO, ELBOLoss, elbo_loss
from vae_fast.bounds.importance_weighted import importance_weighted_loss, mark_path

__all__ = ["ELBO", "ELBOLoss", "elbo_loss", "importance_weighted_loss", "mark_path"]
