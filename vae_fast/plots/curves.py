"""The loss and its terms over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from vae_fast.plots.figure import COLORS, figure, save, soften
from vae_fast.training import EpochMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("loss", "Loss"),
    ("nll", "Reconstruction: $-\\log p(x\\,|\\,z)$"),
    ("kl", "KL$(q(z\\,|\\,x)\\;\\|\\;p(z))$"),
)


def plot_curves(path: Path, runs: Mapping[str, Sequence[EpochMetrics]], title: str) -> None:
    """Draw the loss of each run and its two terms, training dashed and test solid."""
    made = figure(12, 4.2, title)
    panels = made.subplots(1, 3)
    for axes, (term, heading) in zip(panels, _PANELS, strict=True):
        for color, (name, history) in zip(COLORS, runs.items(), strict=False):
            _draw(axes, term, name, history, color)
        _leave_out_the_start(axes, term, runs)
        axes.set_title(heading, fontsize=11)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        soften(axes)
    panels[0].set_ylabel("nats per datum")
    panels[0].legend(frameon=False)
    save(made, path)


def _leave_out_the_start(axes: Axes, term: str, runs: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """Let the first epochs leave the picture where they would flatten all others."""
    seen = [
        value
        for history in runs.values()
        for metrics in history[len(history) // 20 :]
        for part in ("train", "test")
        if (value := metrics.to_dict()[f"{part}_{term}"]) is not None
    ]
    margin = 0.08 * (max(seen) - min(seen))
    if margin > 0:
        axes.set_ylim(min(seen) - margin, max(seen) + margin)


def _draw(axes: Axes, term: str, name: str, history: Sequence[EpochMetrics], color: str) -> None:
    """The epochs' training and test figures; the last one is written at the end of its line."""
    epochs = [metrics.epoch for metrics in history]
    marker = "o" if len(epochs) == 1 else ""
    train = [metrics.to_dict()[f"train_{term}"] for metrics in history]
    axes.plot(
        epochs, train, "--", marker=marker, color=color, alpha=0.6, linewidth=1.2,
        label=f"{name}, training",
    )  # fmt: skip
    tested = [metrics for metrics in history if metrics.test_loss is not None]
    if not tested:
        return
    test = [metrics.to_dict()[f"test_{term}"] for metrics in tested]
    at = [metrics.epoch for metrics in tested]
    axes.plot(at, test, marker=marker, color=color, linewidth=1.8, label=f"{name}, test")
    axes.annotate(
        f"{test[-1]:.2f}", (at[-1], test[-1]), xytext=(4, 0), textcoords="offset points",
        color=color, fontsize=9, va="center", annotation_clip=False,
    )  # fmt: skip
