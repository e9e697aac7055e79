"""A run of a few kilobytes, whose files are then damaged."""

import shutil
from pathlib import Path

import numpy as np

from tests.attack.judge import command

FILES = ("config.json", "checkpoint.safetensors", "model.safetensors", "metrics.jsonl")
SIZES = ("--hidden", 4, "--latent", 2, "--no-plots", "--device", "cpu")


def data(folder: Path) -> Path:
    """40 pictures of 4 x 4 in FOLDER/x.npy."""
    path = folder / "x.npy"
    np.save(path, np.random.default_rng(0).random((40, 4, 4), np.float32))
    return path


def make(folder: Path, *settings: object, epochs: int = 2) -> Path:
    """The run, in FOLDER/base."""
    base = folder / "base"
    if not base.exists():
        told = ("--epochs", epochs, "--patience", 5, "--likelihood", "gaussian", *settings)
        ended = command("train", "--data", data(folder), "--out", base, *SIZES, *told)
        assert ended.code == 0, ended
    return base


def copy(base: Path) -> Path:
    """A copy to damage, in the place of the one before."""
    work = base.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    return work
