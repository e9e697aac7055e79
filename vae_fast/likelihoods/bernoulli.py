"""The Bernoulli likelihood, of logits or of probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine.call import loss
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.exponentials import half_expm1_minus
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["bernoulli_nll"]


def bernoulli_nll(
    logits: Tensor,
    target: Tensor,
    *,
    from_probs: bool = False,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Bernoulli distribution, in nats.

    From logits l: softplus(l) - x l, gradient sigmoid(l) - x; an infinite logit that agrees with
    its target costs 0. From probabilities p: -x log p - (1 - x) log(1 - p), with the logarithms
    clamped at -100 as in ``torch.nn.functional.binary_cross_entropy``, and with the gradient
    (1 - x) / max(1 - p, 1e-12) - x / max(p, 1e-12), which is finite everywhere.

    The kernel reads logits and target once and, where a gradient is wanted, writes it once, in the
    forward: 8 bytes per element in float32 (5 with a uint8 target), 12 (9) with the gradient.

    Args:
        logits: (*batch, *event); probabilities where ``from_probs`` says so.
        target: In [0, 1], of the shape of logits; K samples (K, B, D) against a target (B, D) need
            no copy (and ``batch_dims=2``). uint8 means x / 255, bool 0 or 1.
        from_probs: The first argument holds probabilities in [0, 1].
        mask: bool, broadcasts to logits; False: the element does not count, whatever it holds (NaN
            too), and has no gradient. It stays in the denominator of ``"mean"``.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
        >>> pixels = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
        >>> vf.bernoulli_nll(logits, pixels)  # nats per datum
        tensor(0.5910)
        >>> vf.bernoulli_nll(logits, pixels, reduction="sample")
        tensor([0.4402, 0.7417])
        >>> vf.bernoulli_nll(logits.sigmoid(), pixels, from_probs=True)
        tensor(0.5910)
    """
    op = "bernoulli_probs_nll" if from_probs else "bernoulli_nll"
    return loss("bernoulli_nll", op, (logits, target), mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _value(logits: Tensor, target: Tensor) -> Tensor:
    """softplus(l) - x l, written so that nothing cancels and an infinite logit may agree with x."""
    magnitude = logits.abs()
    weight = torch.where(logits > 0, 1 - target, target)
    linear = torch.where(weight == 0, 0, magnitude * weight)
    return linear + torch.log1p(torch.exp(-magnitude))


def _gradients(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(l) - x, without the cancellation of a confident logit that agrees with x; and -l."""
    positive = (1 - target) - torch.sigmoid(-logits)
    return torch.where(logits > 0, positive, torch.sigmoid(logits) - target), -logits


_LOG_FLOOR = -100.0  # as torch.nn.functional.binary_cross_entropy clamps its logarithms
_PROB_FLOOR = 1e-12  # of the gradient's denominators


def _floored_log(log: Callable[[Tensor], Tensor], at: Tensor, argument: Tensor) -> Tensor:
    """max(log(at), -100) with derivative 1 / max(argument, 1e-12): finite, and never zero."""
    is_small = argument <= _PROB_FLOOR
    regular = log(torch.where(is_small, 0.5, at))
    constant = log(at.detach()).clamp(min=_LOG_FLOOR)
    line = (argument - argument.detach()) / _PROB_FLOOR  # zero, with the wanted slope
    return torch.where(is_small, constant + line, regular)


def _log1p_of_minus(p: Tensor) -> Tensor:
    return torch.log1p(-p)


def _probs_value(probs: Tensor, target: Tensor) -> Tensor:
    log_p = torch.log(probs).clamp(min=_LOG_FLOOR)
    log_q = torch.log1p(-probs).clamp(min=_LOG_FLOOR)
    return -(target * log_p + (1 - target) * log_q)


def _probs_gradients(probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - x) / q - x / p with floored p and q = 1 - p; and log q - log p.

    On one denominator, over p q, nothing cancels: the numerator is p - x, from the smaller of p
    and q, which is the one that may have met the floor.
    """
    other = 1 - probs
    p, q = probs.clamp(min=_PROB_FLOOR), other.clamp(min=_PROB_FLOOR)
    in_probs = torch.where(probs < 0.5, p - target, (1 - target) - q) / (p * q)
    log_q = _floored_log(_log1p_of_minus, probs, other)
    return in_probs, log_q - _floored_log(torch.log, probs, probs)


enter_loss("bernoulli_nll", Loss(("logits", "target"), _value, _gradients, uint8_unit=255.0))
enter_loss(
    "bernoulli_probs_nll",
    Loss(("probs", "target"), _probs_value, _probs_gradients, uint8_unit=255.0),
)


# ---- as a distribution ---------------------------------------------------------------------------


class Bernoulli(Distribution):
    """Of 0 and 1, as ``torch.distributions.Bernoulli``; log_prob is :func:`bernoulli_nll`'s.

    Args:
        logits: Of a 1.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`. Values between 0 and
            1, which the function takes, are then refused: it is no density of them
            (:class:`vae_fast.distributions.ContinuousBernoulli` is).

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Bernoulli
        >>> p = Bernoulli(torch.tensor([0.0, 2.0]))
        >>> p.log_prob(torch.tensor([1.0, 1.0])), p.mean
        (tensor([-0.6931, -0.1269]), tensor([0.5000, 0.8808]))
    """

    nll = staticmethod(bernoulli_nll)
    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.boolean
    reads_bytes = True
    has_enumerate_support = True
    logits: Tensor

    def __init__(self, logits: Tensor | float, validate_args: bool | None = None) -> None:
        super().__init__(logits, validate_args=validate_args)

    def _draw(self, logits: Tensor) -> Tensor:
        return torch.bernoulli(torch.sigmoid(logits))

    @property
    def mean(self) -> Tensor:
        """The probability of a 1."""
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Tensor:
        """The likelier one; NaN where both are as likely."""
        return torch.where(self.logits == 0, math.nan, (self.logits > 0).to(self.logits.dtype))

    @property
    def variance(self) -> Tensor:
        """P (1 - p)."""
        return torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)

    def entropy(self) -> Tensor:
        """The cost is linear in x: that of the mean."""
        return self._cost(self.mean)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """0 and 1, along a new first dimension."""
        return self._enumerated(self.logits.new_tensor([0.0, 1.0]), expand)


def bernoulli_kl(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p || q) of two Bernoulli distributions by their logits, in plain PyTorch.

    Of close logits, d apart, as the difference of two terms of which neither is negative, p and
    log(1 + y) of y = p (exp(d) - 1), with the logits turned so that p is at most 1/2.
    """
    turned = torch.where(logits > 0, -1, 1)
    p, d = torch.sigmoid(logits * turned), (others - logits) * turned
    is_near = d.abs() < 1
    near = torch.where(is_near, d, 0)
    y = p * torch.expm1(near)
    close = 2 * p * half_expm1_minus(near) - minus_log(y, 1 + y)[0]
    apart = _value(others * turned, p) - _value(logits * turned, p)
    return torch.where(is_near, close, apart)


def _kl(p: Bernoulli, q: Bernoulli) -> Tensor:
    return bernoulli_kl(p.logits, q.logits)


enter_kl(Bernoulli, _kl, {torch.distributions.Bernoulli: lambda p: Bernoulli(p.logits)})


# ---- of a decoder --------------------------------------------------------------------------------


class BernoulliLikelihood(Likelihood):
    """Each element of x is an intensity in [0, 1]; the parameters are its logits."""

    name = "bernoulli"
    data = "intensities"

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        return torch.sigmoid(cast(Tensor, params))


enter_likelihood(
    "bernoulli",
    LikelihoodEntry(
        bernoulli_nll, op="bernoulli_nll", head=BernoulliLikelihood, distribution=Bernoulli
    ),
)
enter_likelihood("bernoulli_probs", LikelihoodEntry(partial(bernoulli_nll, from_probs=True)))
