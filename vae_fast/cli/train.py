"""`vae-fast train`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from vae_fast.cli.console import plain_console
from vae_fast.cli.grouped import GroupedCommand, given
from vae_fast.cli.options import train_options
from vae_fast.cli.own_settings import own_settings
from vae_fast.data import BUILT_IN, Data, fingerprint, load, located, require_same
from vae_fast.data.reading import first_line
from vae_fast.data.scaling import Scaling
from vae_fast.engine.likelihood import are_whole
from vae_fast.models import MODELS, LatentModel, build
from vae_fast.models.base import HEADS
from vae_fast.models.settings import defaults_of, settings_of
from vae_fast.training import RunError, Trainer, TrainerConfig, choose_device, load_run
from vae_fast.training.files import parsing
from vae_fast.training.run import CONFIG, read_config
from vae_fast.training.stored import entry

# What may be given anew when a run goes on.
_RESUMABLE = {"out", "resume", "epochs", "device", "threads", "plots", "data_dir"}


@click.command(cls=GroupedCommand)
@train_options
@click.pass_context
def train(
    ctx: click.Context,
    /,
    data: str,
    data_dir: Path | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    threads: int | None,
    plots: bool,
    **options: Any,
) -> None:
    """Train a model.

    Leaves in FOLDER: config.json, metrics.jsonl (a line an epoch, nats per datum),
    model.safetensors (the weights), checkpoint.safetensors (to go on from), and the pictures
    curves.png, reconstructions.png, samples.png and latent.png.

    \b
    Examples:
      vae-fast train --data digits --latent 2 --epochs 100
      vae-fast train --data mnist --out runs/mnist
      vae-fast train --data photos/ --image-size 64 --arch conv --likelihood gaussian
      vae-fast train --data digits --model beta_tc_vae --set beta=6
      vae-fast train --data cells.h5ad --likelihood negative_binomial --batch-key donor
      vae-fast train --resume --out runs/mnist --epochs 20
    """  # noqa: D301  (click reads the \b: what follows keeps its lines)
    from vae_fast.cli.progress import ProgressBar

    console = plain_console()
    if threads is not None:
        torch.set_num_threads(threads)
    if resume:
        refused = given(ctx, sorted(set(ctx.params) - _RESUMABLE))
        if out is None:
            raise click.UsageError("--resume needs --out, the folder of the run")
        if refused:
            raise click.UsageError(f"--resume keeps the run's settings: leave out {refused[0]}")
        epochs = options["epochs"] if given(ctx, ["epochs"]) else None
        device = options["device"] if given(ctx, ["device"]) else None
        with as_usage_error():
            trainer = Trainer.resume(out, epochs=epochs, device=device)
        loaded = load_again(out, data_dir)
        console.print(f"{out}: going on after epoch {trainer.epoch}")
    else:
        _require_graphs_are_possible(ctx, options)
        expected = defaults_of(MODELS[options["kind"]])
        options |= {name: expected[name] for name in expected if not given(ctx, [name])}
        described = describe_data(data, data_dir, options)
        if options["standardize"] and described["counts"]:
            raise click.UsageError(
                f"--standardize is for real values, and {options['likelihood']} takes whole numbers"
            )
        loaded = load(**described)
        info: dict[str, Any] = {"data": described, "fingerprint": fingerprint(loaded)}
        if options["standardize"]:
            scaling = Scaling.of(loaded.train)
            scaling.apply(loaded)
            info["standardize"] = scaling.to_dict()
        kind = options["kind"]
        out = out or Path("runs") / f"{loaded.name.lower()}-{kind}"
        model = make_model(loaded, options)
        with as_usage_error():
            names = {field.name for field in fields(TrainerConfig)} & set(options)
            config = TrainerConfig(**{name: options[name] for name in names})
            trainer = Trainer(model, config, out=out, info=info, overwrite=overwrite)
        console.print(_summary(loaded, trainer))
    trainer.callbacks.append(ProgressBar(_name(trainer.model), console))
    try:
        trainer.fit(loaded.train, loaded.test)
    except KeyboardInterrupt as interruption:
        console.print(
            f"interrupted after epoch {trainer.epoch} of {trainer.config.epochs}; to go on after "
            f"epoch {trainer.saved_epoch or 0}: vae-fast train --resume --out {out}",
            soft_wrap=True,
        )
        ctx.exit(getattr(interruption, "code", 130))
    _conclude(console, out, loaded, plots)


def describe_data(source: str, data_dir: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `vae_fast.data.load`, as a run keeps them; files by their full path."""
    path = located(source)
    keys = {name: options[name] for name in ("batch_key", "label_key")}
    return {
        "source": str(path.resolve()) if source not in BUILT_IN and path.exists() else source,
        "data_dir": None if data_dir is None else str(data_dir.resolve()),
        "test_fraction": options["test_fraction"],
        "image_size": options["image_size"],
        "max_bytes": options["max_bytes"],
        "counts": are_whole(HEADS[options["likelihood"]].data),
        **{name: key for name, key in keys.items() if key is not None},
    }


