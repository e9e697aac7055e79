"""A run and the data that it has not seen: what the commands on runs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch
from torch import Tensor

from vae_fast.cli.grouped import SEED, Device
from vae_fast.cli.train import load_again, scaling_of
from vae_fast.data import Data, DataError, load
from vae_fast.data.reading import first_line
from vae_fast.data.sparse import rows
from vae_fast.engine.likelihood import are_whole
from vae_fast.models import VAE
from vae_fast.training import Run, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RUN = click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
DATA = click.option("--data", metavar="SOURCE", help="Other data than the run's own test set.")
DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where MNIST's four files are."
)
DEVICE = click.option(
    "--device", type=Device(), default="auto", show_default=True, help="Where to compute."
)
SEED_OPTION = click.option("--seed", type=SEED, default=0, show_default=True)
OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Where the files go.  [default: RUN]",
)  # fmt: skip
# What other data than a run's own are read as its own were, too.
_READ_AS = ("image_size", "max_bytes", "batch_key")


def held_out(run: Run, source: str | None, data_dir: Path | None) -> Data:
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


def target(out: Path | None, default: Path, shape: tuple[int, ...]) -> Path:
    """Where a picture or an array goes."""
    from vae_fast.plots import picture_shape

    out = out or default
    if out.suffix not in (".png", ".npy"):
        raise click.BadParameter(f"{out} is neither .png nor .npy", param_hint="--out")
    if out.suffix == ".png" and picture_shape(shape) is None:
        raise RunError(f"data of the shape {shape} are no pictures: give --out FILE.npy")
    return out


def save_array(path: Path, values: Tensor, run: Run) -> None:
    """In the units of the run's data."""
    import numpy as np

    np.save(path, in_units(values, run).numpy())


def require_vae(run: Run, what: str) -> VAE:
    """The run's model, where its codes are normal and their prior is N(0, I)."""
    if not isinstance(run.model, VAE):
        lacks = "has no such codes as a VAE: normal ones with the prior N(0, I)"
        raise click.UsageError(f"{run.model.kind} {lacks}, which {what} needs")
    return run.model


def require_no_conditions(run: Run, what: str) -> None:
    """Of codes alone such a model makes nothing."""
    if run.model.conditions:
        raise click.UsageError(f"{what} is not for models of data under conditions")


def read_array(path: Path) -> NDArray[np.generic]:
    """An array of numbers or truth values from a .npy file.

    Raises:
        DataError: it is not that.
    """
    import numpy as np

    try:
        array = np.load(path)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is no .npy file: {first_line(error)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(f"{path} holds no array of numbers")
    loaded: NDArray[np.generic] = array
    return loaded


def first_rows(x: Tensor, count: int | None, run: Run) -> Tensor:
    """The first data, dense, on the run's device; None: all of them."""
    count = len(x) if count is None else min(count, len(x))
    chosen = rows(x, torch.arange(count, device="cpu"))
    return chosen.to(next(run.model.parameters()).device)


def in_units(values: Tensor, run: Run) -> Tensor:
    """In those of the run's data, on the CPU."""
    scaling = scaling_of(run.folder, run.info)
    return (values if scaling is None else scaling.undo(values)).cpu()
