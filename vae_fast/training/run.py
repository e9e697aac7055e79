"""A run that is over, or stands still: its model, its data's description, its metrics."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vae_fast.models import LatentModel
from vae_fast.training.config import TrainerConfig
from vae_fast.training.files import (
    RunError,
    is_settled,
    parsing,
    read_json,
    read_lines,
    read_tensors,
    remove_unwritten,
    settle,
)
from vae_fast.training.metrics import EpochMetrics
from vae_fast.training.stored import entry, model_of

CONFIG, CHECKPOINT, MODEL, METRICS = (
    "config.json",
    "checkpoint.safetensors",
    "model.safetensors",
    "metrics.jsonl",
)
FILES = (CONFIG, CHECKPOINT, MODEL, METRICS)


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: where.
        model: with the run's weights, on the device asked for.
        trainer: the settings that it was trained with.
        info: what else is in config.json, such as where the data came from.
        history: the metrics of its epochs.
    """

    folder: Path
    model: LatentModel
    trainer: TrainerConfig
    info: dict[str, Any]
    history: list[EpochMetrics]


def load_run(folder: str | Path, device: torch.device | str = "cpu") -> Run:
    """Read a run that `Trainer` has written, of a model of this package.

    Raises:
        RunError: it is not there, is damaged, or is of a model from elsewhere.
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors, _ = read_tensors(folder / MODEL)
    with parsing(folder / CONFIG):
        described = entry(config, "model", dict, type(None))
        if described is None:
            raise RunError(f"the model of {folder} is not of this package: build it yourself")
        model = model_of(described, tensors)
        settings = TrainerConfig.from_dict(entry(config, "trainer", dict))
    with parsing(folder / METRICS):
        history = [EpochMetrics.from_dict(line) for line in read_lines(folder / METRICS)]
    info = {k: v for k, v in config.items() if k not in ("model", "trainer")}
    return Run(folder, model.to(device).eval(), settings, info, history)


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json, which is read before its other files.

    Raises:
        RunError: it is not there, or is not an object.
        OSError: a process was killed while it wrote the run, and the rest cannot be done.
    """
    _settle_if_abandoned(folder)
    if not (folder / CONFIG).is_file():
        raise RunError(f"there is no run in {folder} (it has no {CONFIG})")
    return read_json(folder / CONFIG)


def require_free(folder: Path, *, overwrite: bool = False) -> None:
    """Whether a new run may write its files there.

    Args:
        folder: need not exist.
        overwrite: over another run of this package, but not over anybody else's files.

    Raises:
        RunError: it may not.
    """
    _settle_if_abandoned(folder)
    there = [name for name in FILES if (folder / name).exists()]
    if not there:
        return
    if not is_run(folder):
        raise RunError(
            f"{folder} holds {there[0]}, which is not of a run of vae_fast: choose another folder"
        )
    if not overwrite:
        raise RunError(f"{folder} holds a run already: resume it, or choose another folder")


def is_run(folder: Path) -> bool:
    """Whether its config.json is of this package's trainer."""
    try:
        config = read_config(folder)
    except RunError:
        return False
    return {"vae_fast", "trainer"} <= config.keys()


class _OwnedError(RunError):
    """Another process trains in the folder."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Within it no other process trains in the folder; what a killed one left is settled.

    Raises:
        RunError: another process owns it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _OwnedError(f"another process is training in {folder}") from error
        settle(folder)
        remove_unwritten(folder)
        yield
    finally:
        os.close(descriptor)


def _settle_if_abandoned(folder: Path) -> None:
    """What a killed process has written gets its place; one that lives does that itself."""
    if not is_settled(folder):
        with suppress(_OwnedError), owned(folder):
            pass
