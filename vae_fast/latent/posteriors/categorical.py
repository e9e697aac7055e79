"""Latent classes, one-hot: with a straight-through gradient, or relaxed to the simplex."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.classes import classes_kl
from vae_fast.engine.distribution import register_kl
from vae_fast.latent.posteriors.relaxed import Relaxed, StraightThrough
from vae_fast.latent.posteriors.vectors import VectorDistribution, simplex


def _log_exponential(like: Tensor) -> Tensor:
    """The negative of Gumbel noise: the logarithm of exponential variates."""
    return torch.log(torch.empty_like(like).exponential_().clamp(min=torch.finfo(like.dtype).tiny))


def _one_hot_largest(x: Tensor) -> Tensor:
    classes = torch.arange(x.shape[-1], device=x.device)
    return (x.argmax(-1, keepdim=True) == classes).to(x.dtype)


class OneHotCategorical(VectorDistribution):
    """Of one-hot vectors, whose samples have straight-through gradients.

    A sample's gradient is that of the probabilities (Bengio et al. 2013, arXiv:1308.3432), which is
    biased. The divergence of two is exact, a sum over the classes.

    Args:
        logits: Of K classes, (*batch, K), unnormalised; -infinity: never.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import OneHotCategorical
        >>> q = OneHotCategorical(torch.tensor([[0.0, 0.0], [5.0, 0.0]]))
        >>> kl_divergence(q, OneHotCategorical(torch.zeros(2)))
        tensor([0.0000, 0.6530])
    """

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support: Any = constraints.one_hot
    logits: Tensor

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(logits, validate_args=validate_args)

    def _draw(self, logits: Tensor) -> Tensor:
        probs = torch.softmax(logits, -1)
        hard = _one_hot_largest(logits.detach() - _log_exponential(logits))
        return hard + (probs - probs.detach())

    def _log_probs(self) -> Tensor:
        return torch.log_softmax(self._computed()[0], -1)

    def _cost(self, value: Tensor) -> Tensor:
        log_probs = self._log_probs()
        return -torch.where(value == 0, 0, value * log_probs).sum(-1)

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return torch.softmax(self.logits, -1)

    @property
    def mode(self) -> Tensor:
        """The likeliest class, one-hot."""
        return _one_hot_largest(self.logits)

    def entropy(self) -> Tensor:
        """-sum p log p."""
        log_probs = self._log_probs()
        terms = torch.where(log_probs == -math.inf, 0, torch.exp(log_probs) * log_probs)
        return -terms.sum(-1).expand(self._batch_shape)


class Concrete(Relaxed):
    """Of points of the simplex: one-hot vectors relaxed, softmax((logits + Gumbel noise) / t).

    Maddison, Mnih and Teh 2017, "The concrete distribution" (arXiv:1611.00712); Jang, Gu and Poole
    2017, "Categorical reparameterization with Gumbel-softmax" (arXiv:1611.01144).

    There is no closed form of the divergence of two. ``rsample_kl`` estimates it from the sample's
    own noise, in logarithms (Maddison et al., appendix C.3.3): finite at any temperature and in
    float16, where the density at the sample itself, which has underflowed, is not.
    ``kl_divergence`` to a :class:`OneHotCategorical` is that of the classes, exact (Jang et al.).

    ``log_prob`` reads a 0, which is what has underflowed, as the least normal number.

    Args:
        logits: Of K classes, (*batch, K), unnormalised.
        temperature: t > 0, (*batch); or a number. Towards 0 samples become one-hot.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: A parameter has a wrong type or dtype.
        ValueError: A parameter's shape, or, where validated, its value is wrong.

    Example:
        >>> import torch
        >>> from torch.distributions import kl_divergence
        >>> from vae_fast.latent.posteriors import Concrete, OneHotCategorical
        >>> q = Concrete(torch.tensor([[5.0, 0.0]]), temperature=0.5)
        >>> z, kl = q.rsample_kl(Concrete(torch.zeros(2), temperature=0.5))
        >>> z.shape, kl.shape
        (torch.Size([1, 2]), torch.Size([1]))
        >>> kl_divergence(q, OneHotCategorical(torch.zeros(2)))
        tensor([0.6530])
    """

    support: Any = simplex

    def _noise(self, like: Tensor) -> Tensor:
        return _log_exponential(like)

    def _normalized(self, y: Tensor) -> Tensor:
        return torch.log_softmax(y, -1)

    def _of(self, y: Tensor) -> Tensor:
        return torch.exp(y)

    def _inverse(self, value: Tensor) -> tuple[Tensor, Tensor]:
        log_z = torch.log(value.clamp(min=torch.finfo(value.dtype).tiny))
        return log_z, log_z.sum(-1)

    def _log_density(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """Of log z; Maddison et al. 2017, equation 22."""
        n = scores.shape[-1]
        constant = math.lgamma(n) + (n - 1) * torch.log(temperature)
        return constant + scores.sum(-1) - n * torch.logsumexp(scores, -1)


class StraightThroughConcrete(StraightThrough, Concrete):
    """:class:`Concrete`, whose samples are one-hot and have the relaxed sample's gradient.

    The straight-through Gumbel-softmax of Jang et al. 2017, section 2.2; arguments as there.

    Example:
        >>> import torch
        >>> from vae_fast.latent.posteriors import StraightThroughConcrete
        >>> q = StraightThroughConcrete(torch.tensor([[9e3, 0.0]]), temperature=1.0)
        >>> q.rsample()
        tensor([[1., 0.]])
    """

    support: Any = constraints.one_hot

    _kind = OneHotCategorical

    def _of(self, y: Tensor) -> Tensor:
        relaxed = torch.exp(y)
        return _one_hot_largest(y.detach()) + (relaxed - relaxed.detach())


@register_kl(OneHotCategorical, OneHotCategorical)
@register_kl(Concrete, OneHotCategorical)
def _kl(p: OneHotCategorical | Concrete, q: OneHotCategorical) -> Tensor:
    """Of the classes, exact."""
    of_p, of_q = (torch.log_softmax(x._computed()[0], -1) for x in (p, q))
    return classes_kl(of_p, of_q, -1)
