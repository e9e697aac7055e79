"""An scVI-like model here and in scvi-tools, of the same counts: cells a second, and the bound.

    python -m venv scvi && scvi/bin/pip install torch==2.13.0 scvi-tools==1.4.2
    python -m benchmarks.single_cell_scvi --scvi scvi/bin/python

The counts are those of examples/cells.py, the model is that too: one hidden layer of 128, 10
latents, a zero-inflated negative binomial with a dispersion per gene, batches of 128. scvi-tools
has it twice: as it comes, with batch normalization, dropout and its settings of Adam; and as the
model here is, without the first two and with PyTorch's settings. No warm-up of the KL term. Each
has a process of its own, with the same threads, and the counts in memory, dense.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

WHO = ("vae_fast", "scvi-tools", "scvi-tools, the same network")


def vae_fast(counts: np.ndarray, epochs: int) -> tuple[list[float], float]:
    """Seconds of each epoch, and the negative bound after the last."""
    import vae_fast as vf

    data = torch.from_numpy(counts)
    torch.manual_seed(0)
    model = vf.VAE(counts.shape[1], 10, hidden=(128,), likelihood="zero_inflated_negative_binomial")
    history = vf.Trainer(model, vf.TrainerConfig(epochs=epochs)).fit(data)
    with torch.no_grad():
        losses = [model.loss(part).loss.item() * len(part) for part in data.split(1000)]
    return [metrics.seconds for metrics in history], sum(losses) / len(data)


def scvi_tools(counts: np.ndarray, epochs: int, is_same: bool) -> tuple[list[float], float]:
    """The same of scvi-tools."""
    import anndata
    import scvi
    from lightning.pytorch.callbacks import Callback

    class Clock(Callback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_train_epoch_start(self, *_: object) -> None:
            self.begin = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            self.seconds.append(time.perf_counter() - self.begin)

    scvi.settings.seed = 0
    data = anndata.AnnData(counts.astype(np.float32))
    scvi.model.SCVI.setup_anndata(data)
    network = {"use_batch_norm": "none", "dropout_rate": 0.0} if is_same else {}
    adam = {"eps": 1e-8, "weight_decay": 0.0} if is_same else {}
    model = scvi.model.SCVI(
        data, n_hidden=128, n_latent=10, n_layers=1, gene_likelihood="zinb", **network
    )
    clock = Clock()
    model.train(
        max_epochs=epochs,
        accelerator="cpu",
        train_size=1.0,
        batch_size=128,
        plan_kwargs={"n_epochs_kl_warmup": None, **adam},
        callbacks=[clock],
        enable_progress_bar=False,
        logger=False,
    )
    return clock.seconds, -float(model.get_elbo())


def measure(who: str, counts: Path, epochs: int, threads: int) -> None:
    """In a process of its own: prints what was measured, in JSON."""
    torch.set_num_threads(threads)
    data = np.load(counts)
    if who == "vae_fast":
        seconds, loss = vae_fast(data, epochs)
    else:
        seconds, loss = scvi_tools(data, epochs, who != WHO[1])
    print(json.dumps({"seconds": seconds, "loss": loss}))


def compare(arguments: argparse.Namespace) -> None:
    """A line for each of them."""
    from examples.cells import synthetic

    counts, _ = synthetic(arguments.cells, arguments.genes)
    print(f"{counts.eq(0).double().mean():.0%} zeros, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "counts.npy"
        np.save(file, counts.int().numpy())
        for who in WHO:
            python = sys.executable if who == "vae_fast" else arguments.scvi
            command = [python, __file__, "--who", who, "--counts", file]
            command += ["--epochs", str(arguments.epochs), "--threads", str(arguments.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{who}: {done.stderr[-2000:]}")
            found = json.loads(done.stdout.splitlines()[-1])
            seconds = found["seconds"][1:]  # the first one warms up
            median, fastest = (arguments.cells / f(seconds) for f in (statistics.median, min))
            print(
                f"{who}: {median:,.0f} cells a second, {fastest:,.0f} in the fastest epoch; after "
                f"{arguments.epochs} epochs {found['loss']:.1f} nats per cell",
                flush=True,
            )


def main() -> None:
    """As the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scvi", help="a Python that has scvi-tools")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--who", choices=WHO, help="in a process of its own")
    parser.add_argument("--counts", type=Path, help="what that reads")
    arguments = parser.parse_args()
    if arguments.who is not None:
        measure(arguments.who, arguments.counts, arguments.epochs, arguments.threads)
    elif arguments.scvi is None:
        parser.error("--scvi: which Python has scvi-tools?")
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
