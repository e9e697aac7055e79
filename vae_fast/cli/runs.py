"""`vae-fast evaluate`, `sample` and `reconstruct`: what can be done with a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import click
import torch
from rich.table import Table
from torch import Tensor

from vae_fast.cli.console import plain_console
from vae_fast.cli.grouped import COUNT, SEED, Device
from vae_fast.cli.train import as_usage_error, load_again, scaling_of
from vae_fast.data import Data, DataError, load
from vae_fast.data.sparse import rows
from vae_fast.engine.likelihood import are_whole
from vae_fast.models import VAE
from vae_fast.training import Run, RunError, Trainer, choose_device, load_run
from vae_fast.training.batches import batches

_RUN = click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
_DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where MNIST's four files are."
)
_DEVICE = click.option(
    "--device", type=Device(), default="auto", show_default=True, help="Where to compute."
)
# What other data than a run's own are read as its own were, too.
_READ_AS = ("image_size", "max_bytes", "batch_key")
_SEED = click.option("--seed", type=SEED, default=0, show_default=True)


@click.command()
@_RUN
@click.option("--data", metavar="SOURCE", help="Other data than the run's own test set.")
@_DATA_DIR
@click.option(
    "--importance-samples", "-k", type=click.IntRange(0, COUNT.max), default=0, metavar="K",
    help="Also bound log p(x) by K importance samples (VAE; 100 is usual).",
)  # fmt: skip
@_DEVICE
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def evaluate(
    run: Path,
    data: str | None,
    data_dir: Path | None,
    importance_samples: int,
    device: str,
    as_json: bool,
) -> None:
    """Compute a run's loss on held-out data, in nats per datum.

    Without --data it is the run's own test set, and the figures are those of metrics.jsonl.
    """
    loaded = load_run(run, choose_device(device))
    held_out = _held_out(loaded, data, data_dir)
    x = held_out.test
    # The run's settings, but on the device asked for (its own may be elsewhere), and no new curves.
    settings = replace(loaded.trainer, device=device, tensorboard=False)
    with as_usage_error():
        trainer = Trainer(loaded.model, settings)
    terms = trainer.evaluate(x)
    figures = {f"test_{name}": value for name, value in terms._asdict().items()}
    if importance_samples:
        if not isinstance(loaded.model, VAE):
            raise click.UsageError("an auto-encoder has no likelihood to bound: leave out -k")
        figures["log_likelihood"] = _log_likelihood(loaded.model, x, importance_samples)
    if as_json:
        click.echo(json.dumps({"data": held_out.name, "count": len(x), **figures}))
        return
    table = Table(title=f"{run} on {len(x):,} held-out {held_out.name}")
    table.add_column("")
    table.add_column("nats per datum", justify="right")
    names = {
        "test_loss": "loss = nll + beta kl",
        "test_nll": "nll, -log p(x | z)",
        "test_kl": "kl, KL(q(z | x) || p(z))",
        "log_likelihood": f"log p(x) >= ({importance_samples} samples)",
    }
    for name, value in figures.items():
        table.add_row(names[name], f"{value:.4f}")
    plain_console().print(table)


@click.command()
@_RUN
@click.option("-n", "count", type=COUNT, default=100, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, or a .npy of (n, ...) expected values.  [default: RUN/samples.png]",
)  # fmt: skip
@_SEED
@_DEVICE
def sample(run: Path, count: int, out: Path | None, seed: int, device: str) -> None:
    """Decode codes drawn from N(0, I)."""
    loaded = load_run(run, choose_device(device))
    model = loaded.model
    out = _target(out, run / "samples.png", model.input_shape)
    if out.suffix == ".npy":
        generator = torch.Generator().manual_seed(seed)
        _save_array(out, model.sample(count, generator=generator), loaded)
    else:
        from vae_fast.plots import draw_samples

        draw_samples(out, [model], model.input_shape, count, math.ceil(math.sqrt(count)), seed)
    click.echo(f"written: {out}")


@click.command()
@_RUN
@click.option("-n", "count", type=COUNT, default=14, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, or a .npy of (2, n, ...): data, reconstructions.  "
    "[default: RUN/reconstructions.png]",
)  # fmt: skip
@click.option("--data", metavar="SOURCE", help="Other data than the run's own test set.")
@_DATA_DIR
@_DEVICE
def reconstruct(
    run: Path, count: int, out: Path | None, data: str | None, data_dir: Path | None, device: str
) -> None:
    """Pass held-out data through the code and back."""
    loaded = load_run(run, choose_device(device))
    model = loaded.model
    out = _target(out, run / "reconstructions.png", model.input_shape)
    held_out = _held_out(loaded, data, data_dir)
    x = held_out.test
    if out.suffix == ".npy":
        x = rows(x, torch.arange(min(count, len(x))))
        x = model.prepare(x.to(next(model.parameters()).device))
        _save_array(out, torch.stack([model.measured(x), model.reconstruct(x)]), loaded)
    else:
        from vae_fast.plots import draw_reconstructions

        draw_reconstructions(out, [model], held_out, count)
    click.echo(f"written: {out}")


def _held_out(run: Run, source: str | None, data_dir: Path | None) -> Data:
    """The run's own held-out data, or all of a source, read as the run has read its own."""
    if source is None:
        data = load_again(run.folder, data_dir)
    else:
        kept = run.info.get("data", {})
        read_as = {name: kept[name] for name in _READ_AS if name in kept}
        whole = are_whole(run.model.likelihood.data)
        data = load(source, data_dir=data_dir, whole=True, counts=whole, **read_as)
        scaling = scaling_of(run.folder, run.info)
        if scaling is not None:
            scaling.apply(data)
    if data.shape != run.model.input_shape:
        raise DataError(
            f"{data.name} has the shape {data.shape}, and the model takes {run.model.input_shape}"
        )
    if data.conditions != run.model.conditions:
        raise DataError(
            f"{data.name} was measured under {data.conditions}, and the model knows "
            f"{run.model.conditions}"
        )
    data.require_kind(run.model.likelihood.data, run.model.likelihood.num_classes)
    return data


@torch.no_grad()
def _log_likelihood(model: VAE, x: Tensor, samples: int) -> float:
    device = next(model.parameters()).device
    torch.manual_seed(0)
    total = sum(
        model.log_likelihood(part, samples).double().sum() for part in batches(x, 128, device)
    )
    return float(total) / len(x)


def _target(out: Path | None, default: Path, shape: tuple[int, ...]) -> Path:
    from vae_fast.plots import picture_shape

    out = out or default
    if out.suffix not in (".png", ".npy"):
        raise click.BadParameter(f"{out} is neither .png nor .npy", param_hint="--out")
    if out.suffix == ".png" and picture_shape(shape) is None:
        raise RunError(f"data of the shape {shape} are no pictures: give --out FILE.npy")
    return out


def _save_array(path: Path, values: Tensor, run: Run) -> None:
    """In the units of the run's data."""
    import numpy as np

    scaling = scaling_of(run.folder, run.info)
    if scaling is not None:
        values = scaling.undo(values)
    np.save(path, values.cpu().numpy())
