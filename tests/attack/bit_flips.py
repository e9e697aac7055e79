"""Single bits flipped: in the files of tensors of a run, and in images of every format."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.attack import small_run
from tests.attack.judge import Case, refused_or
from vae_fast.data import load
from vae_fast.training import Trainer, load_run

_IMAGES = {
    "l.png": ("L", {}), "rgb.png": ("RGB", {}), "rgba.png": ("RGBA", {}), "p.png": ("P", {}),
    "la.png": ("LA", {}), "1.png": ("1", {}), "l.jpg": ("L", {}), "rgb.jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True}), "l.bmp": ("L", {}), "rgb.bmp": ("RGB", {}),
    "p.gif": ("P", {}), "l.tif": ("L", {}), "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "rgb.webp": ("RGB", {}), "lossless.webp": ("RGB", {"lossless": True}), "l.pgm": ("L", {}),
    "rgb.ppm": ("RGB", {}),
}  # fmt: skip


def checkpoints(folder: Path, seed: int = 0) -> Iterator[Case]:
    """For ever: a flip in a checkpoint, then one in the weights."""
    base = small_run.make(folder)
    chosen = random.Random(seed)
    resumed, read = Trainer.resume(base), load_run(base)
    state = _flat(resumed.optimizer.state_dict()), resumed.model.state_dict(), resumed.history
    weights = read.model.state_dict()

    def resume(run: Path) -> str | None:
        other = Trainer.resume(run)
        same = _same(other.model.state_dict(), state[1])
        same &= _same(_flat(other.optimizer.state_dict()), state[0])
        same &= other.history == state[2]
        return None if same else "other than what was saved"

    def weigh(run: Path) -> str | None:
        other = load_run(run).model.state_dict()
        return None if _same(other, weights) else "other than what was saved"

    while True:
        for name, reader in (("checkpoint.safetensors", resume), ("model.safetensors", weigh)):
            content = (base / name).read_bytes()
            # Half of them in the header, which is a small part of a large file.
            limit = chosen.choice((8 + int.from_bytes(content[:8], "little"), len(content)))
            bit = chosen.randrange(8 * limit)
            yield Case(f"{name}, bit {bit}", partial(_flip_file, base, name, bit, reader))


def images(folder: Path, seed: int = 0) -> Iterator[Case]:
    """For ever: one to three flips in an image, each format in turn."""
    place = folder / "images"
    place.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 4), np.uint8)
    chosen = random.Random(seed)
    contents = {}
    for name, (mode, settings) in _IMAGES.items():
        Image.fromarray(pixels, "RGBA").convert(mode).save(folder / name, **settings)
        contents[name] = (folder / name).read_bytes()
    while True:
        for name, content in contents.items():
            bits = [chosen.randrange(8 * len(content)) for _ in range(chosen.randint(1, 3))]
            yield Case(f"{name}, bits {bits}", partial(_flip_image, place, name, content, bits))


def _flip_file(base: Path, name: str, bit: int, reader) -> str | None:
    work = small_run.copy(base)
    (work / name).write_bytes(_flipped((base / name).read_bytes(), [bit]))
    return refused_or(lambda: reader(work))


def _flip_image(place: Path, name: str, content: bytes, bits: list[int]) -> str | None:
    # Two of them, so that one can be held out.
    for copy in ("a", "b"):
        (place / f"{copy}-{name}").write_bytes(_flipped(content, bits))

    def read() -> str | None:
        data = load(str(place), max_bytes=2**24)
        is_picture = data.train.dtype == torch.uint8 and data.train.dim() == 4
        return None if is_picture else f"{data.train.shape} {data.train.dtype}"

    fault = refused_or(read)
    for copy in ("a", "b"):
        (place / f"{copy}-{name}").unlink()
    return fault


def _flipped(content: bytes, bits: list[int]) -> bytes:
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _flat(state) -> dict[str, torch.Tensor]:
    return {f"{i}.{k}": v for i, entries in state["state"].items() for k, v in entries.items()}


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
