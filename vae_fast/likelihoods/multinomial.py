"""The multinomial likelihood: a row's elements hang together by its softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.call import rowwise_loss
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["multinomial_nll"]


def multinomial_nll(
    logits: Tensor,
    target: Tensor,
    *,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the multinomial distribution, in nats, up to a constant.

    -sum_k t_k log softmax(l)_k, with the softmax over the last dimension; the constant, the
    logarithm of the multinomial coefficient, depends on the target alone (Liang et al. 2018,
    "Variational autoencoders for collaborative filtering", equation 2). A logit of -infinity
    excludes its class: without a count it costs nothing, with one it costs infinity.

    The kernel reads logits and target and writes the gradient in the logits, if it is wanted, in
    the forward, a row at a time: 8 bytes per element in float32 (5 with a uint8 target), 12 (9)
    with the gradient, for rows that fit the cache. The CPU's threads share the rows, a GPU's also a
    row's elements. In plain PyTorch: for a gradient in the target, and for ``"none"``.

    Args:
        logits: (*batch, *event), not normalised; the last dimension of the event are the classes.
        target: Counts (or weights), of the shape of logits, as in :func:`bernoulli_nll`. uint8,
            bool, int32 and int64 mean the numbers that they hold, and are not copied.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`; the elements of ``"none"`` and ``"mean"`` are those of
            logits.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims that leave no dimension of classes.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> clicks = torch.tensor([[1, 0, 3]])
        >>> vf.multinomial_nll(torch.zeros(1, 3), clicks)  # 4 log 3
        tensor(4.3944)
    """
    operands = (logits, target)
    return rowwise_loss("multinomial_nll", "multinomial_nll", operands, batch_dims, reduction)


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _log_softmax(logits: Tensor) -> Tensor:
    """-infinity all along a row where every logit is: without a softmax, but for its gradient."""
    is_void = (logits == -math.inf).all(-1, keepdim=True)
    log_p = torch.log_softmax(torch.where(is_void, 0, logits), -1)
    return torch.where(is_void, logits, log_p)


def _costs(logits: Tensor, target: Tensor) -> Tensor:
    """-log softmax(l), but 0 where it is infinite and nothing is counted."""
    log_p = _log_softmax(logits)
    return -torch.where((target == 0) & (log_p == -math.inf), 0, log_p)


def _value(logits: Tensor, target: Tensor) -> Tensor:
    """-t_k log softmax(l)_k."""
    return target * _costs(logits, target)


def _gradients(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of a row's sum: count softmax(l) - t, and -log softmax(l)."""
    softmax = torch.exp(_log_softmax(logits))
    return target.sum(-1, keepdim=True) * softmax - target, _costs(logits, target)


enter_loss("multinomial_nll", Loss(("logits", "target"), _value, _gradients, rowwise=True))
enter_likelihood(
    "multinomial",
    LikelihoodEntry(
        multinomial_nll,
        op="multinomial_nll",
        no_mask="its classes share one softmax; exclude one by a logit of -infinity",
    ),
)
