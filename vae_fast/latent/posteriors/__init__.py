"""Posteriors q(z | x): distributions of vectors, after torch.distributions.

Each has ``rsample`` and ``log_prob`` (in nats, summed over the latent dimensions, which are its
event), and an ``entropy`` where it has a closed form; so has ``torch.distributions.kl_divergence``.
:func:`vae_fast.latent.rsample_kl` gives a sample with its divergence from any prior. ``POSTERIORS``
has what an encoder gives for each, by name. (Gamma and Beta are those of
:mod:`vae_fast.distributions`, under torch's ``Independent``.)

Example:
    >>> import torch
    >>> from vae_fast.latent import posteriors
    >>> q = posteriors.PowerSpherical(torch.tensor([1.0, 0.0]), torch.tensor(3.0))
    >>> q.rsample((5,)).shape, q.log_prob(torch.tensor([1.0, 0.0]))
    (torch.Size([5, 2]), tensor(-0.6747))
"""

from vae_fast.latent.posteriors.bernoulli import (
    BernoulliVector,
    BinaryConcrete,
    StraightThroughBinaryConcrete,
)
from vae_fast.latent.posteriors.categorical import (
    Concrete,
    OneHotCategorical,
    StraightThroughConcrete,
)
from vae_fast.latent.posteriors.diagonal_normal import DiagonalNormal
from vae_fast.latent.posteriors.dirichlet import Dirichlet
from vae_fast.latent.posteriors.full_normal import FullNormal
from vae_fast.latent.posteriors.low_rank_normal import LowRankNormal
from vae_fast.latent.posteriors.power_spherical import PowerSpherical
from vae_fast.latent.posteriors.sphere import HypersphericalUniform
from vae_fast.latent.posteriors.von_mises_fisher import VonMisesFisher

from vae_fast.latent.posteriors.table import POSTERIORS, PosteriorHead  # isort: skip  (of them all)

__all__ = [
    "POSTERIORS",
    "BernoulliVector",
    "BinaryConcrete",
    "Concrete",
    "DiagonalNormal",
    "Dirichlet",
    "FullNormal",
    "HypersphericalUniform",
    "LowRankNormal",
    "OneHotCategorical",
    "PosteriorHead",
    "PowerSpherical",
    "StraightThroughBinaryConcrete",
    "StraightThroughConcrete",
    "VonMisesFisher",
]
