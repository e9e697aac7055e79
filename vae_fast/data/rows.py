"""Rows of an array, some at a time: data are converted and divided while they are read.

So that loading takes the memory of the data and of little else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_fast.data.layout import (
    Data,
    DataError,
    as_held,
    divided,
    held_shape,
    require_usable,
    warn_of_ones,
)

if TYPE_CHECKING:
    from vae_fast.data.layout import Array

_CHUNK = 2**22  # bytes read at a time


@dataclass(frozen=True)
class Rows:
    """An array that is still in its files.

    Attributes:
        name: what to call it in messages.
        shape: of all of it.
        dtype: its numpy dtype.
        chunks: some of its rows after the others, each valid until the next; once.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    chunks: Callable[[], Iterator[Array]]

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> Array:
        """All of it."""
        return np.concatenate([np.array(chunk) for chunk in self.chunks()]).reshape(self.shape)

    def tensors(self, *parts: Tensor) -> list[Tensor]:
        """All rows, as data are held, in tensors.

        Args:
            parts: the indices of each tensor's rows, in its order; each row is in one of them.

        Raises:
            DataError: as `as_tensor` raises it.
        """
        require_usable(self.shape, self.dtype, self.name)
        shape = held_shape(self.shape)
        dtype = torch.float32 if np.issubdtype(self.dtype, np.floating) else torch.uint8
        tensors = [torch.empty((len(part), *shape[1:]), dtype=dtype) for part in parts]
        # Where a row goes: behind the rows of the parts before its own.
        place = np.empty(self.shape[0], np.int64)
        place[torch.cat(parts).numpy()] = np.arange(self.shape[0])
        first = 0
        for chunk in self.chunks():
            values = as_held(chunk, self.name)
            to = place[first : first + len(chunk)]
            first += len(chunk)
            start = 0
            for tensor in tensors:
                here = (to >= start) & (to < start + len(tensor))
                tensor.numpy()[to[here] - start] = values[here]
                start += len(tensor)
        if self.dtype == np.uint8:
            warn_of_ones(tensors, self.name)
        return tensors


def hold_out_rows(
    name: str, rows: Rows, labels: Tensor | None, fraction: float | None, seed: int = 0
) -> Data:
    """What `hold_out` does, of rows that are still in their files.

    Raises:
        DataError: they cannot be used, or the fraction leaves nothing for one of the two parts.
    """
    require_usable(rows.shape, rows.dtype, rows.name)
    train, test = divided(rows.shape[0], fraction, name, seed)
    held = rows.tensors(train, test)
    return Data(name, *held, *(None if labels is None else labels[part] for part in (train, test)))


def npy_rows(stream: IO[bytes], name: str) -> Rows:
    """An array in numpy's format, whose values are read from the stream when they are asked for.

    Of one that lies in columns (Fortran's order) all are read at once.

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

    def chunks() -> Iterator[Array]:
        rows, row = (shape[0], math.prod(shape[1:]) * dtype.itemsize) if shape else (1, 0)
        step = rows if in_columns or not shape else max(1, _CHUNK // max(1, row))
        buffer = memoryview(bytearray(min(rows, step) * row if shape else dtype.itemsize))
        for first in range(0, rows, step):
            count = min(step, rows - first)
            part = buffer[: count * row] if shape else buffer
            _fill(part, stream, name)
            values = np.frombuffer(part, dtype)
            of_part = (count, *shape[1:]) if shape else ()
            yield values.reshape(of_part[::-1]).T if in_columns else values.reshape(of_part)
        stream.read(1)  # an archive compares its checksum when it comes to the end

    return Rows(name, shape, dtype, chunks)


def _fill(buffer: memoryview, stream: IO[bytes], name: str) -> None:
    filled = 0
    while filled < len(buffer):
        content = stream.read(len(buffer) - filled)
        if not content:
            raise DataError(f"{name} is cut short: its header promises more values")
        buffer[filled : filled + len(content)] = content
        filled += len(content)
