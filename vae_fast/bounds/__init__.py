"""Bounds of the evidence."""

from vae_fast.bounds.capacity import capacity_loss
from vae_fast.bounds.elbo import ELBO, ELBOLoss, elbo_loss

__all__ = ["ELBO", "ELBOLoss", "capacity_loss", "elbo_loss"]
