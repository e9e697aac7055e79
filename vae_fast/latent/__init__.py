"""Of the code: q(z|x), p(z), q(z), how far one is from the other, samples and their noise.

Example:
    >>> import torch
    >>> from vae_fast.latent import POSTERIORS, priors, rsample_kl
    >>> head = POSTERIORS["low_rank_normal"](latent_dim=4)
    >>> q = head(torch.zeros(8, head.numbers))  # of an encoder
    >>> z, kl = rsample_kl(q, priors.MixtureOfGaussians(4, num_components=10))
    >>> z.shape, kl.shape
    (torch.Size([8, 4]), torch.Size([8]))
"""

from vae_fast.engine.extension import C
from vae_fast.latent.aggregated_posterior import aggregated_posterior_log_prob
from vae_fast.latent.discrepancies import hsic, mmd
from vae_fast.latent.divergences import gaussian_kl
from vae_fast.latent.draws import rsample_kl
from vae_fast.latent.gaussian_mixture import gaussian_mixture_log_prob
from vae_fast.latent.hierarchies import balance_kl, merge_normals, residual_normal_kl
from vae_fast.latent.log_ratio import gaussian_log_ratio
from vae_fast.latent.nearest_code import nearest_code
from vae_fast.latent.posteriors import POSTERIORS
from vae_fast.latent.sampling import reparameterize, reparameterize_kl
from vae_fast.latent.seeds import draw_seed

if C is not None:
    from vae_fast.latent import rules  # noqa: F401  (registers what the ops need from Python)

__all__ = [
    "POSTERIORS",
    "aggregated_posterior_log_prob",
    "balance_kl",
    "draw_seed",
    "gaussian_kl",
    "gaussian_log_ratio",
    "gaussian_mixture_log_prob",
    "hsic",
    "merge_normals",
    "mmd",
    "nearest_code",
    "reparameterize",
    "reparameterize_kl",
    "residual_normal_kl",
    "rsample_kl",
]
