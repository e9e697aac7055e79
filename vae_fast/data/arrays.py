"""Arrays in numpy's own files. Nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from vae_fast.data.layout import Data, DataError, as_labels
from vae_fast.data.reading import reading, require_size
from vae_fast.data.rows import Rows, hold_out_rows, npy_rows
from vae_fast.data.sparse import ENTRIES, sparse_counts

# The names that a .npz may use, in the order in which they are looked for, in whatever case.
_TRAIN = ("train", "x_train", "train_images", "images", "data", "x", "arr_0")
_TEST = ("test", "x_test", "test_images")
_TRAIN_LABELS = ("train_labels", "y_train", "labels", "target", "y")
_TEST_LABELS = ("test_labels", "y_test")


def load_array(
    path: Path, test_fraction: float | None, max_bytes: int, *, counts: bool = False
) -> Data:
    """Data from FILE.npy (one array) or FILE.npz (train and, if there, test and labels).

    Of a .npz only the entries that are needed are read, up to `max_bytes` together. One that
    `scipy.sparse.save_npz` has written is a table of counts, which stays sparse.

    Raises:
        DataError: the file is missing, damaged, holds Python objects, or has no array to train on.
    """
    with reading(path, f"numpy's {path.suffix}"), ExitStack() as stack:
        arrays = _open(path, stack)
        require_size(sum(rows.nbytes for rows in arrays.values()), max_bytes, path)
        if "format" in arrays:
            return sparse_counts(arrays, path, test_fraction, counts)
        train = _first(arrays, _TRAIN)
        assert train is not None
        labels = _labels(arrays, _TRAIN_LABELS, train, path)
        test = _first(arrays, _TEST)
        if test is None:
            return hold_out_rows(path.stem, train, labels, test_fraction, counts=counts)
        (tensor,) = train.tensors(torch.arange(train.shape[0]), counts=counts)
        (test_tensor,) = test.tensors(torch.arange(test.shape[0]), counts=counts)
        if test_tensor.shape[1:] != tensor.shape[1:] or test_tensor.dtype != tensor.dtype:
            raise DataError(
                f"{path} trains on {tuple(tensor.shape[1:])} {tensor.dtype} and tests on "
                f"{tuple(test_tensor.shape[1:])} {test_tensor.dtype}; expected the same"
            )
        test_labels = _labels(arrays, _TEST_LABELS, test, path)
        return Data(path.stem, tensor, test_tensor, labels, test_labels)


def _open(path: Path, stack: ExitStack) -> dict[str, Rows]:
    """The arrays that are of use, by the names in the tuples above."""
    if not zipfile.is_zipfile(path):
        return {"data": npy_rows(stack.enter_context(path.open("rb")), str(path))}
    archive = stack.enter_context(zipfile.ZipFile(path))
    names = archive.namelist()
    entries = {name.removesuffix(".npy").lower(): name for name in names}
    if len(entries) == 1:
        entries = {"data": names[0]}
    is_sparse = {"shape", "format"} <= set(entries)
    groups = (
        tuple((name,) for name in ENTRIES)
        if is_sparse
        else (_TRAIN, _TEST, _TRAIN_LABELS, _TEST_LABELS)
    )
    chosen = [next((name for name in group if name in entries), None) for group in groups]
    if chosen[0] is None:
        found = ", ".join(sorted(name.removesuffix(".npy") for name in names)) or "nothing"
        raise DataError(f"{path} holds {found}; expected an array called {' or '.join(_TRAIN)}")
    return {
        name: npy_rows(
            cast(zipfile.ZipExtFile, stack.enter_context(archive.open(entries[name]))),
            f"the test array of {path}" if group is _TEST else str(path),
        )
        for group, name in zip(groups, chosen, strict=True)
        if name is not None
    }


def _first(arrays: dict[str, Rows], names: tuple[str, ...]) -> Rows | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _labels(
    arrays: dict[str, Rows], names: tuple[str, ...], data: Rows, path: Path
) -> Tensor | None:
    labels = _first(arrays, names)
    if labels is None:
        return None
    return as_labels(labels.array(), data.shape[0], f"the labels of {path}")
