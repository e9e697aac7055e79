"""`vae-fast evaluate`: the loss of a run on held-out data, and all that its figures say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vae_fast.cli.console import plain_console
from vae_fast.cli.grouped import COUNT
from vae_fast.cli.held_out import (
    DATA,
    DATA_DIR,
    DEVICE,
    RUN,
    first_rows,
    held_out,
    read_array,
    require_vae,
)
from vae_fast.cli.train import as_usage_error
from vae_fast.data import Data, DataError
from vae_fast.evaluation import METRICS, Evaluation, evaluate_model
from vae_fast.evaluation.figures import Estimate, Metric, RatePoint
from vae_fast.models import VAE, PosteriorVAE
from vae_fast.training import Run, Trainer, choose_device, load_run
from vae_fast.training.batches import batches
from vae_fast.training.files import json_bytes

_SAMPLES = 1000  # of a datum, where -k says nothing
_LOSS = {
    "test_loss": "loss = nll + beta kl",
    "test_nll": "nll, -log p(x | z)",
    "test_kl": "kl, KL(q(z | x) || p(z))",
}


@click.command()
@RUN
@DATA
@DATA_DIR
@click.option(
    "--importance-samples", "-k", type=click.IntRange(0, COUNT.max), default=0, metavar="K",
    help="Also bound log p(x) by K importance samples (VAE; 100 is usual).",
)  # fmt: skip
@click.option(
    "--metric", "metrics", type=click.Choice(METRICS), multiple=True,
    help="More figures of a VAE; may be given again.",
)  # fmt: skip
@click.option("--all", "all_", is_flag=True, help="All of them.")
@click.option(
    "--count", type=click.IntRange(2, COUNT.max), default=1000, show_default=True,
    help="The first so many data go into these figures.",
)  # fmt: skip
@click.option(
    "--factors", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.npy",
    help="(N, F): what is known of the data, classes or numbers.  [default: their labels]",
)  # fmt: skip
@click.option(
    "--beside", type=click.Path(path_type=Path), multiple=True, metavar="RUN",
    help="More runs on the same data, for the rate-distortion picture; may be given again.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Write evaluation.json and pictures there; without --metric, of all figures.",
)  # fmt: skip
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def evaluate(
    run: Path,
    data: str | None,
    data_dir: Path | None,
    importance_samples: int,
    metrics: tuple[Metric, ...],
    all_: bool,
    count: int,
    factors: Path | None,
    beside: tuple[Path, ...],
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Compute a run's loss on held-out data, in nats per datum.

    Without --data it is the run's own test set, and the figures are those of metrics.jsonl.

    \b
    More figures:
    importance       log p(x) by importance samples: standard error, effective sample size, and the
                     shape k of the weights' tail, above 0.7 of which they are not to be trusted
    annealing        log p(x) by annealed importance sampling; the rate-distortion curve
    units            active units, the KL of each dimension
    decomposition    the KL as mutual information, total correlation, dimension-wise KL
    disentanglement  MIG, SAP, DCI, of --factors or labels
    """  # noqa: D301  (click reads the \b: what follows keeps its lines)
    loaded = load_run(run, choose_device(device))
    unseen = held_out(loaded, data, data_dir)
    others = _runs_beside(loaded, beside, device)
    if others and out is None:
        raise click.UsageError("--beside is for the rate-distortion picture: give --out")
    if all_ or (out is not None and not metrics):
        metrics = METRICS
    # The run's settings, but on the device asked for (its own may be elsewhere), and no new curves.
    settings = replace(loaded.trainer, device=device, tensorboard=False)
    with as_usage_error():
        trainer = Trainer(loaded.model, settings)
    terms = trainer.evaluate(unseen.test)
    figures: dict[str, Any] = {f"test_{name}": value for name, value in terms._asdict().items()}
    names = dict(_LOSS)
    if importance_samples and "importance" not in metrics:
        if not isinstance(loaded.model, VAE | PosteriorVAE):
            raise click.UsageError("an auto-encoder has no likelihood to bound: leave out -k")
        figures["log_likelihood"] = _log_likelihood(loaded.model, unseen.test, importance_samples)
        names["log_likelihood"] = f"log p(x) >= ({importance_samples} samples)"
    found = None
    if metrics:
        samples = importance_samples or _SAMPLES
        found = _figures(loaded, unseen, metrics, count, factors, samples)
    written = []
    if out is not None and found is not None:
        points = _points([loaded, *others], found, unseen, count)
        written = _write(out, unseen.name, found, figures, points)
    if as_json:
        content = {"data": unseen.name, "count": len(unseen.test), **figures}
        if found is not None:
            content["evaluation"] = found.to_dict()
        click.echo(json.dumps(content))
        return
    console = plain_console()
    table = Table(title=f"{run} on {len(unseen.test):,} held-out {unseen.name}")
    table.add_column("")
    table.add_column("nats per datum", justify="right")
    for name, value in figures.items():
        table.add_row(names[name], f"{value:.4f}")
    console.print(table)
    if found is not None:
        _print(console, found)
    if written:
        console.print("written: " + " ".join(map(str, written)), soft_wrap=True)


