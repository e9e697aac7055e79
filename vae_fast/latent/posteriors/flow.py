"""Normalizing flows as posteriors."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import Distribution


def inverse_autoregressive(flow: Any, context: Tensor) -> Distribution:
    """A flow of zuko's the other way round: one pass for a sample with its density.

    Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow"
    (arXiv:1606.04934). A density elsewhere takes one pass for each feature; the divergence from any
    prior is estimated at the sample, by ``rsample_and_log_prob``.
    """
    forward = flow(context)
    whole: Distribution = type(forward)(forward.transform.inv, forward.base)
    return whole
