"""The one form that every source is brought into."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


class DataError(ValueError):
    """The data cannot be used as they are; the message says what to do."""


@dataclass(frozen=True)
class Data:
    """Data for training, and data held out.

    Attributes:
        name: what to call them in titles and messages.
        train: (N, C, H, W) pictures or (N, D) rows; uint8, read as x / 255, or float32.
        test: the held-out ones, of the same kind.
        train_labels: (N,) int64, or None where there are none.
        test_labels: likewise.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple(self.train.shape[1:])

    def require_unit_range(self) -> None:
        """Raise `DataError` unless every value is an intensity in [0, 1], as Bernoulli needs."""
        for part in (self.train, self.test):
            require_unit_range(part, self.name)


def require_unit_range(values: Tensor, name: str) -> None:
    """Raise `DataError` unless all are intensities in [0, 1]; uint8, read as x / 255, always is."""
    if values.dtype == torch.uint8 or values.numel() == 0:
        return
    require_finite(values, name)
    low, high = (float(bound) for bound in values.aminmax())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{name} holds values from {low:.9g} to {high:.9g}, and a Bernoulli likelihood needs "
            "them in [0, 1]: scale them, or use the Gaussian likelihood"
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


def require_usable(shape: tuple[int, ...], dtype: np.dtype[np.generic], name: str) -> None:
    """Raise `DataError` unless an array of this kind can be data."""
    import numpy as np

    if 0 in shape:
        raise DataError(f"{name} is empty: its shape is {shape}")
    if not 2 <= len(shape) <= 4:
        raise DataError(
            f"{name} has the shape {shape}; expected (N, D), (N, H, W), (N, C, H, W) or "
            "(N, H, W, C)"
        )
    if not np.issubdtype(dtype, np.floating) and dtype not in (np.bool_, np.uint8):
        raise DataError(
            f"{name} holds {dtype}; save it as uint8 where it is pictures of 0..255, or as "
            "floating point where it is counts or measurements"
        )


def held_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which an array of this shape is held: channels before height and width."""
    if len(shape) == 3:
        return (shape[0], 1, *shape[1:])
    return (shape[0], shape[3], *shape[1:3]) if _channels_behind(shape) else shape


def _channels_behind(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] not in (1, 3, 4) and shape[3] in (1, 3, 4)


def as_values(array: Array, name: str) -> Array:
    """The values of a usable array as data are held: uint8 or float32.

    Raises:
        DataError: values that are not finite.
    """
    import numpy as np

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


def as_held(array: Array, name: str) -> Array:
    """Rows of a usable array as data are held: uint8 or float32, in `held_shape`.

    Raises:
        DataError: values that are not finite.
    """
    import numpy as np

    array = as_values(array, name)
    if _channels_behind(array.shape):
        array = np.moveaxis(array, 3, 1)
    return array.reshape(held_shape(array.shape)) if array.ndim == 3 else array


def as_came(held: Array, shape: tuple[int, ...]) -> Array:
    """A view of rows as data are held, with the axes of an array of this shape."""
    import numpy as np

    return np.moveaxis(held, 1, 3) if _channels_behind(shape) else held.reshape(-1, *shape[1:])


def as_tensor(array: Array, name: str) -> Tensor:
    """An array as (N, D) or (N, C, H, W): uint8 where it was uint8 or bool, else float32.

    Pictures may be (N, H, W), (N, C, H, W), or (N, H, W, C) with 1, 3 or 4 channels.

    Raises:
        DataError: another rank or dtype, no data, or values that are not finite.
    """
    import numpy as np

    require_usable(array.shape, array.dtype, name)
    # A copy where the array is read-only: a tensor cannot be.
    tensor = torch.from_numpy(np.require(as_held(array, name), requirements=["C", "W"]))
    if array.dtype == np.uint8:
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
