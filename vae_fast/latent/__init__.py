"""Of the code: q(z|x), p(z), the divergence of one from the other, samples and their noise."""

from vae_fast.engine.extension import C
from vae_fast.latent.divergences import gaussian_kl
from vae_fast.latent.sampling import reparameterize, reparameterize_kl
from vae_fast.latent.seeds import draw_seed

if C is not None:
    from vae_fast.latent import rules  # noqa: F401  (registers what the ops need from Python)

__all__ = ["draw_seed", "gaussian_kl", "reparameterize", "reparameterize_kl"]
