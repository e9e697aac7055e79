"""Latent bits: with a straight-through gradient, or relaxed to the interval."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from vae_fast.engine.distribution import register_kl
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.latent.posteriors.relaxed import Relaxed, StraightThrough
from vae_fast.latent.posteriors.vectors import VectorDistribution
from vae_fast.likelihoods.bernoulli import bernoulli_kl, bernoulli_nll


def _logistic(like: Tensor) -> Tensor:
    """Logistic noise, the logit of a uniform number strictly between 0 and 1."""
    uniform = torch.rand_like(like).clamp(min=torch.finfo(like.dtype).tiny)
    return torch.log(uniform) - torch.log1p(-uniform)


class BernoulliVector(VectorDistribution):
    """Of vectors of independent bits, whose samples have straight-through gradients.

    A sample's gradient is that of the probabilities (Bengio et al. 2013, arXiv:1308.3432), which is
    biased. The divergence of two is exact, and does not cancel between neighbours.

    Args:
        logits: Of ones, (*batch, D).
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import BernoulliVector
        >>> q = BernoulliVector(torch.tensor([[0.0, 5.0]]))
        >>> kl_divergence(q, BernoulliVector(torch.zeros(2)))
        tensor([0.6530])
    """

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support = constraints.independent(constraints.boolean, 1)  # type: ignore[no-untyped-call]
    logits: Tensor

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits, validate_args=validate_args)

    def _draw(self, logits: Tensor) -> Tensor:
        probs = torch.sigmoid(logits)
        hard = (torch.rand_like(logits) < probs).to(logits.dtype)
        return hard + (probs - probs.detach())

    def _cost(self, value: Tensor) -> Tensor:
        return _bernoulli_cost(self._given[0], value)

    @property
    def mean(self) -> Tensor:
        """The probabilities of ones."""
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Tensor:
        """The likelier ones; of equal ones 0."""
        return (self.logits > 0).to(self.logits.dtype)

    def entropy(self) -> Tensor:
        """The cost is linear in the value: that of the mean."""
        logits = self._computed()[0]
        return _bernoulli_cost(logits, torch.sigmoid(logits)).expand(self._batch_shape)


def _bernoulli_cost(logits: Tensor, value: Tensor) -> Tensor:
    shape = broadcast_shape((logits, value))
    logits, value = logits.expand(shape), value.expand(shape)
    return bernoulli_nll(logits, value, batch_dims=len(shape) - 1, reduction="sample")


class BinaryConcrete(Relaxed):
    """Of vectors of numbers from 0 to 1: bits relaxed, sigmoid((logits + logistic noise) / t).

    Maddison, Mnih and Teh 2017, "The concrete distribution" (arXiv:1611.00712), appendix B; as
    :class:`Concrete` for two classes: ``rsample_kl`` estimates the divergence of two from the
    sample's own noise, ``kl_divergence`` to a :class:`BernoulliVector` is that of the bits, exact.

    ``log_prob`` reads what has been rounded to 0 or 1 as the nearest number between.

    Args:
        logits: Of ones, (*batch, D).
        temperature: t > 0, (*batch); or a number. Towards 0 samples become bits.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from vae_fast.latent.posteriors import BinaryConcrete
        >>> q = BinaryConcrete(torch.tensor([[5.0, 0.0]]), temperature=0.5)
        >>> z, kl = q.rsample_kl(BinaryConcrete(torch.zeros(2), temperature=0.5))
        >>> z.shape, kl.shape
        (torch.Size([1, 2]), torch.Size([1]))
    """

    support = constraints.independent(constraints.unit_interval, 1)  # type: ignore[no-untyped-call]

    def _noise(self, like: Tensor) -> Tensor:
        return _logistic(like)

    def _of(self, y: Tensor) -> Tensor:
        return torch.sigmoid(y)

    def _inverse(self, value: Tensor) -> tuple[Tensor, Tensor]:
        info = torch.finfo(value.dtype)
        value = value.clamp(min=info.tiny, max=1 - 0.5 * info.eps)
        log_z, log_rest = torch.log(value), torch.log1p(-value)
        return log_z - log_rest, (log_z + log_rest).sum(-1)

    def _log_density(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """Of the logit of z; Maddison et al. 2017, equation 26."""
        magnitude = scores.abs()
        each = torch.log(temperature).unsqueeze(-1) - magnitude
        return (each - 2 * functional.softplus(-magnitude)).sum(-1)


class StraightThroughBinaryConcrete(StraightThrough, BinaryConcrete):
    """:class:`BinaryConcrete`, whose samples are bits and have the relaxed sample's gradient.

    Arguments as there.

    Example:
        >>> import torch
        >>> from vae_fast.latent.posteriors import StraightThroughBinaryConcrete
        >>> StraightThroughBinaryConcrete(torch.tensor([[9e3, -9e3]]), temperature=1.0).rsample()
        tensor([[1., 0.]])
    """

    support = constraints.independent(constraints.boolean, 1)  # type: ignore[no-untyped-call]

    _kind = BernoulliVector

    def _of(self, y: Tensor) -> Tensor:
        relaxed = torch.sigmoid(y)
        return (y.detach() > 0).to(y.dtype) + (relaxed - relaxed.detach())


@register_kl(BernoulliVector, BernoulliVector)
@register_kl(BinaryConcrete, BernoulliVector)
def _kl(p: BernoulliVector | BinaryConcrete, q: BernoulliVector) -> Tensor:
    """Of the bits, exact."""
    return bernoulli_kl(p._computed()[0], q._computed()[0]).sum(-1)
