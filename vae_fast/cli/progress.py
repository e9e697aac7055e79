"""What a person sees while a model trains: a bar on a terminal, lines in a log."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vae_fast.training import Callback, EpochMetrics, Terms, Trainer

_LINES = 20  # at most about this many lines in a log


class ProgressBar(Callback):
    """Shows the epochs and the losses; says little where nobody looks."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console

    def on_start(self, trainer: Trainer) -> None:
        """Show the bar."""
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(
            self._describe(trainer.epoch, trainer),
            total=trainer.config.epochs,
            completed=trainer.epoch,
            figures="",
        )
        self._progress.start()

    def on_steps(self, trainer: Trainer, done: int, total: int | None, average: Terms) -> None:
        """Move on within the epoch."""
        part = done / total if total else 0
        self._progress.update(
            self._task,
            completed=trainer.epoch + part,
            description=self._describe(trainer.epoch + 1, trainer),
        )

    def on_epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Show the epoch's figures."""
        figures = f"train {metrics.train_loss:.2f}"
        if metrics.test_loss is not None:
            figures += f", test {metrics.test_loss:.2f} nats"
        self._progress.update(self._task, completed=trainer.epoch, figures=figures)
        every = max(1, trainer.config.epochs // _LINES)
        if not self._console.is_terminal and (trainer.finished or trainer.epoch % every == 0):
            self._console.print(f"{self._describe(trainer.epoch, trainer)}: {figures}")

    def on_end(self, trainer: Trainer) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def _describe(self, epoch: int, trainer: Trainer) -> str:
        return f"{self._name}, epoch {epoch} of {trainer.config.epochs}"
