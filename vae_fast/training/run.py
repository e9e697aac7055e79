"""A run that is over, or stands still: its model, its data's description, its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vae_fast.models import LatentModel, build
from vae_fast.training.config import TrainerConfig
from vae_fast.training.files import RunError, read_json, read_lines, read_tensors
from vae_fast.training.metrics import EpochMetrics

CONFIG, CHECKPOINT, MODEL, METRICS = (
    "config.json",
    "checkpoint.safetensors",
    "model.safetensors",
    "metrics.jsonl",
)


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
    if not (folder / CONFIG).is_file():
        raise RunError(f"there is no run in {folder} (it has no {CONFIG})")
    config = read_json(folder / CONFIG)
    tensors, _ = read_tensors(folder / MODEL)
    try:
        if config["model"] is None:
            raise RunError(f"the model of {folder} is not of this package: build it yourself")
        model = build(config["model"])
        model.load_state_dict(tensors)
        settings = TrainerConfig.from_dict(config["trainer"])
        history = [EpochMetrics.from_dict(line) for line in read_lines(folder / METRICS)]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"the files in {folder} do not belong together: {error}") from error
    info = {k: v for k, v in config.items() if k not in ("model", "trainer")}
    return Run(folder, model.to(device).eval(), settings, info, history)


def clear_run(folder: str | Path) -> None:
    """Delete a run's own files from its folder, and nothing else."""
    for name in (CHECKPOINT, CONFIG, MODEL, METRICS):
        (Path(folder) / name).unlink(missing_ok=True)
