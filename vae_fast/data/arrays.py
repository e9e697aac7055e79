"""Arrays in numpy's own files. Nothing in them is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vae_fast.data.layout import Data, DataError, as_labels, as_tensor, hold_out
from vae_fast.data.reading import reading, require_size

if TYPE_CHECKING:
    import zipfile

    from vae_fast.data.layout import Array

# The names that a .npz may use, in the order in which they are looked for, in whatever case.
_TRAIN = ("train", "x_train", "train_images", "images", "data", "x", "arr_0")
_TEST = ("test", "x_test", "test_images")
_TRAIN_LABELS = ("train_labels", "y_train", "labels", "target", "y")
_TEST_LABELS = ("test_labels", "y_test")


def load_array(path: Path, test_fraction: float | None, max_bytes: int) -> Data:
    """Data from FILE.npy (one array) or FILE.npz (train and, if there, test and labels).

    Of a .npz only the entries that are needed are read, up to `max_bytes` together.

    Raises:
        DataError: the file is missing, damaged, holds Python objects, or has no array to train on.
    """
    arrays = _read(path, max_bytes)
    train = arrays[next(name for name in _TRAIN if name in arrays)]
    tensor = as_tensor(train, str(path))
    labels = _labels(arrays, _TRAIN_LABELS, len(tensor), path)
    test = _first(arrays, _TEST)
    if test is None:
        return hold_out(path.stem, tensor, labels, test_fraction)
    test_tensor = as_tensor(test, f"the test array of {path}")
    if test_tensor.shape[1:] != tensor.shape[1:] or test_tensor.dtype != tensor.dtype:
        raise DataError(
            f"{path} trains on {tuple(tensor.shape[1:])} {tensor.dtype} and tests on "
            f"{tuple(test_tensor.shape[1:])} {test_tensor.dtype}; expected the same"
        )
    test_labels = _labels(arrays, _TEST_LABELS, len(test_tensor), path)
    return Data(path.stem, tensor, test_tensor, labels, test_labels)


def _read(path: Path, max_bytes: int) -> dict[str, Array]:
    """The arrays that are of use, by the names in the tuples above."""
    with reading(path, f"numpy's {path.suffix}"):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"data": loaded}
        with loaded:
            entries = {name.lower(): name for name in loaded.files}
            if len(entries) == 1:
                entries = {"data": loaded.files[0]}
            groups = (_TRAIN, _TEST, _TRAIN_LABELS, _TEST_LABELS)
            chosen = [next((name for name in group if name in entries), None) for group in groups]
            if chosen[0] is None:
                raise DataError(
                    f"{path} holds {', '.join(sorted(loaded.files)) or 'nothing'}; expected an "
                    f"array called {' or '.join(_TRAIN)}"
                )
            needed = {name: entries[name] for name in chosen if name is not None}
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in _infos(loaded)}
            require_size(sum(sizes[entry] for entry in needed.values()), max_bytes, path)
            arrays = {name: loaded[entry] for name, entry in needed.items()}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands out the bytes of what is none
            raise DataError(f"the entry {needed[name]} of {path} is not an array")
    return arrays


def _infos(loaded: np.lib.npyio.NpzFile) -> list[zipfile.ZipInfo]:
    return loaded.zip.infolist() if loaded.zip is not None else []


def _first(arrays: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _labels(
    arrays: dict[str, Array], names: tuple[str, ...], count: int, path: Path
) -> Tensor | None:
    labels = _first(arrays, names)
    return None if labels is None else as_labels(labels, count, f"the labels of {path}")
