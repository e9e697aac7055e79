"""Distributions after torch.distributions, whose log_prob the kernels compute.

Each class has the parameters of its likelihood's function, :class:`NegativeBinomial` those of
:func:`negative_binomial_nll`.

Each is a ``torch.distributions.Distribution``, for all that takes one (``Independent``,
``TransformedDistribution``, ``kl_divergence``); :class:`vae_fast.engine.distribution.Distribution`
says what they share. Parameters have the names of the likelihood's function and its form of them
(logarithms of scales and rates, logits), but for its ``mean``, which is ``loc``: ``mean`` is the
expectation of every distribution. ``torch.distributions.kl_divergence`` knows, in closed form, two
of one class, and one and torch's: of all but StudentT, the negative binomial and beta-binomial
ones, the zero-inflated ones, those of discretized logistics, VonMises and mixtures.

Two have torch's own interface, and are torch's class to all that asks: ``Categorical`` and
``MixtureSameFamily``, a mixture of any of them.

Those of vectors are posteriors of a VAE: normal ones (``DiagonalNormal``, ``LowRankNormal``,
``FullNormal``), on the sphere (``VonMisesFisher``, ``PowerSpherical``,
``HypersphericalUniform``), of shares (``Dirichlet``), classes and bits (``OneHotCategorical``,
``Concrete``, ``BernoulliVector``, ``BinaryConcrete``, and straight-through ones).

A class is in its likelihood's file of ``vae_fast.likelihoods``, or its own of
``vae_fast.latent.posteriors``. Type checkers read the stub that build_tools/stub.py writes beside
this file.

Example:
    >>> import torch
    >>> from vae_fast.distributions import NegativeBinomial
    >>> p = NegativeBinomial(torch.tensor([1.0, 10.0]), theta=2.0)
    >>> p.log_prob(torch.tensor([0, 12])), p.sample((5,)).shape
    (tensor([-0.8109, -3.2064]), torch.Size([5, 2]))
    >>> p.mean, p.variance
    (tensor([ 1., 10.]), tensor([ 1.5000, 60.0000]))
"""

from torch.distributions import Distribution

from vae_fast import likelihoods  # noqa: F401  (they enter themselves into the table)
from vae_fast.engine.mixture_distribution import MixtureSameFamily
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.latent import posteriors

_classes = [entry.distribution for entry in LIKELIHOODS.values() if entry.distribution is not None]
_public = (getattr(posteriors, name) for name in posteriors.__all__)
_classes += [x for x in _public if isinstance(x, type) and issubclass(x, Distribution)]
__all__ = [distribution.__name__ for distribution in _classes]
globals().update(zip(__all__, _classes, strict=True))
__all__ += [MixtureSameFamily.__name__]
