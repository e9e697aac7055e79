"""What the scripts of docs/theory.md share: the command line, the data, the look of the figures.

Each script is a function `run(small, data_dir)` that gives its numbers and its figures:

    python examples/theory/mixture.py --out runs/theory            # as in the documentation
    python examples/theory/mixture.py --out runs/theory --small    # in seconds, on small data
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import vae_fast as vf
from vae_fast.data import Data, load

Numbers = dict[str, Any]
Figures = dict[str, Figure]
Run = Callable[..., tuple[Numbers, Figures]]

_COLOURS = 64  # of a figure's file, which is a fifth as large for it


def main(name: str, run: Run, **options: str) -> None:
    """The command line of a script: run it, write its figures, keep its numbers under its name.

    Args:
        name: of the section in the JSON.
        run: gives the numbers and the figures.
        options: what else it takes, with the text that helps.
    """
    parser = argparse.ArgumentParser(description=f"The figures of docs/theory.md: {name}.")
    parser.add_argument("--out", type=Path, default=Path("runs/theory"), help="folder of figures")
    parser.add_argument("--numbers", type=Path, help="JSON of the numbers; OUT/theory.json")
    parser.add_argument("--small", action="store_true", help="in seconds, and rougher")
    parser.add_argument("--data-dir", help="MNIST's four files; else VAE_FAST_DATA, else digits")
    for option, text in options.items():
        parser.add_argument(f"--{option}", help=text)
    arguments = parser.parse_args()
    start = time.perf_counter()
    torch.manual_seed(0)
    given = {option: getattr(arguments, option) for option in options}
    numbers, figures = run(arguments.small, arguments.data_dir, **given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for figure, made in figures.items():
        save(made, arguments.out / f"{figure}.png")
    path = arguments.numbers or arguments.out / "theory.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored[name] = rounded(numbers)
    path.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
    print(f"{name}: {time.perf_counter() - start:.0f} s")
    print(json.dumps(stored[name], indent=1))


def rounded(value: Any) -> Any:
    """Numbers with five digits: what follows differs between machines."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


# ---- data ----------------------------------------------------------------------------------------


def pictures(data_dir: str | None) -> Data:
    """MNIST where a folder of it is named, here or by VAE_FAST_DATA; else scikit-learn's digits."""
    if data_dir or os.environ.get("VAE_FAST_DATA"):
        return load("mnist", data_dir=data_dir)
    return load("digits")


def binarized(x: Tensor, seed: int) -> Tensor:
    """Bytes as black and white, (B, D): one draw of each pixel, the same for the same seed."""
    intensity = x.flatten(1).float() / 255
    return torch.bernoulli(intensity, generator=torch.Generator().manual_seed(seed))


def small_digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's digits in [0, 1], (B, 64): for training, and held out."""
    data = load("digits")
    return data.train.flatten(1).float() / 255, data.test.flatten(1).float() / 255


# ---- training ------------------------------------------------------------------------------------


def batches(x: Tensor, size: int, steps: int) -> Any:
    """Random batches of x, `steps` of them."""
    for _ in range(steps):
        yield x[torch.randint(len(x), (size,))]


def cosine_adam(parameters: Any, rate: float, steps: int) -> tuple[Any, Any]:
    """Adam whose rate falls to zero, and its schedule."""
    optimizer = torch.optim.Adam(parameters, rate, fused=True)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def descend(
    loss: Callable[[Tensor], Tensor], parameters: Any, x: Tensor, *, rate: float, steps: int
) -> None:
    """Minimise a loss of random batches of 128 by Adam, whose rate falls to zero."""
    optimizer, schedule = cosine_adam(parameters, rate, steps)
    for batch in batches(x, 128, steps):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
        schedule.step()


def fitted(model: vf.VAE, x: Tensor, *, rate: float = 3e-3, steps: int) -> vf.VAE:
    """A VAE trained by its bound."""
    descend(lambda batch: model.loss(batch).loss, model.parameters(), x, rate=rate, steps=steps)
    return model


# ---- figures -------------------------------------------------------------------------------------


def panels(
    columns: int, *, width: float = 9.0, height: float = 3.2, ratios: list[float] | None = None
) -> tuple[Figure, Any]:
    """A figure with panels beside each other, and its axes."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.6)
        each.tick_params(labelsize=9)
    return figure, axes


def label(axes: Any, title: str, x: str = "", y: str = "") -> None:
    """A panel's title and what its axes are."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def save(figure: Figure, path: Path) -> None:
    """As a PNG on white, which reads on a dark page too, in few colours."""
    figure.savefig(path, facecolor="white", bbox_inches="tight", pad_inches=0.06)
    with Image.open(path) as image:
        image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
