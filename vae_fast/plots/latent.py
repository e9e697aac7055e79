"""Pictures of the space of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from vae_fast.plots.figure import MUTED, figure, save, show, soften, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Points = NDArray[np.float32]

_MANIFOLD_SIDE = 20
_MANIFOLD_TAIL = 0.02  # of the prior's probability, left out at each end


@dataclass(frozen=True)
class Manifold:
    """What a decoder makes of a square of two-dimensional codes, laid out by the prior.

    Attributes:
        pictures: (side * side, *input_shape), top row first.
        shape: of a picture: channels, height, width.
    """

    pictures: Tensor
    shape: tuple[int, int, int]


def manifold_codes() -> Tensor:
    """(side * side, 2) codes at equal steps of the prior's probability, top row first."""
    levels = torch.linspace(_MANIFOLD_TAIL, 1 - _MANIFOLD_TAIL, _MANIFOLD_SIDE, device="cpu")
    steps = torch.special.ndtri(levels)
    second, first = torch.meshgrid(steps.flip(0), steps, indexing="ij")
    return torch.stack([first, second], dim=-1).reshape(-1, 2)


def plot_latent(
    path: Path,
    codes: Mapping[str, tuple[Tensor, Tensor]],
    labels: Tensor | None,
    manifold: Manifold | None,
    title: str,
) -> None:
    """Draw the codes of held-out data for each model, coloured by label, and the manifold.

    Codes of two dimensions are drawn where they are, over draws from the prior; those of more by
    t-SNE, together with them.

    Args:
        path: the PNG to write.
        codes: (N, *latent) of each model, and as many from its prior.
        labels: (N,), or None.
        manifold: of the first model, where its codes have two dimensions.
        title: of the figure.
    """
    panels = len(codes) + (manifold is not None)
    made = figure(5.4 * panels + 0.6, 6.1, title)
    axes_row = list(made.subplots(1, panels, squeeze=False)[0])
    if manifold is not None:
        axes = axes_row.pop(0)
        show(axes, tiles(manifold.pictures, manifold.shape, _MANIFOLD_SIDE))
        axes.set_title(f"{next(iter(codes))}: what the codes decode to", fontsize=11)
        axes.set_xlabel("$z_1$, in equal steps of the prior's probability")
        axes.set_ylabel("$z_2$, likewise")
    for axes, (name, both) in zip(axes_row, codes.items(), strict=True):
        points, drawn = (z.detach().float().cpu().flatten(1) for z in both)
        if points.shape[1] == 2:
            _plane(axes, points.numpy(), drawn.numpy(), labels)
        elif points.shape[1] == 1:
            _line(axes, points[:, 0].numpy(), labels)
        else:
            _embedding(axes, points, drawn, labels)
        axes.set_title(name, fontsize=11)
    save(made, path)


def _plane(axes: Axes, points: Points, drawn: Points, labels: Tensor | None) -> None:
    axes.scatter(
        drawn[:, 0], drawn[:, 1], s=7, color=MUTED, alpha=0.4, linewidths=0,
        label="draws from the prior",
    )  # fmt: skip
    scatter(axes, points, labels)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
    soften(axes)
    axes.legend(frameon=False, loc="upper right", fontsize=9)


def _line(axes: Axes, points: Points, labels: Tensor | None) -> None:
    spread = np.random.RandomState(0).uniform(size=len(points)).astype(np.float32)
    scatter(axes, np.stack([points, spread], axis=1), labels)
    axes.set_xlabel("$z$")
    axes.set_yticks([])
    soften(axes)


def _embedding(axes: Axes, points: Tensor, drawn: Tensor, labels: Tensor | None) -> None:
    """Codes and as many draws from the prior in one t-SNE: do they share the space?"""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    both = torch.cat([points, drawn]).numpy()
    perplexity = min(30.0, (len(both) - 1) / 3)
    plane = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(both)
    prior = plane[len(points) :]
    axes.scatter(
        prior[:, 0], prior[:, 1], s=7, color=MUTED, alpha=0.4, linewidths=0,
        label="draws from the prior",
    )  # fmt: skip
    scatter(axes, plane[: len(points)], labels)
    axes.set_axis_off()
    axes.legend(
        frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.02), markerscale=2, fontsize=9,
        title="t-SNE: nearness has a meaning, directions have none", title_fontsize=9,
    )  # fmt: skip


def scatter(axes: Axes, points: Points, labels: Tensor | None) -> None:
    """Points coloured by label, with each label written at the middle of its points."""
    size = float(np.clip(6000 / len(points), 4, 22))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, color="#0072B2", alpha=0.7, linewidths=0)
        return
    kinds = labels.cpu().numpy()
    present = np.unique(kinds)
    for rank, kind in enumerate(present):
        color = _color(rank, len(present))
        own = points[kinds == kind]
        axes.scatter(own[:, 0], own[:, 1], s=size, color=color, alpha=0.75, linewidths=0)
        if len(present) <= 30:
            middle = np.median(own, axis=0)
            badge = {"boxstyle": "circle,pad=0.25", "color": color, "alpha": 0.9}
            axes.text(
                middle[0], middle[1], str(kind), color="white", fontsize=9, fontweight="bold",
                ha="center", va="center", bbox=badge,
            )  # fmt: skip


def _color(rank: int, count: int) -> tuple[float, float, float, float]:
    """A colour for each label: ten that differ well, else along a scale; never the prior's grey."""
    if count > 10:
        return colormaps["turbo"](rank / (count - 1))
    grey = 7
    return (0.1, 0.1, 0.1, 1.0) if rank == grey else colormaps["tab10"](rank)
