"""All the pictures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_fast.data import Data
from vae_fast.data.sparse import rows
from vae_fast.models import VAE, AutoEncoder, LatentModel
from vae_fast.plots.curves import plot_curves
from vae_fast.plots.figure import picture_shape
from vae_fast.plots.latent import Manifold, manifold_codes, plot_latent
from vae_fast.plots.pictures import plot_reconstructions, plot_samples
from vae_fast.training import EpochMetrics

_ROW = 14  # pictures in a row of reconstructions
_SIDE = 10  # pictures a side of the samples' square
_EMBEDDED = 1000  # at most this many codes are drawn: t-SNE takes its time


@dataclass(frozen=True)
class TrainedRun:
    """A model as it was trained, and how that went."""

    model: LatentModel
    history: Sequence[EpochMetrics]

    @property
    def name(self) -> str:
        """What to call the model in a picture."""
        return self.model.title


@torch.no_grad()
def plot_run(out: Path, runs: Sequence[TrainedRun], data: Data) -> list[Path]:
    """Draw curves, reconstructions, samples and codes of runs beside each other.

    Args:
        out: the folder for curves.png, reconstructions.png, samples.png and latent.png.
        runs: trained on the same data; the first is the one that it is about.
        data: what they were trained on.

    Returns:
        The files written: the two middle ones only where the data can be seen as pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "curves.png"]
    histories = {run.name: run.history for run in runs}
    plot_curves(written[0], histories, f"Training on {data.name}")
    shape = picture_shape(data.shape)
    if shape is not None:
        written += [out / "reconstructions.png", out / "samples.png"]
        draw_reconstructions(written[1], [run.model for run in runs], data, _ROW)
        draw_samples(written[2], [run.model for run in runs], data.shape, _SIDE**2, _SIDE)
    written.append(out / "latent.png")
    _draw_latent(written[-1], [run.model for run in runs], data)
    return written


def draw_reconstructions(path: Path, models: Sequence[LatentModel], data: Data, count: int) -> None:
    """Draw held-out pictures, and below them what each model makes of them."""
    shape = picture_shape(data.shape)
    assert shape is not None
    chosen = one_of_each(data.test_labels, len(data.test), count)
    x = rows(data.test, chosen).to(_device(models[0]))
    shown = {"Data": models[0].measured(models[0].prepare(x))}
    shown |= {model.title: model.reconstruct(x) for model in models}
    white = float(shown["Data"].max())
    shown = {name: intensities(models[0], values, white) for name, values in shown.items()}
    plot_reconstructions(
        path, shown, shape, f"Held-out {data.name}, passed through the code and back"
    )


def draw_samples(
    path: Path,
    models: Sequence[LatentModel],
    data_shape: Sequence[int],
    count: int,
    columns: int,
    seed: int = 0,
) -> None:
    """Draw what each model makes of the same random codes."""
    shape = picture_shape(data_shape)
    assert shape is not None
    samples = {
        _sample_title(model): intensities(
            model, model.sample(count, generator=torch.Generator().manual_seed(seed))
        )
        for model in models
    }
    title = "Random codes $z \\sim p(z)$, decoded"
    plot_samples(path, samples, shape, columns, title)


def _sample_title(model: LatentModel) -> str:
    untaught = "" if model.has_prior else "nothing taught it these codes"
    return f"{model.title}: {untaught or 'new pictures'}"


def _draw_latent(path: Path, models: Sequence[LatentModel], data: Data) -> None:
    x = rows(data.test, torch.arange(min(_EMBEDDED, len(data.test)), device="cpu"))
    labels = None if data.test_labels is None else data.test_labels[:_EMBEDDED]
    codes = {
        model.title: (
            model.embed(x.to(_device(model))),
            model.draw_codes(len(x), torch.Generator().manual_seed(0)),
        )
        for model in models
    }
    first = models[0]
    shape = picture_shape(data.shape)
    manifold = None
    is_normal = isinstance(first, VAE) or type(first) is AutoEncoder
    if is_normal and shape is not None and first.latent_shape == (2,) and not first.conditions:
        pictures = first.mean(first.decode(manifold_codes().to(_device(first))))
        manifold = Manifold(intensities(first, pictures), shape)
    plot_latent(path, codes, labels, manifold, f"Codes of held-out {data.name}, and of the prior")


def intensities(model: LatentModel, pictures: Tensor, white: float | None = None) -> Tensor:
    """Pictures as they are, but of counts divided by `white`, or else by the largest in them.

    Of classes by the largest that there may be.
    """
    if model.likelihood.num_classes is not None:
        return pictures / (model.likelihood.num_classes - 1)
    if model.likelihood.data != "counts":
        return pictures
    return pictures / max(float(pictures.max()) if white is None else white, 1e-30)


def one_of_each(labels: Tensor | None, total: int, count: int) -> Tensor:
    """Indices of `count` data, the labels in turn where there are any."""
    if labels is None:
        return torch.arange(min(count, total), device="cpu")
    by_label = [(labels == label).nonzero()[:, 0] for label in torch.unique(labels)]
    turns = max(map(len, by_label))
    order = [own[turn] for turn in range(turns) for own in by_label if turn < len(own)]
    return torch.stack(order[:count])


def _device(model: LatentModel) -> torch.device:
    return next(model.parameters()).device
