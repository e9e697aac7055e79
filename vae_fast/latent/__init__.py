"""Of the code: q(z|x), p(z), q(z), how far one is from the other, samples and their noise."""

from vae_fast.engine.extension import C
from vae_fast.latent.aggregated_posterior import aggregated_posterior_log_prob
from vae_fast.latent.discrepancies import hsic, mmd
from vae_fast.latent.divergences import gaussian_kl
from vae_fast.latent.gaussian_mixture import gaussian_mixture_log_prob
from vae_fast.latent.log_ratio import gaussian_log_ratio
from vae_fast.latent.nearest_code import nearest_code
from vae_fast.latent.sampling import reparameterize, reparameterize_kl
from vae_fast.latent.seeds import draw_seed

if C is not None:
    from vae_fast.latent import rules  # noqa: F401  (registers what the ops need from Python)

__all__ = [
    "aggregated_posterior_log_prob",
    "draw_seed",
    "gaussian_kl",
    "gaussian_log_ratio",
    "gaussian_mixture_log_prob",
    "hsic",
    "mmd",
    "nearest_code",
    "reparameterize",
    "reparameterize_kl",
]
