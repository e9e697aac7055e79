"""Rows of an array, some at a time: data are converted and divided while they are read.

So that loading takes the memory of the data and of little else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vae_fast.data.layout import (
    Data,
    DataError,
    as_came,
    as_held,
    as_values,
    divided,
    held_dtype,
    held_shape,
    require_usable,
    warn_of_ones,
)

if TYPE_CHECKING:
    from vae_fast.data.layout import Array

_CHUNK = 2**20  # bytes read at a time


@dataclass(frozen=True)
class Rows:
    """An array that is still in its files.

    Attributes:
        name: what to call it in messages.
        shape: of all of it.
        dtype: its numpy dtype.
        chunks: some of its rows after the others, each valid until the next; once.
        in_columns: it lies in Fortran's order: a chunk is then of all rows, (N, some columns), the
            first of the other axes the fastest.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    chunks: Callable[[], Iterator[Array]]
    in_columns: bool = False

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> Array:
        """All of it."""
        if self.nbytes == 0:  # its shape may be any, and it has no chunks
            return np.empty(self.shape, self.dtype)
        chunks = [np.array(chunk) for chunk in self.chunks()]
        if self.in_columns:
            return np.concatenate(chunks, axis=1).reshape(self.shape, order="F")
        return np.concatenate(chunks).reshape(self.shape)

    def tensors(self, *parts: Tensor, counts: bool = False) -> list[Tensor]:
        """All rows, as data are held, in tensors.

        Args:
            parts: the indices of each tensor's rows, in its order; each row is in one of them.
            counts: whether the values are.

        Raises:
            DataError: as `as_tensor` raises it.
        """
        require_usable(self.shape, self.dtype, self.name, counts=counts)
        shape = held_shape(self.shape)
        dtype = torch.from_numpy(np.empty(0, held_dtype(self.dtype))).dtype
        tensors = [torch.empty((len(part), *shape[1:]), dtype=dtype) for part in parts]
        (self._fill_by_columns if self.in_columns else self._fill_by_rows)(tensors, parts, counts)
        if self.dtype == np.uint8 and not counts:
            warn_of_ones(tensors, self.name)
        return tensors

    def _fill_by_rows(self, tensors: list[Tensor], parts: tuple[Tensor, ...], counts: bool) -> None:
        # Where a row goes: behind the rows of the parts before its own.
        place = np.empty(self.shape[0], np.int64)
        place[torch.cat(parts).numpy()] = np.arange(self.shape[0])
        first = 0
        for chunk in self.chunks():
            values = as_held(chunk, self.name, counts=counts)
            to = place[first : first + len(chunk)]
            first += len(chunk)
            start = 0
            for tensor in tensors:
                here = (to >= start) & (to < start + len(tensor))
                tensor.numpy()[to[here] - start] = values[here]
                start += len(tensor)

    def _fill_by_columns(
        self, tensors: list[Tensor], parts: tuple[Tensor, ...], counts: bool
    ) -> None:
        first = 0
        for chunk in self.chunks():
            values = as_values(chunk, self.name, counts=counts)
            numbers = np.arange(first, first + chunk.shape[1])
            first += chunk.shape[1]
            columns: tuple[Any, ...] = np.unravel_index(numbers, self.shape[1:], order="F")
            for tensor, part in zip(tensors, parts, strict=True):
                as_came(tensor.numpy(), self.shape)[:, *columns] = values[part.numpy()]


def hold_out_rows(
    name: str,
    rows: Rows,
    labels: Tensor | None,
    fraction: float | None,
    seed: int = 0,
    *,
    counts: bool = False,
) -> Data:
    """What `hold_out` does, of rows that are still in their files.

    Raises:
        DataError: they cannot be used, or the fraction leaves nothing for one of the two parts.
    """
    require_usable(rows.shape, rows.dtype, rows.name, counts=counts)
    train, test = divided(rows.shape[0], fraction, name, seed)
    held = rows.tensors(train, test, counts=counts)
    return Data(name, *held, *(None if labels is None else labels[part] for part in (train, test)))


def npy_rows(stream: BufferedIOBase, name: str) -> Rows:
    """An array in numpy's format, whose values are read from the stream when they are asked for.

    Raises:
        DataError: the header is of no array.
        ValueError: numpy's own.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise DataError(f"{name} is in a format {version} that is not known")
    of_version = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, in_columns, dtype = of_version(stream)
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise DataError(f"{name} has the shape {shape}")
    if dtype.hasobject:
        raise DataError(f"{name} holds Python objects, which are never unpickled")

    in_columns = in_columns and len(shape) > 1
    rows, others = shape[:1] or (1,), shape[1:]
    # The file holds lines behind each other: rows, or columns of one value of each row.
    lines, line = (math.prod(others), rows) if in_columns else (rows[0], others)
    line_bytes = math.prod(line) * dtype.itemsize

    def chunks() -> Iterator[Array]:
        step = max(1, _CHUNK // max(1, line_bytes))
        buffer = memoryview(bytearray(min(lines, step) * line_bytes))
        for first in range(0, lines, step):
            count = min(step, lines - first)
            part = buffer[: count * line_bytes]
            _fill(part, stream, name)
            values = np.frombuffer(part, dtype).reshape(count, *line)
            yield values.T if in_columns else values
        stream.read(1)  # an archive compares its checksum when it comes to the end

    return Rows(name, shape, dtype, chunks, in_columns)


def _fill(buffer: memoryview, stream: BufferedIOBase, name: str) -> None:
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])
        if not count:
            raise DataError(f"{name} is cut short: its header promises more values")
        filled += count
