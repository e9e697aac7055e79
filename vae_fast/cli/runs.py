"""`vae-fast sample` and `reconstruct`: what a run makes."""

from __future__ import annotations

import math
from pathlib import Path

import click
import torch

from vae_fast.cli.grouped import COUNT
from vae_fast.cli.held_out import (
    DATA,
    DATA_DIR,
    DEVICE,
    RUN,
    SEED_OPTION,
    held_out,
    save_array,
    target,
)
from vae_fast.data.sparse import rows
from vae_fast.training import choose_device, load_run


@click.command()
@RUN
@click.option("-n", "count", type=COUNT, default=100, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, or a .npy of (n, ...) expected values.  [default: RUN/samples.png]",
)  # fmt: skip
@SEED_OPTION
@DEVICE
def sample(run: Path, count: int, out: Path | None, seed: int, device: str) -> None:
    """Decode codes drawn from the prior."""
    loaded = load_run(run, choose_device(device))
    model = loaded.model
    out = target(out, run / "samples.png", model.input_shape)
    if out.suffix == ".npy":
        generator = torch.Generator().manual_seed(seed)
        save_array(out, model.sample(count, generator=generator), loaded)
    else:
        from vae_fast.plots import draw_samples

        draw_samples(out, [model], model.input_shape, count, math.ceil(math.sqrt(count)), seed)
    click.echo(f"written: {out}")


@click.command()
@RUN
@click.option("-n", "count", type=COUNT, default=14, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, or a .npy of (2, n, ...): data, reconstructions.  "
    "[default: RUN/reconstructions.png]",
)  # fmt: skip
@DATA
@DATA_DIR
@DEVICE
def reconstruct(
    run: Path, count: int, out: Path | None, data: str | None, data_dir: Path | None, device: str
) -> None:
    """Pass held-out data through the code and back."""
    loaded = load_run(run, choose_device(device))
    model = loaded.model
    out = target(out, run / "reconstructions.png", model.input_shape)
    unseen = held_out(loaded, data, data_dir)
    x = unseen.test
    if out.suffix == ".npy":
        x = rows(x, torch.arange(min(count, len(x))))
        x = model.prepare(x.to(next(model.parameters()).device))
        save_array(out, torch.stack([model.measured(x), model.reconstruct(x)]), loaded)
    else:
        from vae_fast.plots import draw_reconstructions

        draw_reconstructions(out, [model], unseen, count)
    click.echo(f"written: {out}")
