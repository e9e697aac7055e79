"""Damaged and hostile files of a run, and each command that reads them."""

import copy
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.attack import small_run
from tests.attack.judge import Case, command, inside
from vae_fast.training.files import read_tensors, tensors_bytes

CONFIG, CHECKPOINT, MODEL, METRICS = small_run.FILES
_VALUES = (
    None, "x", -1, 0, 2.5, True, [], {}, [1, 2], {"a": 1}, 10**30, math.nan, math.inf, [[]] * 3,
    "~nobody/x.npy", "a\0b", 2**40,
)  # fmt: skip

_COMMANDS: dict[str, tuple[object, ...]] = {
    "evaluate": ("evaluate", "RUN", "--json"),
    "resume": ("train", "--resume", "--out", "RUN", "--epochs", 3, "--no-plots"),
    "sample": ("sample", "RUN", "-n", 2, "--out", "s.npy"),
    "reconstruct": ("reconstruct", "RUN", "-n", 2, "--out", "r.npy"),
}
_READERS = {
    CONFIG: ("evaluate", "resume", "sample"),
    CHECKPOINT: ("resume",),
    MODEL: ("evaluate", "sample"),
    METRICS: ("evaluate", "reconstruct"),
}


def cases(folder: Path) -> Iterator[Case]:
    """All of them, in an order that is always the same."""
    base = small_run.make(folder)
    for name, change in _changes(base):
        for reader in _READERS[name.split(" ")[0]]:
            yield Case(f"{name}, {reader}", partial(_attack, base, change, reader))


def _attack(base: Path, change: Callable[[Path], None], reader: str) -> str | None:
    work = small_run.copy(base)
    change(work)
    place = (str(work) if word == "RUN" else word for word in _COMMANDS[reader])
    with inside(base.parent):  # where what is drawn goes
        ended = command(*place)
    if ended.fault is None and ended.code == 0 and reader == "evaluate":
        figures = json.loads(ended.out)
        if not all(math.isfinite(figures[name]) for name in ("test_loss", "test_nll", "test_kl")):
            return f"the figures are {figures}"
    return ended.fault


def _changes(base: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    for name in small_run.FILES:
        content = (base / name).read_bytes()
        for what, new in _contents(content, base):
            yield f"{name} {what}", partial(_write, name, new)
        yield f"{name} deleted", partial(_replace, name, lambda path: None)
        yield f"{name} is a folder", partial(_replace, name, lambda path: path.mkdir())
        yield f"{name} is a pipe", partial(_replace, name, os.mkfifo)
        yield (
            f"{name} leads nowhere",
            partial(_replace, name, lambda path: path.symlink_to("nowhere")),
        )
        yield f"{name} is a loop", partial(_replace, name, lambda path: path.symlink_to(path.name))
    for name in (".vae_fast.written", ".vae_fast.writing"):
        for what, make in _in_place_of_a_folder(base).items():
            yield f"{CONFIG} beside {name} {what}", partial(_make, name, make)
    config = json.loads((base / CONFIG).read_text())
    for what, value in _values(config):
        yield f"{CONFIG} {what}", partial(_write, CONFIG, json.dumps(value).encode())
    line = json.loads((base / METRICS).read_text().splitlines()[0])
    for what, value in _values(line):
        yield f"{METRICS} {what}", partial(_write, METRICS, f"{json.dumps(value)}\n".encode())
    tensors, header = read_tensors(base / CHECKPOINT)
    for what, value in _values(header):
        yield f"{CHECKPOINT} header {what}", partial(_write_tensors, CHECKPOINT, tensors, value)
    for what, value in _tensors(tensors):
        yield f"{CHECKPOINT} {what}", partial(_write_tensors, CHECKPOINT, value, header)
    tensors, _ = read_tensors(base / MODEL)
    for what, value in _tensors(tensors):
        yield f"{MODEL} {what}", partial(_write_tensors, MODEL, value, None)


def _in_place_of_a_folder(base: Path) -> dict[str, Callable[[Path], object]]:
    """Of one that holds what a killed process has written."""
    return {
        "as a file": lambda path: path.write_bytes(b"x"),
        "as a pipe": os.mkfifo,
        "that leads elsewhere": lambda path: path.symlink_to(base),
        "that leads nowhere": lambda path: path.symlink_to("nowhere"),
        "with a folder": lambda path: (path / CONFIG).mkdir(parents=True),
    }


def _contents(content: bytes, base: Path) -> Iterator[tuple[str, bytes]]:
    """Of any file."""
    size = len(content)
    for kept in (0, 1, 7, 8, 9, 100, size // 2, size - 1):
        yield f"cut to {kept}", content[:kept]
    yield "with more behind it", content + b"\0" * 9
    yield "of zeros", bytes(size)
    yield "of ones", b"\xff" * size
    yield "of noise", random.Random(0).randbytes(size)
    yield "with a mark of UTF-16", b"\xff\xfe" + content
    for length in (2**63, 2**64 - 1, 99_000_000):
        yield f"with a header of {length}", length.to_bytes(8, "little") + content[8:]
    for text in ("[]", "null", "5", '"x"', "{}", "[" * 100_000, '{"a":' * 100_000, "9" * 5000):
        yield f"is {text[:9]}", f"{text}\n".encode()
        header = f'{{"__metadata__": {text}}}'.encode()
        yield f"has metadata {text[:9]}", len(header).to_bytes(8, "little") + header
    for name in small_run.FILES:
        yield f"is {name}", (base / name).read_bytes()


def _values(whole: Any) -> Iterator[tuple[str, Any]]:
    """A JSON value without one of its entries, or with another value in the place of one."""
    for path in _paths(whole):
        for value in ("missing", *_VALUES):
            changed = copy.deepcopy(whole)
            place = changed
            for step in path[:-1]:
                place = place[step]
            if value == "missing":
                del place[path[-1]]
            else:
                place[path[-1]] = value
            yield f"{'.'.join(map(str, path))} {value!r:.20}", changed


def _paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 1)):
            yield (key,)
            for path in _paths(value[key]):
                yield (key, *path)


def _tensors(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    for name, tensor in tensors.items():
        others = {
            "missing": None,
            "empty": torch.zeros(0),
            "one number": torch.zeros(1),
            "without dimensions": torch.zeros(()),
            "three numbers": torch.zeros(3),
            "larger": torch.zeros(2 * tensor.numel() + 1),
            "flat": tensor.reshape(-1)[None],
            "float64": tensor.double(),
            "bfloat16": tensor.bfloat16(),
            "bool": tensor.bool(),
            "int64": tensor.long(),
            "complex": tensor.to(torch.complex64),
        }
        for what, other in others.items():
            rest = {key: value for key, value in tensors.items() if key != name}
            yield f"{name} {what}", rest if other is None else rest | {name: other}
    for name in ("loader", "sampler", "best", "best.x", "optimizer.99.step", "optimizer.x.y", "x"):
        for value in (torch.zeros(0), torch.zeros(5056, dtype=torch.uint8)):
            yield f"{name} of {value.numel()} as well", tensors | {name: value}


def _write(name: str, content: bytes, run: Path) -> None:
    (run / name).write_bytes(content)


def _make(name: str, make: Callable[[Path], object], run: Path) -> None:
    make(run / name)


def _replace(name: str, make: Callable[[Path], object], run: Path) -> None:
    (run / name).unlink()
    make(run / name)


def _write_tensors(name: str, tensors: dict[str, torch.Tensor], header: Any, run: Path) -> None:
    (run / name).write_bytes(tensors_bytes(tensors, header))
