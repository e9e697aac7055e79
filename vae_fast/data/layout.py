"""The one form that every source is brought into."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_fast.engine.likelihood import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


_CHUNK = 2**20  # numbers that are looked at together


class DataError(ValueError):
    """The data cannot be used as they are; the message says what to do."""


@dataclass(frozen=True)
class Data:
    """Data for training, and data held out.

    Attributes:
        name: what to call them in titles and messages.
        train: (N, C, H, W) pictures or (N, D) rows; uint8, read as x / 255, or float32. Counts and
            classes are uint8, int32, int64 or float32, read as they are; a table of counts perhaps
            in `torch.sparse_csr`.
        test: the held-out ones, of the same kind.
        train_labels: (N,) int64, or None where there are none.
        test_labels: likewise.
        conditions: names of what the data were measured under, if they tell: the last column of a
            table holds the number of each datum's own.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    conditions: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum, without the number of its condition."""
        whole = tuple(self.train.shape[1:])
        return (whole[0] - 1,) if self.conditions else whole

    def mean_total(self) -> float:
        """The sum of a datum to train on, on average: of counts the size of a library.

        Raises:
            DataError: it is 0.
        """
        total = float(self.train.sum(dtype=torch.float64))
        if self.conditions:  # a table in CSR
            is_number = self.train.col_indices() == self.shape[0]
            total -= float(self.train.values()[is_number].sum(dtype=torch.float64))
        if total == 0:
            raise DataError(f"{self.name} holds nothing but zeros")
        return total / len(self.train)

    def num_classes(self) -> int:
        """The number of the largest class that there is, and one; at least 2."""
        return max(2, 1 + max(int(part.max()) for part in (self.train, self.test) if len(part)))

    def require_kind(self, kind: Kind, classes: int | None = None) -> None:
        """Raise `DataError` unless the data are what a likelihood takes; see the function."""
        for part in (self.train, self.test):
            require_kind(part, kind, self.name, classes)


def require_kind(values: Tensor, kind: Kind, name: str, classes: int | None = None) -> None:
    """Raise `DataError` unless all values are of a kind that a likelihood takes.

    Args:
        values: of the data.
        kind: the likelihood's.
        name: of the data, for messages.
        classes: of classes, how many there are at most; None: any number.
    """
    if kind == "counts":
        require_counts(values, name)
    elif values.layout is torch.sparse_csr:
        raise DataError(f"{name} is sparse, which is for likelihoods of counts: give x.to_dense()")
    elif kind == "classes":
        require_counts(values, name)
        most = float(values.max()) if values.numel() else 0.0
        if classes is not None and most >= classes:
            raise DataError(
                f"{name} holds {most:.9g}, and num_classes is {classes}: classes are the whole "
                f"numbers from 0 to {classes - 1}"
            )
    elif kind == "intensities":
        require_unit_range(values, name)
    else:
        require_finite(values, name)


def require_unit_range(values: Tensor, name: str) -> None:
    """Raise `DataError` unless all are intensities in [0, 1]; uint8, read as x / 255, always is."""
    if values.dtype == torch.uint8 or values.numel() == 0:
        return
    require_finite(values, name)
    low, high = (float(bound) for bound in values.aminmax())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name} holds values from {low:.9g} to {high:.9g}, and a Bernoulli likelihood needs "
            "them in [0, 1]: scale them, or use the Gaussian likelihood, or one of counts"
        )


def require_finite(values: Tensor, name: str) -> None:
    """Raise `DataError` where a value is NaN or infinite: training would only diverge."""
    if not values.is_floating_point() or values.numel() == 0:
        return
    # The extremes of what holds a NaN are NaN: no tensor of truth values is made.
    if not torch.stack(values.aminmax()).isfinite().all():
        raise DataError(
            f"{name} holds values that are NaN or infinite: leave out what is not known, or put "
            "numbers in its place"
        )


def require_counts(values: Tensor, name: str) -> None:
    """Raise `DataError` unless all are whole numbers from 0 on; of a sparse tensor, its values."""
    if values.layout is torch.sparse_csr:
        values = values.values()
    if values.dtype in (torch.bool, torch.uint8) or values.numel() == 0:
        return
    require_finite(values, name)
    low = float(values.min())
    if low < 0:
        raise DataError(
            f"{name} holds {low:.9g}, and counts and classes are whole numbers from 0 on"
        )
    if not values.is_floating_point():
        return
    for part in torch.split(values.reshape(-1), _CHUNK):
        broken = part[part != part.round()]
        if broken.numel():
            raise DataError(
                f"{name} holds {float(broken[0]):.9g}, and counts and classes are whole numbers: "
                "give them as they are, neither scaled nor their logarithms"
            )


def require_usable(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], name: str, *, counts: bool = False
) -> None:
    """Raise `DataError` unless an array of this kind can be data, or counts."""
    import numpy as np

    if 0 in shape:
        raise DataError(f"{name} is empty: its shape is {shape}")
    if not 2 <= len(shape) <= 4:
        raise DataError(
            f"{name} has the shape {shape}; expected (N, D), (N, H, W), (N, C, H, W) or "
            "(N, H, W, C)"
        )
    if np.issubdtype(dtype, np.floating) or dtype in (np.bool_, np.uint8):
        return
    if counts and not np.issubdtype(dtype, np.integer):
        raise DataError(f"{name} holds {dtype}; expected whole numbers, in integers or floats")
    if not counts:
        raise DataError(
            f"{name} holds {dtype}; save it as uint8 where it is pictures of 0..255, as floating "
            "point where it is measurements, or choose a likelihood of counts or classes where it "
            "is these"
        )


