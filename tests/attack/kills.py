"""Processes killed at random moments while they train, or that find the disk full.

A child is forked, so that it need not import torch: most of its life is training and writing.
"""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.attack import small_run
from tests.attack.judge import Case, command, inside
from vae_fast.training import RunError
from vae_fast.training.run import read_config

EPOCHS = 12
_SETTINGS = {
    "every epoch": ("--schedule", "cosine", "--weight-decay", 1e-3),
    "every fifth epoch": ("--checkpoint-every", 5, "--kl-warmup", 4.5),
    "early stopping": ("--patience", 4, "--checkpoint-every", 2, "--lr", 0.03),
    "wide": ("--hidden", "300", "--clip-norm", 2),
    "convolutions": ("--arch", "conv", "--channels", "8", "--likelihood", "gaussian"),
}


def cases(folder: Path, seed: int = 0, kills: int = 4) -> Iterator[Case]:
    """For ever: a run that is killed so many times before it is let to its end.

    Every second one replaces the undisturbed run of the settings before it.
    """
    chosen = random.Random(seed)
    small_run.data(folder)
    old = None
    for name in itertools.cycle(_SETTINGS):
        moment = chosen.randrange(2**32)
        over = "" if old is None else f", over {old}"
        yield Case(f"{name}{over}, {moment}", partial(_attack, folder, name, old, moment, kills))
        old = name if old is None else None


def _attack(folder: Path, name: str, old: str | None, seed: int, kills: int) -> str | None:
    chosen = random.Random(seed)
    out = folder / "killed"
    shutil.rmtree(out, ignore_errors=True)
    whole, seconds = _whole(folder, name)
    if old is not None:
        _whole(folder, old)
        shutil.copytree(folder / f"whole {old}", out)
    before = _files(out)
    faults = []
    for _ in range(kills):
        limit = chosen.randrange(20_000) if chosen.random() < 0.3 else None
        wait = None if limit is not None else chosen.uniform(0, seconds)
        faults.append(_child(folder, _go_on(folder, out, name, before), wait, limit))
    faults.append(_child(folder, _go_on(folder, out, name, before), None, None))
    faults = [fault for fault in faults if fault is not None]
    if faults:
        return "; ".join(faults)
    if sorted(os.listdir(out)) != sorted(small_run.FILES):
        return f"it left {sorted(os.listdir(out))}"
    return None if _content(out) == whole else "the run is another than the undisturbed one"


def _go_on(folder: Path, out: Path, name: str, before: dict[str, bytes]) -> tuple[object, ...]:
    """What a person types then: the same again where nothing was begun."""
    told = ("--data", folder / "x.npy", "--epochs", EPOCHS, "--batch-size", 8)
    afresh = ("train", "--out", out, "--overwrite", *small_run.SIZES, *told, *_SETTINGS[name])
    resumed = ("train", "--resume", "--out", out, "--no-plots")
    # It begins with all of its files at once: those of another run are there, or none of them.
    return afresh if _files(out) == before else resumed


def _files(out: Path) -> dict[str, bytes]:
    """Of the run that is there, as whoever reads it finds them."""
    with contextlib.suppress(RunError):  # there may be none
        read_config(out)
    there = [out / name for name in small_run.FILES if (out / name).exists()]
    return {path.name: path.read_bytes() for path in there}


def _whole(folder: Path, name: str) -> tuple[dict[str, object], float]:
    """The undisturbed run, and how long it takes."""
    out = folder / f"whole {name}"
    start = time.perf_counter()
    if not out.exists():
        fault = _child(folder, _go_on(folder, out, name, {}), None, None)
        assert fault is None, fault
        (folder / f"seconds {name}").write_text(str(time.perf_counter() - start))
    return _content(out), float((folder / f"seconds {name}").read_text())


def _content(run: Path) -> dict[str, object]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": (run / "model.safetensors").read_bytes(),
        "metrics": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
    }


def _child(
    folder: Path, arguments: tuple[object, ...], wait: float | None, limit: int | None
) -> str | None:
    """A process that is killed after so many seconds, or may write files of so many bytes."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.alarm(120)  # one that hangs is a fault
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            with inside(folder):
                ended = command(*arguments)
            code = 0 if ended.fault is None else 98
            if code and limit is None:
                (folder / "said").write_text(str(ended.fault))
            if ended.fault is None and ended.code and limit is None:
                (folder / "said").write_text(ended.err)
                code = 97
        finally:
            os._exit(code)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 or (code == -signal.SIGKILL and wait is not None):
        return None
    said = folder / "said"
    return f"{arguments[:4]} ended with {code}: {said.read_text() if said.exists() else ''}"
