"""Pictures of what a model makes: reconstructions and samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vae_fast.plots.figure import figure, save, show, tiles


def plot_reconstructions(
    path: Path, rows: Mapping[str, Tensor], shape: tuple[int, int, int], title: str
) -> None:
    """Draw one row of pictures for each entry, under one another: the data, then each model's."""
    count = max(map(len, rows.values()))
    cell = min(0.9, 12 / count)
    made = figure(1.2 + cell * count, 0.7 + cell * 1.12 * len(rows) * shape[1] / shape[2], title)
    panels = made.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, data) in zip(panels, rows.items(), strict=True):
        show(axes, tiles(data, shape, count))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11, labelpad=8)
    save(made, path)


def plot_samples(
    path: Path,
    samples: Mapping[str, Tensor],
    shape: tuple[int, int, int],
    columns: int,
    title: str,
) -> None:
    """Draw a square of decoded codes for each model, side by side."""
    count = len(next(iter(samples.values())))
    ratio = shape[1] * -(-count // columns) / (shape[2] * columns)
    made = figure(5.4 * len(samples) + 0.3, 5.4 * ratio + 0.7, title, wide=True)
    panels = made.subplots(1, len(samples), squeeze=False)[0]
    for axes, (name, data) in zip(panels, samples.items(), strict=True):
        show(axes, tiles(data, shape, columns))
        axes.set_title(name, fontsize=11)
    save(made, path)
