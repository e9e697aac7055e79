"""Bounds of the evidence."""

from vae_fast.bounds.elbo import ELBO, ELBOLoss, elbo_loss

__all__ = ["ELBO", "ELBOLoss", "elbo_loss"]
