"""Distributions after torch.distributions, whose log_prob the kernels compute.

    from vae_fast.distributions import NegativeBinomial
    p = NegativeBinomial(mu, theta)  # the parameters that negative_binomial_nll takes
    p.log_prob(counts), p.sample((10,)), p.mean, p.variance

Each is a ``torch.distributions.Distribution``, for all that takes one (``Independent``,
``TransformedDistribution``, ``kl_divergence``); :class:`vae_fast.engine.distribution.Distribution`
says what they share. Parameters have the names of the likelihood's function and its form of them
(logarithms of scales and rates, logits), but for its ``mean``, which is ``loc``: ``mean`` is the
expectation of every distribution. ``torch.distributions.kl_divergence`` knows, in closed form, two
of one class, and one and torch's: of all but StudentT, the negative binomial and beta-binomial
ones, the zero-inflated ones, those of discretized logistics, VonMises and mixtures.

Two have torch's own interface, and are torch's class to all that asks: ``Categorical`` and
``MixtureSameFamily``, a mixture of any of them.

A class is in its likelihood's file of :mod:`vae_fast.likelihoods`. Type checkers read the stub
that build_tools/stub.py writes beside this file.
"""

from vae_fast import likelihoods  # noqa: F401  (they enter themselves into the table)
from vae_fast.engine.mixture_distribution import MixtureSameFamily
from vae_fast.engine.table import LIKELIHOODS

_classes = [entry.distribution for entry in LIKELIHOODS.values() if entry.distribution is not None]
__all__ = [distribution.__name__ for distribution in _classes]
globals().update(zip(__all__, _classes, strict=True))
__all__ += [MixtureSameFamily.__name__]
