"""Arrays in numpy's own files. Nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vae_fast.data.layout import Data, DataError, as_labels, as_tensor, hold_out

if TYPE_CHECKING:
    from vae_fast.data.layout import Array

# The names that a .npz may use, in the order in which they are looked for.
_TRAIN = ("train", "x_train", "train_images", "images", "data", "x")
_TEST = ("test", "x_test", "test_images")
_TRAIN_LABELS = ("train_labels", "y_train", "labels", "target", "y")
_TEST_LABELS = ("test_labels", "y_test")


def load_array(path: Path, test_fraction: float) -> Data:
    """Data from FILE.npy (one array) or FILE.npz (train and, if there, test and labels).

    Raises:
        DataError: the file is missing, damaged, holds Python objects, or has no array to train on.
    """
    arrays = _read(path)
    train = _first(arrays, _TRAIN)
    if train is None and len(arrays) == 1:
        train = next(iter(arrays.values()))
    if train is None:
        raise DataError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected an array called "
            f"{' or '.join(_TRAIN)}"
        )
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


def _read(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"data": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as numpy's {path.suffix}: {error}") from error


def _first(arrays: dict[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _labels(
    arrays: dict[str, Array], names: tuple[str, ...], count: int, path: Path
) -> Tensor | None:
    labels = _first(arrays, names)
    return None if labels is None else as_labels(labels, count, f"the labels of {path}")
