"""What all figures share: sizes, colours, pictures put together into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Pixels = NDArray[np.float32]

# Of the Okabe-Ito palette, which the colour-blind can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MUTED = "#666666"
_DPI = 150


def figure(width: float, height: float, title: str, *, wide: bool = False) -> Figure:
    """An empty figure in inches; `wide` keeps its panels well apart."""
    made = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(made)
    if wide:
        made.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    made.suptitle(title, fontsize=13, fontweight="bold")
    return made


def save(made: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    made.savefig(path)


def picture_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Channels, height and width of a datum that can be shown as a picture, else None.

    A row of numbers can be one if it can be square: 784 are 28 x 28.
    """
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return shape[0], shape[1], shape[2]
    if len(shape) == 1 and shape[0] > 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
        return 1, math.isqrt(shape[0]), math.isqrt(shape[0])
    return None


def tiles(data: Tensor, shape: tuple[int, int, int], columns: int) -> Pixels:
    """Data (N, *any) as one picture of rows of pictures, (H, W) or (H, W, C), in [0, 1]."""
    channels, height, width = shape
    pixels = data.detach().float().cpu().numpy().reshape(-1, channels, height, width)
    gap = max(1, round(min(height, width) / 16))
    rows = -(-len(pixels) // columns)
    canvas = np.ones(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.float32
    )
    for index, picture in enumerate(pixels):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = np.moveaxis(picture, 0, -1)
    return canvas.clip(0, 1).squeeze(-1) if channels == 1 else canvas.clip(0, 1)


def show(axes: Axes, pixels: Pixels, **options: Any) -> None:
    """Show pixels as they are, without axes."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **options)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def soften(axes: Axes) -> None:
    """Leave out of a diagram what nobody reads."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def short(value: float) -> str:
    """A number the way that people label an axis: 0.5, 200, 4096, 10k, 3M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor and value % factor == 0:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def plain_log(axes: Axes) -> None:
    """Logarithmic axes with such numbers, and ticks at these alone."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: short(value))
