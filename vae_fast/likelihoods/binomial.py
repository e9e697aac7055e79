"""The binomial likelihood of counts that have a largest one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.call import as_tensor, loss
from vae_fast.engine.gamma_functions import at_least_one, choose_term, count_deviance
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["binomial_nll"]


def binomial_nll(
    logits: Tensor,
    target: Tensor,
    total_count: Tensor | float,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the binomial distribution, in nats.

    Of x hits among n trials of probability sigmoid(l): n softplus(l) - x l - log(n choose x), with
    the constant; torch's ``Binomial(total_count, logits=logits)``. Evaluated as deviances of hits
    and misses from their means and the rests of Stirling's formula, so that nothing cancels at a
    count of any size; an infinite logit that agrees with its target costs 0.

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 8 bytes per element in float32 with one total_count for all (5 with a uint8 target), 12
    (9) with the gradient in logits.

    Args:
        logits: (*batch, *event).
        target: Counts from 0 to total_count, of the shape of logits, as in :func:`poisson_nll`.
        total_count: How many trials; broadcasts to logits, or a number.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced; NaN where the target is negative or above total_count.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.
    """
    operands = (logits, as_tensor(total_count, logits, target), target)
    return loss("binomial_nll", "binomial_nll", operands, mask, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------

# Until a logit of this size what is rare is as rare as it says; beyond, it adds a linear term.
_NEAR = 80.0


class _Parts:
    """What the value and the gradients need."""

    def __init__(self, logits: Tensor, total_count: Tensor, hits: Tensor) -> None:
        misses = total_count - hits
        is_valid = (hits >= 0) & (misses >= 0)
        l = torch.where(is_valid, logits, math.nan)  # noqa: E741
        near = l.clamp(-_NEAR, _NEAR)
        p, q = torch.sigmoid(near), torch.sigmoid(-near)
        excess, top = misses * p - hits * q, at_least_one(total_count)
        self.beyond = l - near
        self.hit, log_p = count_deviance(hits, top * p, excess)
        self.miss, log_q = count_deviance(misses, top * q, -excess)
        self.log_p = log_p + self.beyond.clamp(max=0)
        self.log_q = log_q - self.beyond.clamp(min=0)
        self.choose, self.counts = choose_term(hits, misses, total_count)
        self.rare = torch.where(l > 0, misses, hits)
        # The probability of what is rare, as it goes on to fall.
        fade = torch.exp(-self.beyond.abs())
        p, q = torch.where(l > 0, p, p * fade), torch.where(l > 0, q * fade, q)
        self.is_certain = (self.rare == 0) & (fade <= 0.5)
        self.slope = misses * p - hits * q


def _value(logits: Tensor, total_count: Tensor, target: Tensor) -> Tensor:
    parts = _Parts(logits, total_count, target)
    linear = torch.where(parts.rare == 0, 0, parts.beyond.abs() * parts.rare)
    value = ((parts.hit + parts.miss) + parts.choose) + linear
    return torch.where(parts.is_certain, parts.slope.abs(), value)


def _gradients(logits: Tensor, total_count: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """With m misses: m p - x q, digamma(m + 1) - digamma(n + 1) - log q, and that in the hits."""
    parts = _Parts(logits, total_count, target)
    in_hits, in_misses, in_all = parts.counts
    return (
        parts.slope,
        (in_misses - in_all) - parts.log_q,
        (in_hits - in_misses) - (parts.log_p - parts.log_q),
    )


enter_loss("binomial_nll", Loss(("logits", "total_count", "target"), _value, _gradients))
enter_likelihood("binomial", LikelihoodEntry(binomial_nll))
