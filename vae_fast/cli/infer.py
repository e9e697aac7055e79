"""`vae-fast impute`, `anomaly` and `cluster`: what a run says of data."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from vae_fast.cli.grouped import COUNT
from vae_fast.cli.held_out import (
    DATA,
    DATA_DIR,
    DEVICE,
    OUT,
    RUN,
    SEED_OPTION,
    first_rows,
    held_out,
    read_array,
    require_vae,
    save_array,
)
from vae_fast.cli.train import as_usage_error
from vae_fast.data.sparse import rows
from vae_fast.evaluation import (
    assign,
    elbo_per_datum,
    fit_gaussian_mixture,
)
from vae_fast.evaluation import (
    impute as impute_data,
)
from vae_fast.models import VAE
from vae_fast.training import choose_device, load_run
from vae_fast.training.batches import batches
from vae_fast.training.randomness import seed_all

_BATCH = 128
_MISSING = ("left", "right", "top", "bottom", "middle", "random")
_GREY = 0.5  # in place of what is not known
_SIDE = 6  # pictures a side of the strangest


@click.command()
@RUN
@click.option("-n", "count", type=COUNT, default=12, show_default=True)
@click.option(
    "--missing", type=click.Choice(_MISSING), default="bottom", show_default=True,
    help="Which half of a picture is not known; of the middle the inner quarter.",
)  # fmt: skip
@click.option(
    "--mask", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.npy",
    help="In place of --missing: an array of a datum's shape, or of n of them, true or 1 where "
    "values are missing.",
)  # fmt: skip
@click.option("--iterations", type=COUNT, default=20, show_default=True)
@click.option(
    "--importance-samples", "-k", type=click.IntRange(2, COUNT.max), default=500,
    show_default=True, metavar="K",
)  # fmt: skip
@click.option("--draws", type=COUNT, default=3, show_default=True, help="Of each datum.")
@SEED_OPTION
@DATA
@DATA_DIR
@OUT
@DEVICE
def impute(
    run: Path,
    count: int,
    missing: str,
    mask: Path | None,
    iterations: int,
    importance_samples: int,
    draws: int,
    seed: int,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Fill in what is missing of held-out data.

    The missing values are first replaced over and over by what a code of the whole decodes to, in
    several chains; then K importance samples around the last codes, weighed by the likelihood of
    what is known, give the expected values and the draws (sampling importance resampling).

    Leaves in FOLDER imputed.npy (1 + draws, n, ...): the expected values, then the draws; and
    imputed.png where data are pictures.
    """
    loaded = load_run(run, choose_device(device))
    model = require_vae(loaded, "impute")
    unseen = held_out(loaded, data, data_dir)
    x = first_rows(unseen.test, count, loaded)
    if mask is None:
        hidden = _hidden(missing, model.input_shape, seed)
    else:
        hidden = torch.from_numpy(read_array(mask).astype(bool))
    with as_usage_error():
        filled = impute_data(
            model, x, ~hidden.to(x.device), iterations=iterations, num_samples=importance_samples,
            draws=draws, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "imputed.npy"]
    save_array(written[0], torch.cat([filled.mean.unsqueeze(0), filled.draws]), loaded)
    from vae_fast.plots import picture_shape
    from vae_fast.plots.pictures import plot_reconstructions

    shape = picture_shape(model.input_shape)
    if shape is not None:
        prepared = model.prepare(x)
        shown = {
            "Data": prepared,
            "What is known": torch.where(hidden.to(x.device), _GREY, prepared),
            "Expected": filled.mean,
            **{f"Draw {index}": draw for index, draw in enumerate(filled.draws, 1)},
        }
        written.append(folder / "imputed.png")
        plot_reconstructions(written[-1], shown, shape, f"Held-out {unseen.name}, filled in")
    click.echo(
        f"log p(x known) {float(filled.log_likelihood.mean()):.2f} nats per datum, effective "
        f"sample size {float(filled.effective_sample_size.mean()):.1f} of {importance_samples}"
    )
    click.echo("written: " + " ".join(map(str, written)))


