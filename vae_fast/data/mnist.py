"""MNIST (LeCun, Cortes, Burges): four files in the IDX format, gzipped or not."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_fast.data.layout import Data, DataError, as_labels, as_tensor
from vae_fast.data.reading import reading

if TYPE_CHECKING:
    from vae_fast.data.layout import Array

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT = 20  # seconds without an answer
_LARGEST = 16 + 60_000 * 28 * 28  # bytes of train-images-idx3-ubyte

# File: the md5 sums of what is in it and of it as the mirrors pack it.
_SUMS = {
    "train-images-idx3-ubyte": (
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte": (
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte": (
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte": (
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}


def load_mnist(data_dir: str | Path | None = None) -> Data:
    """The 60,000 and 10,000 digits, (N, 1, 28, 28) uint8, with their labels.

    They are looked for in `data_dir`, else in VAE_FAST_DATA, else in the user's cache (and in a
    folder `mnist` there), and downloaded to that place if they are nowhere in it. Every file's
    md5 sum is checked.

    Raises:
        DataError: a file is damaged, or is neither there nor to be had.
    """
    folder = Path(data_dir or os.environ.get("VAE_FAST_DATA") or _cache()).expanduser()
    arrays = [parse_idx(_verified(_find(folder, name), name), name) for name in _SUMS]
    train, train_labels, test, test_labels = arrays
    return Data(
        "MNIST",
        as_tensor(train, "MNIST"),
        as_tensor(test, "MNIST"),
        as_labels(train_labels, len(train), "MNIST's labels"),
        as_labels(test_labels, len(test), "MNIST's labels"),
    )


def parse_idx(content: bytes, name: str) -> Array:
    """An IDX file of unsigned bytes as an array.

    Bytes 0 and 1 are zero, byte 2 is the type (8 for uint8), byte 3 the number of dimensions; their
    sizes follow as big-endian uint32, then the values.

    Raises:
        DataError: it is not that.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if len(shape) != content[3] or len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{name} is cut short: its header promises the shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _cache() -> Path:
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("vae_fast")) / "mnist"


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "mnist"):
        for path in (place / name, place / f"{name}.gz"):
            if path.exists():
                return path
    return _download(folder, name)


def _download(folder: Path, name: str) -> Path:
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")
    reason: Exception | None = None
    for mirror in _MIRRORS:
        try:
            path: str = pooch.retrieve(
                f"{mirror}{name}.gz",
                known_hash=f"md5:{_SUMS[name][1]}",
                fname=f"{name}.gz",
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
            )
            return Path(path)
        except (RequestException, OSError, ValueError) as error:
            reason = error
    raise DataError(
        f"MNIST is not in {folder} and could not be downloaded ({_short(reason)}): put "
        f"{', '.join(f'{file}.gz' for file in _SUMS)} into a folder, and name it with --data-dir "
        "or VAE_FAST_DATA"
    ) from reason


def _short(error: Any) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


def _verified(path: Path, name: str) -> bytes:
    with reading(path, "MNIST's IDX"), path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # Never more than the largest of the four: what is longer is not MNIST's, whatever it is.
        with gzip.GzipFile(fileobj=file) if packed else file as plain:
            content = plain.read(_LARGEST + 1)
    # A checksum against damage, not against an attacker.
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _SUMS[name][0]:
        raise DataError(f"{path} is damaged, or is not MNIST's (its md5 sum is wrong): delete it")
    return content
