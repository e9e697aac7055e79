"""Models of MultiVae: the likelihood of each modality.

What is replaced is what ``recon_log_probs`` holds for "bernoulli", "normal" and "laplace".
Sampling, divergences and the rest of each model stay MultiVae's (they are functions of its modules,
which no model owns, and of codes, which are small), and so does the noise: the same seed gives the
same run, to rounding.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from vae_fast import distributions
from vae_fast.integrations._switch import Peer, Switched, revert, switch

__all__ = ["apply", "revert"]

_PEER = Peer("multivae", tried="1.0.3")
_BaseMultiVAE: Any = _PEER.names("multivae.models.base", "BaseMultiVAE")
_set_decoder_dist: Any = _PEER.names("multivae.models.base.base_utils", "set_decoder_dist")
_PEER.expect(_set_decoder_dist, "dist_name", "dist_params")

Model = TypeVar("Model")
LogProb = Callable[[Tensor, Tensor], Tensor]


def _scale(log_prob: LogProb) -> float:
    """The one that MultiVae keeps inside its function."""
    return float(inspect.getclosurevars(log_prob).nonlocals["scale"])


_OF: dict[str, Callable[[LogProb], LogProb]] = {
    "bernoulli": lambda _: lambda recon, target: distributions.Bernoulli(recon).log_prob(target),
    "normal": lambda theirs: _located(distributions.Normal, 2 * math.log(_scale(theirs))),
    "laplace": lambda theirs: _located(distributions.Laplace, math.log(_scale(theirs))),
}


def _located(distribution: Any, width: float) -> LogProb:
    return lambda recon, target: distribution(recon, width).log_prob(target)


class _Likelihoods(Switched):
    model_config: Any

    @property
    def recon_log_probs(self) -> dict[str, LogProb]:
        names, theirs = self.model_config.decoders_dist, vars(self)["recon_log_probs"]
        return {
            modality: _OF[names[modality]](log_prob) if names[modality] in _OF else log_prob
            for modality, log_prob in theirs.items()
        }


def apply(model: Model) -> Model:
    """Switches the likelihoods of a model's modalities.

    Args:
        model: A model of MultiVae that has ``recon_log_probs``: all but ``CVAE``.

    Returns:
        The model.

    Raises:
        TypeError: The model is of another kind.
        ValueError: It is switched already.
    """
    is_served = isinstance(model, _BaseMultiVAE) and "recon_log_probs" in vars(model)
    methods = _Likelihoods if is_served else None
    return switch(model, methods, "one of MultiVae's that has recon_log_probs")