@click.command()
@RUN
@click.option(
    "--score", type=click.Choice(["elbo", "iwae"]), default="iwae", show_default=True,
    help="The negative of which bound of log p(x) a datum is ranked by.",
)  # fmt: skip
@click.option(
    "--importance-samples", "-k", type=COUNT, default=50, show_default=True, metavar="K",
    help="Codes drawn for each datum.",
)  # fmt: skip
@click.option("--count", type=COUNT, help="The first so many data.  [default: all]")
@SEED_OPTION
@DATA
@DATA_DIR
@OUT
@DEVICE
@torch.no_grad()
def anomaly(
    run: Path,
    score: str,
    importance_samples: int,
    count: int | None,
    seed: int,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Rank held-out data by how little the model expects them.

    Leaves in FOLDER anomaly.csv (index, score in nats, label if there is one; the strangest first)
    and anomaly.png: all scores, and where data are pictures the strangest and the most ordinary.
    """
    from vae_fast.plots import picture_shape
    from vae_fast.plots.explore import plot_anomalies
    from vae_fast.plots.run import intensities

    loaded = load_run(run, choose_device(device))
    model = require_vae(loaded, "anomaly")
    unseen = held_out(loaded, data, data_dir)
    count = min(count or len(unseen.test), len(unseen.test))
    x = rows(unseen.test, torch.arange(count, device="cpu"))
    seed_all(seed)
    parts = batches(x, _BATCH, next(model.parameters()).device)
    scores = torch.cat([_score(model, part, score, importance_samples) for part in parts]).cpu()
    order = scores.argsort(descending=True)
    labels = unseen.test_labels
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "anomaly.csv", folder / "anomaly.png"]
    columns = [order.tolist(), [f"{value:.4f}" for value in scores[order].tolist()]]
    _write_csv(written[0], ["index", "score"], columns, labels, order)
    shape = picture_shape(model.input_shape)
    pictures = None
    if shape is not None:
        shown = min(_SIDE**2, len(order))
        ends = [rows(x, part) for part in (order[:shown], order.flip(0)[:shown])]
        most, least = (intensities(model, model.measured(model.prepare(end))) for end in ends)
        pictures = most, least
    named = {"elbo": "$-$ELBO", "iwae": f"$-\\log p(x)$ by {importance_samples} importance samples"}
    plot_anomalies(
        written[1], scores, pictures, shape, f"Held-out {unseen.name}, by how strange", named[score]
    )
    click.echo(f"scores from {float(scores.min()):.2f} to {float(scores.max()):.2f} nats")
    click.echo("written: " + " ".join(map(str, written)))


@click.command()
@RUN
@click.option(
    "--clusters", "-c", type=COUNT,
    help="How many.  [default: as many as there are labels, else 10]",
)  # fmt: skip
@SEED_OPTION
@DATA
@DATA_DIR
@OUT
@DEVICE
@torch.no_grad()
def cluster(
    run: Path,
    clusters: int | None,
    seed: int,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Fit a mixture of Gaussians to the codes of held-out data.

    Leaves in FOLDER clusters.csv (index, cluster, label if there is one) and clusters.png, the
    codes in a plane. Where there are labels the adjusted Rand index says how well the clusters
    agree with them: 1 as well as can be, 0 as well as chance.
    """
    from vae_fast.plots.explore import plot_clusters

    loaded = load_run(run, choose_device(device))
    model = loaded.model
    unseen = held_out(loaded, data, data_dir)
    parts = batches(unseen.test, _BATCH, next(model.parameters()).device)
    codes = torch.cat([model.embed(part).flatten(1) for part in parts]).cpu()
    labels = unseen.test_labels
    count = clusters or (10 if labels is None else len(torch.unique(labels)))
    with as_usage_error():
        mixture = fit_gaussian_mixture(codes, count, seed=seed)
    found = assign(codes, mixture)
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "clusters.csv", folder / "clusters.png"]
    order = torch.arange(len(codes), device="cpu")
    _write_csv(written[0], ["index", "cluster"], [order.tolist(), found.tolist()], labels, order)
    title = f"Codes of held-out {unseen.name}: {count} clusters"
    line = f"{mixture.log_likelihood:.3f} nats per code"
    if labels is not None:
        from sklearn.metrics import adjusted_rand_score  # type: ignore[import-untyped]

        index = adjusted_rand_score(labels.numpy(), found.numpy())
        line += f", adjusted Rand index {index:.3f}"
        title += f", adjusted Rand index {index:.2f}"
    plot_clusters(written[1], codes, found, labels, title)
    click.echo(line)
    click.echo("written: " + " ".join(map(str, written)))


def _score(model: VAE, x: Tensor, score: str, samples: int) -> Tensor:
    if score == "elbo":
        return elbo_per_datum(model, x, samples).loss
    return -model.log_likelihood(x, samples)


def _write_csv(
    path: Path,
    header: list[str],
    columns: Sequence[Iterable[object]],
    labels: Tensor | None,
    order: Tensor,
) -> None:
    """Columns, and behind them the labels in the same order, if there are any."""
    if labels is not None:
        header, columns = [*header, "label"], [*columns, labels[order].tolist()]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def _hidden(missing: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """What is not known of a datum, bool of its shape."""
    from vae_fast.plots import picture_shape

    if missing == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(shape, generator=generator, device="cpu") < 0.5
    picture = picture_shape(shape)
    if picture is None:
        raise click.UsageError(
            f"data of the shape {shape} are no pictures: give --missing random or --mask"
        )
    hidden = torch.zeros(picture, dtype=torch.bool, device="cpu")
    height, width = picture[1:]
    parts = {
        "left": (slice(None), slice(width // 2)),
        "right": (slice(None), slice(width // 2, None)),
        "top": (slice(height // 2), slice(None)),
        "bottom": (slice(height // 2, None), slice(None)),
        "middle": (slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))),
    }
    hidden[:, *parts[missing]] = True
    return hidden.reshape(shape)
