"""The picture of how cost grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_fast.bench.growth import BATCH, Point
from vae_fast.bench.report import Machine
from vae_fast.bench.training import HIDDEN
from vae_fast.plots.bench import where
from vae_fast.plots.figure import COLORS, MUTED, figure, plain_log, save, soften

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PEERS = (("eager", "eager PyTorch", COLORS[1]), ("vae_fast", "vae_fast", COLORS[0]))


def plot_growth(path: Path, machine: Machine, points: Sequence[Point]) -> None:
    """Time per element over elements, and a step's time over its products' over batch and width."""
    made = figure(11, 8.5, "How cost grows: lower is faster", wide=True)
    panels = made.subplots(2, 2)
    for axes, op in zip(panels[0], ("bernoulli_nll", "reparameterize_kl"), strict=True):
        _plot_function(axes, [point for point in points if point.name == op])
        axes.set_title(f"{op}, forward + backward", fontsize=11)
    fixed = {"batch": f"width {HIDDEN}", "width": f"batch {BATCH}"}
    for axes, (axis, other) in zip(panels[1], fixed.items(), strict=True):
        _plot_steps(axes, axis, [point for point in points if point.axis == axis])
        axes.set_title(f"training step of a VAE, {other}", fontsize=11)
    made.supxlabel(where(machine), fontsize=9)
    save(made, path)


def _plot_function(axes: Axes, points: Sequence[Point]) -> None:
    for threads in sorted({point.threads for point in points}):
        for peer, label, color in _PEERS:
            curve = [
                (point.at, point.result.seconds[peer] / point.at * 1e9)
                for point in points
                if point.threads == threads and point.result is not None
            ]
            style = "o--" if threads == 1 else "o-"
            named = f"{label}, {threads} thread{'s' * (threads > 1)}"
            axes.plot(*zip(*curve, strict=True), style, color=color, markersize=4, label=named)
    _finish(axes, "elements", "nanoseconds per element")


def _plot_steps(axes: Axes, axis: str, points: Sequence[Point]) -> None:
    results = [(point.at, point.result.seconds) for point in points if point.result is not None]
    for peer, label, color in _PEERS:
        ratios = [(at, seconds[peer] / seconds["products"]) for at, seconds in results]
        axes.plot(*zip(*ratios, strict=True), "o-", color=color, markersize=4, label=label)
    axes.axhline(1, color=MUTED, linewidth=1.5, label="its matrix products alone, by torch")
    _finish(axes, axis, "time / time of torch's matrix products")
    axes.set_xticks([at for at, _ in results])
    least = min(seconds["vae_fast"] / seconds["products"] for _, seconds in results)
    most = max(seconds["eager"] / seconds["products"] for _, seconds in results)
    ticks = (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)
    axes.set_yticks([ratio for ratio in ticks if 0.9 * least < ratio < 1.5 * most])


def _finish(axes: Axes, x: str, y: str) -> None:
    plain_log(axes)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False, fontsize=9)
    soften(axes)