def load_again(folder: Path, data_dir: Path | None = None) -> Data:
    """The data that a run was trained on.

    Raises:
        DataError: they are gone, or no longer what they were.
    """
    info = read_config(folder)
    if "data" not in info:
        raise click.UsageError(f"{folder} does not say what it was trained on: give --data")
    with parsing(folder / CONFIG):
        described = dict(entry(info, "data", dict))
        inspect.signature(load).bind(**described)
    if data_dir is not None:
        described["data_dir"] = str(data_dir)
    data = load(**described)
    if "fingerprint" in info:
        with parsing(folder / CONFIG):
            stored = entry(info, "fingerprint", dict)
        require_same(data, stored, str(folder))
    scaling = scaling_of(folder, info)
    if scaling is not None:
        scaling.apply(data)
    return data


def scaling_of(folder: Path, info: dict[str, Any]) -> Scaling | None:
    """What a run's data were standardized with."""
    if "standardize" not in info:
        return None
    with parsing(folder / CONFIG):
        return Scaling.from_dict(entry(info, "standardize", dict))


def make_model(data: Data, options: dict[str, Any]) -> LatentModel:
    """A model for the data, with weights drawn from the seed."""
    logvar = options["decoder_logvar"]
    if logvar not in ("learned", "optimal", "pixel"):
        try:
            logvar = float(logvar)
        except ValueError:
            raise click.BadParameter(
                f"{logvar!r} is not learned, optimal, pixel or a number",
                param_hint="--decoder-logvar",
            ) from None
    head, classes = HEADS[options["likelihood"]], options["num_classes"]
    data.require_kind(head.data, classes)
    settings = {name: options[name] for name in ("num_classes", "num_mixtures")}
    if "library" in head.settings:
        settings["library"] = data.mean_total()
    if "num_classes" in head.settings and classes is None:
        settings["num_classes"] = data.num_classes()
    kind = options["kind"]
    settings |= own_settings(kind, options["own"])
    if "dataset_size" in settings_of(MODELS[kind]):
        settings.setdefault("dataset_size", len(data.train))
    torch.manual_seed(options["seed"])
    with as_usage_error():
        return build(
            {
                "model": kind,
                "input_shape": data.shape,
                "latent_dim": options["latent"],
                "hidden": options["hidden"],
                "architecture": options["architecture"],
                "channels": options["channels"],
                "likelihood": options["likelihood"],
                "decoder_logvar": logvar,
                **settings,
                "conditions": data.conditions,
            }
        )


def _require_graphs_are_possible(ctx: click.Context, options: dict[str, Any]) -> None:
    """By default they are for where there is a GPU; whoever asks for them must learn of none."""
    device = choose_device(options["device"])
    if given(ctx, ["cuda_graphs"]) and options["cuda_graphs"] and device.type != "cuda":
        raise click.UsageError(f"--cuda-graphs needs a GPU, and the device here is {device}")


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Settings that do not go together are the caller's mistake, not ours.

    So are sizes that torch cannot count: a `RuntimeError` of its own.
    """
    try:
        yield
    except RunError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise click.UsageError(first_line(error)) from error


def _name(model: torch.nn.Module) -> str:
    return str(getattr(model, "kind", "model")).upper()


def _summary(data: Data, trainer: Trainer) -> str:
    shape = " x ".join(map(str, data.shape))
    count = sum(p.numel() for p in trainer.model.parameters())
    is_sparse = data.train.layout is torch.sparse_csr
    conditions = f", under {len(data.conditions)} conditions" if data.conditions else ""
    return (
        f"{data.name}: {len(data.train):,} to train on, {len(data.test):,} held out, {shape} "
        f"{str(data.train.dtype).removeprefix('torch.')}{' in CSR' * is_sparse}{conditions}\n"
        f"{_name(trainer.model)}: {count:,} parameters, on {trainer.device}"
    )


def _conclude(console: Console, out: Path, data: Data, plots: bool) -> None:
    """The last figures, and the pictures."""
    run = load_run(out)
    last = run.history[-1]
    figures = f"after epoch {last.epoch}: training {last.train_loss:.2f}"
    if last.test_loss is not None:
        figures += f", test {last.test_loss:.2f} (nll {last.test_nll:.2f} + kl {last.test_kl:.2f})"
    console.print(f"{figures} nats per datum", soft_wrap=True)
    written = [out / "model.safetensors", out / "metrics.jsonl"]
    if plots:
        from vae_fast.plots import TrainedRun, plot_run

        with console.status("drawing"):
            written += plot_run(out, [TrainedRun(run.model, run.history)], data)
    console.print("written: " + " ".join(map(str, written)), soft_wrap=True)
