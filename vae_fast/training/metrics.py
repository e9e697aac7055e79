"""What is measured while training, in nats per datum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_fast.bounds import ELBO
from vae_fast.training.stored import entry

_OR_NONE = (float, type(None))


class Terms(NamedTuple):
    """The loss and its terms as numbers, in nats per datum.

    Attributes:
        loss: nll + beta * kl; minus the bound of another estimator than "elbo".
        nll: negative log-likelihood of the reconstruction.
        kl: KL(q(z | x) || p(z)), zero for an auto-encoder.
    """

    loss: float
    nll: float
    kl: float


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl; losses in nats per datum.

    Attributes:
        epoch: counted from 1.
        train_loss: average over the epoch, while the weights moved and with the epoch's KL weight.
        train_nll: its negative log-likelihood.
        train_kl: its KL term, unweighted.
        test_loss: on the held-out data after the epoch, with the full KL weight; None without them.
        test_nll: its negative log-likelihood.
        test_kl: its KL term, unweighted.
        seconds: that the epoch took, evaluation and all.
    """

    epoch: int
    train_loss: float
    train_nll: float
    train_kl: float
    test_loss: float | None
    test_nll: float | None
    test_kl: float | None
    seconds: float

    @classmethod
    def of(cls, epoch: int, train: Terms, test: Terms | None, seconds: float) -> EpochMetrics:
        """The line of an epoch."""
        loss, nll, kl = test or (None, None, None)
        return cls(epoch, train.loss, train.nll, train.kl, loss, nll, kl, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochMetrics:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, or is not what it should be.
        """
        kinds = {"epoch": (int,), "test_loss": _OR_NONE, "test_nll": _OR_NONE, "test_kl": _OR_NONE}
        names = [field.name for field in fields(cls)]
        return cls(*(entry(values, name, *kinds.get(name, (float,))) for name in names))


class Average:
    """The running average of a loss's terms; stays on the device until it is read."""

    def __init__(self, device: torch.device) -> None:
        # Apple's GPUs have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._total = torch.zeros(3, dtype=dtype, device=device)
        self._count = 0

    def add(self, terms: ELBO, count: int) -> None:
        """Enter the terms of a batch, averages over `count` data."""
        values: list[Tensor] = [term.detach() for term in terms]
        self._total.add_(torch.stack(values), alpha=count)
        self._count += count

    def read(self) -> Terms:
        """The average so far; NaN where nothing was entered. Waits for the device."""
        if self._count == 0:
            return Terms(math.nan, math.nan, math.nan)
        return Terms(*(self._total / self._count).tolist())