@torch.no_grad()
def _log_likelihood(model: VAE | PosteriorVAE, x: Tensor, samples: int) -> float:
    device = next(model.parameters()).device
    torch.manual_seed(0)
    total = sum(
        model.log_likelihood(part, samples).double().sum() for part in batches(x, 128, device)
    )
    return float(total) / len(x)


def _figures(
    run: Run,
    data: Data,
    metrics: tuple[Metric, ...],
    count: int,
    path: Path | None,
    samples: int,
) -> Evaluation:
    model = require_vae(run, "--metric")
    factors = data.test_labels if path is None else _read_factors(path, len(data.test))
    if factors is None and metrics == ("disentanglement",):
        raise click.UsageError(f"{data.name} has no labels: disentanglement needs --factors")
    x = first_rows(data.test, count, run)
    with as_usage_error():
        return evaluate_model(
            model,
            x,
            metrics=metrics,
            factors=None if factors is None else factors[: len(x)],
            importance_samples=samples,
        )


def _read_factors(path: Path, count: int) -> Tensor:
    """A row for each held-out datum: whole numbers are classes."""
    array = read_array(path)
    if array.ndim not in (1, 2) or len(array) != count:
        raise DataError(
            f"{path} is of the shape {array.shape}; expected ({count},) or ({count}, F), a row for "
            "each held-out datum"
        )
    return torch.from_numpy(array.astype("float64" if array.dtype.kind == "f" else "int64"))


def _runs_beside(run: Run, folders: tuple[Path, ...], device: str) -> list[Run]:
    others = [load_run(folder, choose_device(device)) for folder in folders]
    for other in others:
        if require_vae(other, "--beside").data_shape != run.model.data_shape:
            raise click.UsageError(f"{other.folder} is of data of another shape than {run.folder}")
    return others


def _points(runs: list[Run], figures: Evaluation, data: Data, count: int) -> dict[str, RatePoint]:
    """What each run's own encoder reaches; the beta that it was trained with is its temperature."""
    if figures.annealing is not None:  # on the data that the curve is of
        count = figures.annealing.data
    points = {}
    for run in runs:
        x = first_rows(data.test, count, run)
        terms = evaluate_model(require_vae(run, "--out"), x, metrics=())
        points[str(run.folder)] = RatePoint(run.trainer.beta, terms.kl, terms.nll)
    return points


def _write(
    out: Path,
    data: str,
    figures: Evaluation,
    losses: dict[str, Any],
    points: dict[str, RatePoint],
) -> list[Path]:
    from vae_fast.plots.evaluation import plot_evaluation

    out.mkdir(parents=True, exist_ok=True)
    content = {
        "data": data,
        **losses,
        "evaluation": figures.to_dict(),
        "runs": {name: vars(point) for name, point in points.items()},
    }
    (out / "evaluation.json").write_bytes(json_bytes(content))
    return [out / "evaluation.json", *plot_evaluation(out, figures, points)]


def _print(console: Console, figures: Evaluation) -> None:
    table = Table(title=f"of the first {figures.count:,}")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("ELBO", _with_error(figures.elbo))
    if figures.importance is not None:
        found = figures.importance
        for bound in found.bounds[1:]:
            text = f"{bound.bound:.3f} ± {bound.standard_error:.3f}"
            table.add_row(f"IWAE bound, {bound.samples} samples", text)
        table.add_row(f"log p(x), {found.samples} samples", _with_error(found.log_likelihood))
        table.add_row("effective sample size", f"{found.effective_sample_size:.1f}")
        if found.unreliable is not None:
            table.add_row("data with Pareto k above 0.7", f"{100 * found.unreliable:.1f}%")
    if figures.annealing is not None:
        annealed = figures.annealing
        name = f"log p(x), annealed, of {annealed.data}"
        table.add_row(name, _with_error(annealed.log_likelihood))
        if annealed.importance is not None:
            table.add_row("the same data, importance samples", f"{annealed.importance:.3f}")
    if figures.units is not None:
        count = len(figures.units.kl)
        table.add_row("active units", f"{figures.units.active} of {count}")
    for part in (figures.decomposition, figures.disentanglement):
        for name, value in vars(part).items() if part is not None else ():
            if isinstance(value, float):
                table.add_row(name.replace("_", " "), f"{value:.4f}")
    console.print(table)


def _with_error(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ± {estimate.standard_error:.3f}"
