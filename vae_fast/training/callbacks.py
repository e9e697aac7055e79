"""What may look on while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_fast.training.metrics import EpochMetrics, Terms

if TYPE_CHECKING:
    from vae_fast.training.trainer import Trainer


class Callback:
    """Looks on while a `Trainer` works; override what is of interest."""

    def on_start(self, trainer: Trainer) -> None:
        """Training starts, or goes on after `trainer.epoch` epochs."""

    def on_steps(self, trainer: Trainer, done: int, total: int | None, average: Terms) -> None:
        """Some steps of an epoch are done, of `total`; `average` is over the epoch so far."""

    def on_epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """An epoch is over and evaluated."""

    def on_end(self, trainer: Trainer) -> None:
        """Training is over, or was cut short by an error."""


class TensorBoard(Callback):
    """Writes each epoch's figures for TensorBoard.

    Raises:
        ModuleNotFoundError: the package tensorboard is missing; the message says how to get it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(
                "curves for TensorBoard need the package tensorboard: pip install tensorboard",
                name="tensorboard",
            ) from error
        # Typed by hand: what torch's class is depends on whether tensorboard is there.
        self._make: Callable[[], Any] = lambda: SummaryWriter(folder)

    def on_start(self, trainer: Trainer) -> None:
        """Open the log."""
        self._writer = self._make()

    def on_epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Write an epoch's figures, training and test beside each other."""
        for name, value in metrics.to_dict().items():
            if name != "epoch" and value is not None:
                part, _, term = name.partition("_")
                tag = f"{term}/{part}" if term else name
                self._writer.add_scalar(tag, value, metrics.epoch)

    def on_end(self, trainer: Trainer) -> None:
        """Close the log."""
        self._writer.close()
