"""`vae-fast traverse` and `interpolate`: what lies between codes."""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import Tensor

from vae_fast.cli.grouped import COUNT, FiniteRange
from vae_fast.cli.held_out import (
    DATA,
    DATA_DIR,
    DEVICE,
    OUT,
    RUN,
    first_rows,
    held_out,
    require_no_conditions,
    require_vae,
    save_array,
)
from vae_fast.data.sparse import rows
from vae_fast.evaluation import kl_per_dimension
from vae_fast.models import LatentModel
from vae_fast.training import Run, choose_device, load_run

_RANKED_BY = 1000  # data tell which dimensions count
_ROWS = 10


@click.command()
@RUN
@click.option(
    "--dimension", "-d", "dimensions", type=click.IntRange(0), multiple=True,
    help="Which, from 0 on; may be given again.  [default: the 10 with the largest KL]",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(2, COUNT.max), default=11, show_default=True)
@click.option(
    "--range", "reach", type=FiniteRange(0, min_open=True), default=3.0, show_default=True,
    help="From minus to plus so many standard deviations of the prior.",
)  # fmt: skip
@click.option(
    "--index", type=click.IntRange(0), metavar="I",
    help="Start from the code of held-out datum I.  [default: from 0, the prior's mean]",
)  # fmt: skip
@DATA
@DATA_DIR
@OUT
@DEVICE
@torch.no_grad()
def traverse(
    run: Path,
    dimensions: tuple[int, ...],
    steps: int,
    reach: float,
    index: int | None,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Move along one dimension of the code at a time.

    Leaves in FOLDER traversal.npy (dimensions, steps, ...), the expected values, and traversal.png
    where data are pictures: a row for each dimension.
    """
    loaded = load_run(run, choose_device(device))
    model = require_vae(loaded, "traverse")
    require_no_conditions(loaded, "traverse")
    unseen = held_out(loaded, data, data_dir)
    mu, logvar = (
        head.flatten(1) for head in model.encode(first_rows(unseen.test, _RANKED_BY, loaded))
    )
    kl = kl_per_dimension(mu, logvar)
    chosen = list(dimensions) or kl.argsort(descending=True)[:_ROWS].tolist()
    if max(chosen) >= len(kl):
        raise click.BadParameter(
            f"{max(chosen)} is not one of the code's {len(kl)} dimensions", param_hint="--dimension"
        )
    start = torch.zeros_like(mu[0])
    if index is not None:
        start = model.embed(_data_at([index], unseen.test, loaded))[0].flatten()
    values = torch.linspace(-reach, reach, steps).to(start)
    codes = start.repeat(len(chosen), steps, 1)
    for row, dimension in enumerate(chosen):
        codes[row, :, dimension] = values
    decoded = _decoded(model, codes)
    written = _write(
        out or run, "traversal", decoded, loaded,
        {f"$z_{{{dimension}}}$, {kl[dimension]:.2f} nats": row
         for dimension, row in zip(chosen, decoded, strict=True)},
        f"One dimension of the code at a time, from {-reach:g} to {reach:g}",
    )  # fmt: skip
    click.echo("written: " + " ".join(map(str, written)))


@click.command()
@RUN
@click.option(
    "--between", type=(click.IntRange(0), click.IntRange(0)), multiple=True, metavar="I J",
    help="Held-out data to go between; may be given again.  [default: 0 1, 2 3, ..., six pairs]",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(2, COUNT.max), default=11, show_default=True)
@DATA
@DATA_DIR
@OUT
@DEVICE
@torch.no_grad()
def interpolate(
    run: Path,
    between: tuple[tuple[int, int], ...],
    steps: int,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Go from one datum's code to another's in a straight line.

    Leaves in FOLDER interpolation.npy (pairs, steps, ...), the expected values, and
    interpolation.png where data are pictures: a row for each pair, the data themselves at its ends.
    """
    loaded = load_run(run, choose_device(device))
    model = loaded.model
    require_no_conditions(loaded, "interpolate")
    unseen = held_out(loaded, data, data_dir)
    pairs = between or [(2 * pair, 2 * pair + 1) for pair in range(min(6, len(unseen.test) // 2))]
    first, last = (_data_at(side, unseen.test, loaded) for side in zip(*pairs, strict=True))
    ends = [model.embed(side).flatten(1).unsqueeze(1) for side in (first, last)]
    share = torch.linspace(0, 1, steps).to(ends[0]).reshape(1, -1, 1)
    decoded = _decoded(model, ends[0] + share * (ends[1] - ends[0]))
    sides = [model.prepare(side).unsqueeze(1) for side in (first, last)]
    shown = torch.cat([sides[0], decoded, sides[1]], dim=1)
    written = _write(
        out or run, "interpolation", decoded, loaded,
        {f"{a} to {b}": row for (a, b), row in zip(pairs, shown, strict=True)},
        f"Held-out {unseen.name}: from one code to another, the data at both ends",
    )  # fmt: skip
    click.echo("written: " + " ".join(map(str, written)))


def _data_at(index: tuple[int, ...] | list[int], x: Tensor, run: Run) -> Tensor:
    """Some of the held-out data, on the run's device."""
    if max(index) >= len(x):
        raise click.UsageError(f"there is no held-out datum {max(index)}: there are {len(x)}")
    chosen = rows(x, torch.tensor(list(index), device="cpu"))
    return chosen.to(next(run.model.parameters()).device)


def _decoded(model: LatentModel, codes: Tensor) -> Tensor:
    """The expected data (rows, steps, *input_shape) of codes (rows, steps, D)."""
    flat = codes.flatten(0, 1).reshape(-1, *model.latent_shape)
    decoded = model.mean(model.decode(flat))
    return decoded.reshape(*codes.shape[:2], *decoded.shape[1:])


def _write(
    folder: Path, name: str, array: Tensor, run: Run, shown: dict[str, Tensor], title: str
) -> list[Path]:
    """The array; and, where data are pictures, the rows as a picture."""
    from vae_fast.plots import picture_shape
    from vae_fast.plots.pictures import plot_reconstructions
    from vae_fast.plots.run import intensities

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.npy"]
    save_array(written[0], array, run)
    shape = picture_shape(run.model.input_shape)
    if shape is not None:
        written.append(folder / f"{name}.png")
        pictures = {row: intensities(run.model, data) for row, data in shown.items()}
        plot_reconstructions(written[-1], pictures, shape, title)
    return written
