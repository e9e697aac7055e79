"""Tables of counts of which most are zero: held in CSR, and dense some rows at a time."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vae_fast.data.layout import Data, DataError, as_labels, as_values, divided, require_usable
from vae_fast.data.reading import reading, require_size

if TYPE_CHECKING:
    from vae_fast.data.rows import Rows

# The entries of a file of scipy.sparse.save_npz that are read.
ENTRIES = ("shape", "format", "data", "indices", "indptr")


def rows(x: Tensor, index: Tensor, *, in_csr: bool = False) -> Tensor:
    """Some rows of a tensor, on its device.

    Args:
        x: (N, *shape), or (N, D) in `torch.sparse_csr`.
        index: (B,) int64.
        in_csr: of x in CSR, rows in CSR; else dense, whatever x is.
    """
    if x.layout is not torch.sparse_csr:
        return x.index_select(0, index)
    first = x.crow_indices()[index]
    counts = x.crow_indices()[index + 1] - first
    row = torch.repeat_interleave(torch.arange(len(index), device=x.device), counts)
    ends = torch.cumsum(counts, 0)
    # Where in CSR a row's values begin, less where they do among those of these rows.
    shift = first - (ends - counts)
    source = torch.arange(len(row), device=x.device) + shift[row]
    columns, values = x.col_indices()[source], x.values()[source]
    if in_csr:
        starts = torch.cat([ends.new_zeros(1), ends]).to(columns.dtype)
        return torch.sparse_csr_tensor(starts, columns, values, (len(index), x.shape[1]))
    dense = x.values().new_zeros(len(index), x.shape[1])
    dense[row, columns.long()] = values
    return dense


def density(x: Tensor) -> float:
    """Of a tensor in CSR, which part of the elements is stored; 1 of a dense one."""
    if x.layout is not torch.sparse_csr or x.numel() == 0:
        return 1.0
    return len(x.values()) / x.numel()


def nbytes(x: Tensor) -> int:
    """What a tensor takes, dense or in CSR."""
    if x.layout is not torch.sparse_csr:
        return x.nbytes
    return x.values().nbytes + x.col_indices().nbytes + x.crow_indices().nbytes


def sparse_counts(
    entries: dict[str, Rows], path: Path, fraction: float | None, counts: bool
) -> Data:
    """Data from the entries of a file of `scipy.sparse.save_npz`.

    Raises:
        DataError: it is in another format than CSR, or no counts, or the fraction leaves nothing
            for one of the two parts.
    """
    _require_asked_for(path, counts)
    kind = entries["format"].array().item()
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind != "csr":
        raise DataError(f"{path} holds a sparse table in {kind!r:.20}; expected CSR: x.tocsr()")
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    shape = tuple(map(int, entries["shape"].array().reshape(-1)))
    values, indices, starts = (entries[name].array() for name in ENTRIES[2:])
    require_usable(shape, values.dtype, str(path), counts=True)
    return _hold_out(path, csr_matrix((values, indices, starts), shape), fraction)


def load_h5ad(
    path: Path,
    fraction: float | None,
    max_bytes: int,
    counts: bool,
    batch_key: str | None = None,
    label_key: str | None = None,
) -> Data:
    """Data from X of an AnnData file, sparse or dense; the rest of the file is not read.

    Args:
        path: the file.
        fraction: to hold out.
        max_bytes: what X may take.
        counts: must be.
        batch_key: a column of obs, whose values are the data's conditions, in sorted order.
        label_key: a column of obs, whose values, numbered in sorted order, are the data's labels.

    Raises:
        DataError: the package anndata is not there, or the file is none of its, or X is no counts,
            or obs has no such column, or not two conditions in it.
    """
    _require_asked_for(path, counts)
    try:
        import h5py
        from anndata.io import read_elem
    except ImportError as error:
        raise DataError(f"{path} needs the package anndata: pip install anndata") from error
    from scipy.sparse import csr_matrix

    with reading(path, "AnnData's .h5ad"), h5py.File(path) as file:
        if "X" not in file:
            raise DataError(f"{path} has no X")
        stored = file["X"]
        parts = [stored] if isinstance(stored, h5py.Dataset) else list(stored.values())
        require_size(sum(part.nbytes for part in parts), max_bytes, path)
        x: Any = read_elem(stored)
        require_usable(tuple(x.shape), x.dtype, f"X of {path}", counts=True)
        matrix, labels = csr_matrix(x), None
        conditions: tuple[str, ...] = ()
        if batch_key is not None:
            values = _column(file["obs"], batch_key, path)
            matrix, conditions = _with_conditions(matrix, values, f"{batch_key!r} of {path}")
        if label_key is not None:
            values = _column(file["obs"], label_key, path)
            labels = as_labels(values, x.shape[0], f"{label_key!r} of {path}")
        return replace(_hold_out(path, matrix, fraction, labels), conditions=conditions)


def _column(obs: Any, key: str, path: Path) -> Any:
    """A column of obs as an array of text, or of whole numbers, with a value for each cell."""
    from anndata.io import read_elem
    from pandas import isna  # type: ignore[import-untyped]

    if key not in obs:
        names = ", ".join(name for name in obs if name != obs.attrs.get("_index"))
        raise DataError(f"obs of {path} has no {key!r}; it has {names or 'nothing'}")
    values = read_elem(obs[key])
    if isna(values).any():
        raise DataError(
            f"{key!r} of {path} has no value for {int(isna(values).sum())} of the cells"
        )
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(str)


def _with_conditions(matrix: Any, values: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """One column more, the number of each one's value among all that there are; and these."""
    from scipy.sparse import csr_matrix, hstack

    found, numbers = np.unique(values.astype(str), return_inverse=True)
    conditions = tuple(found.tolist())
    if len(conditions) < 2:
        raise DataError(f"{name} has one value, {conditions[0]!r:.40}: leave it out")
    dtype = np.promote_types(matrix.dtype, np.min_scalar_type(len(conditions)))
    column = csr_matrix(numbers.astype(dtype)[:, None])
    return hstack((matrix, column), format="csr", dtype=dtype), conditions


def _require_asked_for(path: Path, counts: bool) -> None:
    """Raise `DataError` where data are not to be counts."""
    if not counts:
        raise DataError(
            f"{path} is a table of counts: it needs a likelihood of counts, such as "
            "negative_binomial"
        )


def _hold_out(
    path: Path, matrix: Any, fraction: float | None, labels: Tensor | None = None
) -> Data:
    """What `vae_fast.data.layout.hold_out` does, of a sparse matrix of scipy."""
    matrix.check_format(full_check=True)  # what is behind its shape would be read and written
    matrix.data = as_values(matrix.data, str(path), counts=True)
    matrix.sum_duplicates()
    parts = divided(matrix.shape[0], fraction, path.stem)
    held = (_csr_tensor(matrix[part.numpy()]) for part in parts)
    return Data(path.stem, *held, *(None if labels is None else labels[part] for part in parts))


def _csr_tensor(matrix: Any) -> Tensor:
    """The matrix; an empty one, too, whose arrays numpy gives strides of 0: torch 2.10 wants 1."""
    index = np.result_type(matrix.indptr, matrix.indices)  # of one dtype, torch wants
    starts, columns = (array.astype(index, copy=False) for array in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns).as_strided(columns.shape, (1,)),
            torch.from_numpy(matrix.data),
            matrix.shape,
            check_invariants=True,
        )
