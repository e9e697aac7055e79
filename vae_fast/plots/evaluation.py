"""Pictures of an evaluation: the cost of each dimension, the weights' tails, the rates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from vae_fast.evaluation import Evaluation
from vae_fast.evaluation.figures import ImportanceFigures, RatePoint, UnitFigures
from vae_fast.plots.figure import COLORS, MUTED, figure, save, soften

_TRUSTED = 0.7
_MOST_K = 2.5  # what is beyond is drawn there
_SEEN_FROM = 0.1  # of the largest rate
_MARKERS = "osD^vP"


def plot_evaluation(out: Path, figures: Evaluation, points: Mapping[str, RatePoint]) -> list[Path]:
    """Draw what an evaluation has figures for.

    Args:
        out: the folder for kl.png, pareto_k.png and rate_distortion.png.
        figures: of one run.
        points: rate and distortion of this run's encoder, and of others'.

    Returns:
        The files written.
    """
    written = []
    if figures.units is not None:
        written.append(out / "kl.png")
        _plot_units(written[-1], figures.units)
    if figures.importance is not None and figures.importance.unreliable is not None:
        written.append(out / "pareto_k.png")
        _plot_tails(written[-1], figures.importance)
    if figures.annealing is not None or len(points) > 1:
        written.append(out / "rate_distortion.png")
        curve = () if figures.annealing is None else figures.annealing.curve
        _plot_rates(written[-1], curve, points)
    return written


def _plot_units(path: Path, units: UnitFigures) -> None:
    kl = np.sort(np.asarray(units.kl))[::-1]
    made = figure(7.5, 4.2, "What each dimension of the code costs")
    axes = made.subplots()
    axes.bar(np.arange(1, len(kl) + 1), kl, color=COLORS[0])
    axes.set_xlabel("dimensions, the largest first")
    axes.set_ylabel("KL$(q(z_j\\,|\\,x)\\;\\|\\;p(z_j))$, nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(
        f"{units.active} of {len(kl)} are active; {kl.sum():.2f} nats in all", fontsize=11
    )
    soften(axes)
    save(made, path)


def _plot_tails(path: Path, importance: ImportanceFigures) -> None:
    k = np.array([np.inf if value is None else value for value in importance.pareto_k])
    shown = k.clip(None, _MOST_K)
    made = figure(7.5, 4.2, "Can the importance weights be trusted?")
    axes = made.subplots()
    edges = np.arange(np.floor(10 * min(shown.min(), 0)) / 10, _MOST_K + 0.1, 0.1).tolist()
    trusted = shown <= _TRUSTED
    for part, color, name in (
        (trusted, COLORS[0], f"$\\hat k \\leq {_TRUSTED}$: yes"),
        (~trusted, COLORS[1], f"$\\hat k > {_TRUSTED}$: no"),
    ):
        share = 100 * part.mean()
        axes.hist(shown[part], edges, color=color, label=f"{name} ({share:.0f}% of the data)")
    axes.axvline(_TRUSTED, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set_xlabel(f"Pareto $\\hat k$ of a datum's {importance.samples:,} weights")
    axes.set_ylabel("data")
    axes.set_xlim(edges[0], min(_MOST_K, max(1.0, shown.max() + 0.1)))
    axes.legend(frameon=False)
    soften(axes)
    save(made, path)


def _plot_rates(path: Path, curve: tuple[RatePoint, ...], points: Mapping[str, RatePoint]) -> None:
    made = figure(7.5, 5.2, "Rate and distortion")
    axes = made.subplots()
    if curve:
        rates, distortions = zip(*((point.rate, point.distortion) for point in curve), strict=True)
        # The first points, where nothing is known of a datum, would flatten all others.
        seen = [y for x, y in zip(rates, distortions, strict=True) if x >= _SEEN_FROM * rates[-1]]
        top = max(seen + [point.distortion for point in points.values()])
        bottom = min(seen + [point.distortion for point in points.values()])
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
        axes.plot(
            rates, distortions, "-", color=MUTED, linewidth=2,
            label="this decoder with its best codes (annealed)",
        )  # fmt: skip
    for index, (name, point) in enumerate(points.items()):
        axes.plot(
            point.rate, point.distortion, _MARKERS[index % len(_MARKERS)], markersize=8,
            color=COLORS[index % len(COLORS)], label=f"{name}, $\\beta$ = {point.temperature:g}",
        )  # fmt: skip
    axes.set_xlabel("rate: KL$(q(z\\,|\\,x)\\;\\|\\;p(z))$, nats per datum")
    axes.set_ylabel("distortion: $-\\log p(x\\,|\\,z)$, nats per datum")
    axes.legend(frameon=False)
    soften(axes)
    save(made, path)