def held_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which an array of this shape is held: channels before height and width."""
    if len(shape) == 3:
        return (shape[0], 1, *shape[1:])
    return (shape[0], shape[3], *shape[1:3]) if _channels_behind(shape) else shape


def _channels_behind(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] not in (1, 3, 4) and shape[3] in (1, 3, 4)


def as_values(array: Array, name: str, *, counts: bool = False) -> Array:
    """The values of a usable array as data are held: uint8 or float32, or as counts are.

    Raises:
        DataError: values that are not finite, or no counts.
    """
    import numpy as np

    if counts:
        return _as_counts(array, name)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    # The extremes of what holds a NaN are NaN: no array of truth values is made.
    if not np.isfinite([array.min(), array.max()]).all():
        raise DataError(
            f"{name} holds values that are NaN, infinite or beyond float32: leave out what is "
            "not known, or put numbers in its place"
        )
    return array


def held_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """In which data of a usable dtype are held: float32, uint8, or for counts int32 or int64."""
    import numpy as np

    if np.issubdtype(dtype, np.floating):
        return np.dtype(np.float32)
    if dtype in (np.bool_, np.uint8):
        return np.dtype(np.uint8)
    return np.dtype(np.int32 if np.can_cast(dtype, np.int32) else np.int64)


def _as_counts(array: Array, name: str) -> Array:
    import numpy as np

    with np.errstate(over="ignore"):
        array = array.astype(held_dtype(array.dtype), copy=False)
    # Of an array that is read-only a copy is looked at: a tensor cannot be.
    require_counts(torch.from_numpy(np.require(array, requirements="W")), name)
    return array


def as_held(array: Array, name: str, *, counts: bool = False) -> Array:
    """Rows of a usable array as data are held, in `held_shape`.

    Raises:
        DataError: as `as_values` raises it.
    """
    import numpy as np

    array = as_values(array, name, counts=counts)
    if _channels_behind(array.shape):
        array = np.moveaxis(array, 3, 1)
    return array.reshape(held_shape(array.shape)) if array.ndim == 3 else array


def as_came(held: Array, shape: tuple[int, ...]) -> Array:
    """A view of rows as data are held, with the axes of an array of this shape."""
    import numpy as np

    return np.moveaxis(held, 1, 3) if _channels_behind(shape) else held.reshape(-1, *shape[1:])


def as_tensor(array: Array, name: str, *, counts: bool = False) -> Tensor:
    """An array as (N, D) or (N, C, H, W): uint8 where it was uint8 or bool, else float32.

    Pictures may be (N, H, W), (N, C, H, W), or (N, H, W, C) with 1, 3 or 4 channels.

    Raises:
        DataError: another rank or dtype, no data, or values that are not finite, or no counts
            where they shall be.
    """
    import numpy as np

    require_usable(array.shape, array.dtype, name, counts=counts)
    # A copy where the array is read-only: a tensor cannot be.
    held = as_held(array, name, counts=counts)
    tensor = torch.from_numpy(np.require(held, requirements=["C", "W"]))
    if array.dtype == np.uint8 and not counts:
        warn_of_ones([tensor], name)
    return tensor


def warn_of_ones(tensors: Sequence[Tensor], name: str) -> None:
    """Of bytes of 0 and 1, which were hardly meant as x / 255."""
    if max(int(tensor.max()) for tensor in tensors if tensor.numel()) == 1:
        warnings.warn(
            f"{name} is uint8 of 0 and 1, which is read as x / 255, nearly black: save it as bool "
            "or times 255 where 1 was meant",
            stacklevel=2,
        )


def as_labels(array: Array, count: int, name: str) -> Tensor:
    """Labels of any integer, string or boolean kind as (N,) int64, numbered in sorted order.

    Raises:
        DataError: the labels are not one per datum.
    """
    import numpy as np

    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(f"{name} has the shape {array.shape}; expected one label each, ({count},)")
    if np.issubdtype(array.dtype, np.integer):
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].astype(np.int64))


def hold_out(
    name: str, tensor: Tensor, labels: Tensor | None, fraction: float | None, seed: int = 0
) -> Data:
    """Split off a random part for testing; the same seed gives the same split for ever.

    With None as the fraction all of them are for testing, in their own order.

    Raises:
        DataError: the fraction leaves nothing for one of the two parts.
    """
    train, test = divided(len(tensor), fraction, name, seed)
    return Data(
        name,
        tensor[train],
        tensor[test],
        None if labels is None else labels[train],
        None if labels is None else labels[test],
    )


def divided(count: int, fraction: float | None, name: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The indices of the data to train on, and of those to hold out; see `hold_out`."""
    import numpy as np

    if fraction is None:
        return torch.arange(0), torch.arange(count)
    held_out = round(count * fraction)
    if not 0 < held_out < count:
        raise DataError(
            f"a test fraction of {fraction:g} of the {count} in {name} leaves one part empty"
        )
    # RandomState's stream is frozen by numpy's policy, torch.randperm's is not.
    order = torch.from_numpy(np.random.RandomState(seed).permutation(count))
    return order[held_out:], order[:held_out]
