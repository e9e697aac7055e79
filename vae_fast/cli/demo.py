"""`vae-fast demo`: a VAE and an auto-encoder on handwritten digits, and what tells them apart."""

from __future__ import annotations

import time
from pathlib import Path

import click
import torch

from vae_fast.cli.console import plain_console
from vae_fast.cli.grouped import COUNT, SEED
from vae_fast.cli.progress import ProgressBar
from vae_fast.data import load
from vae_fast.models import VAE, AutoEncoder
from vae_fast.plots import TrainedRun, plot_run
from vae_fast.training import RunError, Trainer, TrainerConfig
from vae_fast.training.run import is_run, read_config

_LATENT = 10


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/demo"),
    show_default=True, help="Where the VAE's run and the pictures go; the auto-encoder's in ae/.",
)  # fmt: skip
@click.option("--epochs", type=COUNT, default=150, show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
def demo(out: Path, epochs: int, seed: int) -> None:
    """Train a VAE and an auto-encoder on digits.

    Draws them side by side. Both have the same networks and the same likelihood. The auto-encoder
    reconstructs better; only the VAE's codes fill the space that new pictures are drawn from.
    """
    console = plain_console()
    start = time.perf_counter()
    data = load("digits")
    # The checkpoints' fsyncs would take longer than these epochs.
    config = TrainerConfig(
        epochs=epochs,
        batch_size=64,
        learning_rate=2e-3,
        schedule="cosine",
        seed=seed,
        checkpoint_every=max(1, epochs // 5),
    )
    runs = []
    for model_type, folder in ((VAE, out), (AutoEncoder, out / "ae")):
        _require_a_demo(folder)
        torch.manual_seed(seed)
        model = model_type(data.shape, _LATENT)
        trainer = Trainer(
            model,
            config,
            out=folder,
            callbacks=[ProgressBar(model.kind.upper(), console)],
            info={"data": {"source": "digits"}, "demo": True},
            overwrite=True,
        )
        trainer.fit(data.train, data.test)
        runs.append(TrainedRun(model, trainer.history))
    with console.status("drawing"):
        written = plot_run(out, runs, data)
    for run in runs:
        last = run.history[-1]
        console.print(
            f"{run.name}: test {last.test_loss:.2f} nats per image "
            f"(nll {last.test_nll:.2f} + kl {last.test_kl:.2f})"
        )
    console.print(f"{time.perf_counter() - start:.0f} s; look at:")
    for path in written:
        console.print(f"  {path}", soft_wrap=True)


def _require_a_demo(folder: Path) -> None:
    """It replaces what it has left itself, and no other run."""
    if is_run(folder) and "demo" not in read_config(folder):
        raise RunError(f"{folder} holds a run that is not of the demo: choose another --out")
