"""Pictures of what stands out among data, and of what belongs together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vae_fast.plots.figure import COLORS, figure, save, show, soften, tiles
from vae_fast.plots.latent import scatter

if TYPE_CHECKING:
    from vae_fast.plots.latent import Points

_SHOWN = 1000  # at most this many codes are drawn: t-SNE takes its time


def plot_anomalies(
    path: Path,
    scores: Tensor,
    pictures: tuple[Tensor, Tensor] | None,
    shape: tuple[int, int, int] | None,
    title: str,
    score: str,
) -> None:
    """Draw a histogram of the scores; beside it the data with the highest and the lowest.

    Args:
        path: the PNG to write.
        scores: (N,), nats.
        pictures: those with the highest scores, the highest first, and those with the lowest;
            None where data are no pictures.
        shape: of a picture: channels, height, width.
        title: of the figure.
        score: what a score is.
    """
    panels = 1 if pictures is None else 3
    made = figure(4.6 * panels, 4.6, title, wide=True)
    axes_row = made.subplots(1, panels, squeeze=False)[0]
    axes = axes_row[0]
    axes.hist(scores.cpu().numpy(), bins=50, color=COLORS[0])
    axes.set_xlabel(f"{score}, nats per datum")
    axes.set_ylabel("data")
    axes.set_title("All of them", fontsize=11)
    soften(axes)
    if pictures is not None and shape is not None:
        for axes, data, name in zip(
            axes_row[1:], pictures, ("The strangest, row by row", "The most ordinary"), strict=True
        ):
            show(axes, tiles(data, shape, round(len(data) ** 0.5)))
            axes.set_title(name, fontsize=11)
    save(made, path)


def plot_clusters(
    path: Path, codes: Tensor, clusters: Tensor, labels: Tensor | None, title: str
) -> None:
    """Draw codes in a plane, coloured by cluster, and beside that by label where there are any.

    Args:
        path: the PNG to write.
        codes: (N, D).
        clusters: (N,) whole numbers.
        labels: likewise, or None.
        title: of the figure.
    """
    panels = {"by cluster": clusters} | ({} if labels is None else {"by label": labels})
    made = figure(5.4 * len(panels) + 0.4, 5.9, title)
    points, is_plane = _in_a_plane(codes[:_SHOWN].detach().float().cpu())
    axes_row = made.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, kinds) in zip(axes_row, panels.items(), strict=True):
        scatter(axes, points, kinds[:_SHOWN])
        axes.set_title(name, fontsize=11)
        if is_plane:
            axes.set_xlabel("$z_1$")
            axes.set_ylabel("$z_2$")
            axes.set_aspect("equal", adjustable="datalim")
            soften(axes)
        else:
            axes.set_axis_off()
    if not is_plane:
        made.supxlabel("t-SNE: nearness has a meaning, directions have none", fontsize=9)
    save(made, path)


def _in_a_plane(codes: Tensor) -> tuple[Points, bool]:
    """Codes of two dimensions as they are; others by t-SNE."""
    if codes.shape[1] == 2:
        return codes.numpy(), True
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    perplexity = min(30.0, (len(codes) - 1) / 3)
    plane = TSNE(init="random", perplexity=perplexity, random_state=0).fit_transform(codes.numpy())
    return plane.astype(np.float32), False
