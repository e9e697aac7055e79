"""log p(x) from importance samples, and how far it can be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.checks import check_log_weights
from vae_fast.evaluation.pareto import fewest_samples, pareto_smooth


class ImportanceEstimate(NamedTuple):
    """What K importance samples say of each datum. All float64, (N,).

    Attributes:
        log_likelihood: log 1/K sum_k w_k, in nats: its expectation is the bound of an IWAE with K
            samples, and it tends to log p(x).
        standard_error: of it, in nats, by the delta method.
        effective_sample_size: (sum_k w_k)^2 / sum_k w_k^2, from 1 to K.
        pareto_k: the shape of the weights' tail (:func:`vae_fast.evaluation.pareto_smooth`); above
            0.7 neither the estimate nor its standard error means much. NaN where K is too small to
            tell.
    """

    log_likelihood: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor


def importance_estimate(log_weights: Tensor) -> ImportanceEstimate:
    """The importance-sampled log-likelihood of each datum, with what tells whether to believe it.

    Burda et al. 2016, equation 8. The standard error is that of the mean weight, divided by it
    (delta method): sqrt((K sum_k v_k^2 - 1) / (K - 1)) with the normalised weights v_k.

    Args:
        log_weights: (K, N): log p(x, z_k) - log q(z_k | x), in nats, z_k from q(z | x); as
            :meth:`vae_fast.VAE.log_weights` gives them.

    Raises:
        TypeError: they are no floating tensor.
        ValueError: they are not (K, N) with K of at least 2.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import importance_estimate
        >>> estimate = importance_estimate(torch.full((100, 1), -3.0))  # where q is the posterior
        >>> [round(float(value), 4) for value in estimate]
        [-3.0, 0.0, 100.0, 0.0]
    """
    check_log_weights("importance_estimate", log_weights, fewest=2)
    k = len(log_weights)
    wide = log_weights.double()
    total = wide.logsumexp(0)
    squares = (2 * (wide - total)).logsumexp(0).exp()
    pareto_k = torch.full_like(total, math.nan)
    if k >= fewest_samples():
        pareto_k = pareto_smooth(log_weights).k
    return ImportanceEstimate(
        total - math.log(k),
        ((k * squares - 1).clamp(min=0) / (k - 1)).sqrt(),
        1 / squares,
        pareto_k,
    )


def iwae_bound(log_weights: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """The bound that an IWAE with fewer samples has, from many: the mean over groups of them.

    E[log 1/k sum_k w_k] (Burda et al. 2016, equation 8); with one sample the ELBO.

    Args:
        log_weights: (K, N), as :func:`vae_fast.evaluation.importance_estimate` takes them.
        num_samples: k, at most K / 2; of K what is no whole group is left out.

    Returns:
        The bound of each datum (N,), float64, in nats; and its standard error, over the groups.

    Raises:
        TypeError: the weights are no floating tensor.
        ValueError: they are not (K, N), or num_samples is not from 1 to K / 2.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import iwae_bound
        >>> log_weights = torch.tensor([[0.0], [0.0], [-1.0], [-1.0]])
        >>> bound, error = iwae_bound(log_weights, 2)
        >>> bound, error
        (tensor([-0.5000], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """
    check_log_weights("iwae_bound", log_weights, fewest=2)
    if not 1 <= num_samples <= len(log_weights) // 2:
        raise ValueError(
            f"iwae_bound: num_samples is {num_samples}; expected from 1 to half of the "
            f"{len(log_weights)} samples"
        )
    groups = len(log_weights) // num_samples
    grouped = log_weights[: groups * num_samples].double()
    grouped = grouped.reshape(groups, num_samples, -1)
    bounds = grouped.logsumexp(1) - math.log(num_samples)
    return bounds.mean(0), bounds.std(0) / math.sqrt(groups)
