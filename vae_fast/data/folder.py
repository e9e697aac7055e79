"""Images in a folder; the folders inside it, where there are any, are the labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vae_fast.data.layout import DataError, as_labels, as_tensor
from vae_fast.data.reading import reading

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_GREY_MODES = {"1", "L", "LA", "La"}
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


def load_folder(folder: Path, size: int | None) -> tuple[Tensor, Tensor | None]:
    """Read every image under a folder, in the order of their paths.

    Grey where all are grey, else RGB. With `size`, the middle square of each is scaled to
    size x size; without it they must all have the same size. What is transparent is composed over
    black. Names that begin with a dot, and __MACOSX, are what systems leave behind: they are
    passed over, with all that is in them.

    Returns:
        (N, C, H, W) uint8, and (N,) labels by the name of the folder that each image lies in, or
        None where they all lie in one.

    Raises:
        DataError: there are no images, one cannot be read (nor a folder), is animated or has more
            than 8 bits a channel, or the sizes differ.
    """
    paths = _paths(folder)
    if not paths:
        raise DataError(f"there are no images in {folder} ({' '.join(sorted(_SUFFIXES))})")
    images = [_read(path, size) for path in paths]
    first = images[0].size
    for path, image in zip(paths, images, strict=True):
        if image.size != first:
            raise DataError(
                f"{paths[0]} has {first[0]} x {first[1]} pixels and {path} {image.width} x "
                f"{image.height}: give the size that all shall have (--image-size)"
            )
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pictures = np.stack([np.asarray(image.convert(mode)) for image in images])
    names = np.array([str(path.parent.relative_to(folder)) for path in paths])
    labels = as_labels(names, len(names), "labels") if len(set(names)) > 1 else None
    return as_tensor(pictures, str(folder)), labels


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


def _read(path: Path, size: int | None) -> Image:
    from PIL import Image, ImageOps

    with reading(path, "an image"), Image.open(path) as image:
        if image.mode[0] in "IF":
            raise DataError(f"{path} has more than 8 bits a channel: convert it to 8")
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise DataError(f"{path} holds {frames} pictures: save the one that is meant")
        # At once, so that 100,000 files are not 100,000 open files; "L" or "RGB" halves memory.
        mode = "L" if image.mode in _GREY_MODES else "RGB"
        if image.mode in _ALPHA_MODES or "transparency" in image.info:
            over = image.convert("RGBA")
            black = Image.new("RGBA", over.size, (0, 0, 0, 255))
            loaded = Image.alpha_composite(black, over).convert(mode)
        else:
            loaded = image.convert(mode)
    return loaded if size is None else ImageOps.fit(loaded, (size, size))
