"""Images in a folder; the folders inside it, where there are any, are the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vae_fast.data.layout import DataError, as_labels
from vae_fast.data.reading import reading, require_size
from vae_fast.data.rows import Rows

if TYPE_CHECKING:
    from PIL.Image import Image

    from vae_fast.data.layout import Array

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_GREY_MODES = {"1", "L", "LA", "La"}
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


def load_folder(folder: Path, size: int | None, max_bytes: int) -> tuple[Rows, Tensor | None]:
    """Every image under a folder, in the order of their paths.

    Grey where all are grey, else RGB. With `size`, the middle square of each is scaled to
    size x size; without it they must all have the same size. What is transparent is composed over
    black. Names that begin with a dot, and __MACOSX, are what systems leave behind: they are
    passed over, with all that is in them.

    Returns:
        (N, H, W) or (N, 3, H, W) uint8, decoded when it is read, and (N,) labels by the name of the
        folder that each image lies in, or None where they all lie in one.

    Raises:
        DataError: there are no images, one cannot be read (nor a folder), is animated or has more
            than 8 bits a channel, the sizes differ, or they take more than `max_bytes`.
    """
    paths = _paths(folder)
    if not paths:
        raise DataError(f"there are no images in {folder} ({' '.join(sorted(_SUFFIXES))})")
    shown = [_look(path) for path in paths]
    first = shown[0]
    for path, (width, height, _) in zip(paths, shown, strict=True):
        if size is None and (width, height) != first[:2]:
            raise DataError(
                f"{paths[0]} has {first[0]} x {first[1]} pixels and {path} {width} x {height}: "
                "give the size that all shall have (--image-size)"
            )
    mode = "L" if all(grey for _, _, grey in shown) else "RGB"
    pixels = (first[1], first[0]) if size is None else (size, size)
    shape = (len(paths), *pixels) if mode == "L" else (len(paths), 3, *pixels)

    def chunks() -> Iterator[Array]:
        for path in paths:
            picture = np.asarray(_read(path, size).convert(mode))[None]
            if picture.shape[1:3] != pixels:
                raise DataError(f"{path} has other sizes than its header says")
            yield picture if mode == "L" else np.moveaxis(picture, 3, 1)

    rows = Rows(str(folder), shape, np.dtype(np.uint8), chunks)
    require_size(rows.nbytes, max_bytes, folder)
    names = np.array([str(path.parent.relative_to(folder)) for path in paths])
    labels = as_labels(names, len(names), "labels") if len(set(names)) > 1 else None
    return rows, labels


def _paths(folder: Path) -> list[Path]:
    def unreadable(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        paths = [Path(place, name) for name in files if not _is_hidden(name)]
        found += [path for path in paths if path.suffix.lower() in _SUFFIXES]
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _look(path: Path) -> tuple[int, int, bool]:
    """Width, height and whether it is grey, without decoding it."""
    with _opened(path) as image:
        return image.width, image.height, image.mode in _GREY_MODES


def _read(path: Path, size: int | None) -> Image:
    from PIL import Image, ImageOps

    with _opened(path) as image:
        mode = "L" if image.mode in _GREY_MODES else "RGB"
        if image.mode in _ALPHA_MODES or "transparency" in image.info:
            over = image.convert("RGBA")
            black = Image.new("RGBA", over.size, (0, 0, 0, 255))
            loaded = Image.alpha_composite(black, over).convert(mode)
        else:
            loaded = image.convert(mode)
        return loaded if size is None else ImageOps.fit(loaded, (size, size))


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    from PIL import Image

    with reading(path, "an image"), Image.open(path) as image:
        if image.mode[0] in "IF":
            raise DataError(f"{path} has more than 8 bits a channel: convert it to 8")
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise DataError(f"{path} holds {frames} pictures: save the one that is meant")
        yield image
