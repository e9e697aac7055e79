"""What a model expects of its data, and bringing what people have to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from vae_fast.data.layout import DataError, as_tensor, require_kind
from vae_fast.engine.likelihood import Kind, are_whole
from vae_fast.models import LatentModel

Source: TypeAlias = Tensor | DataLoader[Any]
Given: TypeAlias = Source | Dataset[Any] | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Expected:
    """What a model expects of a batch.

    Attributes:
        shape: of one datum; None where the model is not of this package.
        kind: what all values must be.
        classes: of classes, how many there are.
    """

    shape: tuple[int, ...] | None = None
    kind: Kind = "numbers"
    classes: int | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Expected:
        """What this model expects; nothing of a module that is not of this package."""
        if not isinstance(model, LatentModel):
            return cls()
        return cls(model.data_shape, model.likelihood.data, model.likelihood.num_classes)

    def source(self, given: Given, batch_size: int, *, shuffle: bool) -> Source:
        """Data of any kind as a checked tensor or a DataLoader, which `batch` checks.

        Raises:
            TypeError: they are none of these.
            ValueError: a tensor or array has another shape, or values out of range.
        """
        if isinstance(given, np.ndarray):
            given = as_tensor(given, "the array", counts=are_whole(self.kind))
        if isinstance(given, Tensor):
            return self._checked(given)
        if isinstance(given, DataLoader):
            return given
        if isinstance(given, Dataset):
            can_shuffle = shuffle and not isinstance(given, IterableDataset)
            return DataLoader(given, batch_size, shuffle=can_shuffle)
        raise TypeError(
            f"the data are {type(given).__name__}; expected a tensor, an array, a Dataset or a "
            "DataLoader"
        )

    def batch(self, given: Any) -> Tensor:
        """The data in a DataLoader's batch: itself, or the entry that has the model's shape.

        Raises:
            TypeError: no entry is a tensor.
            ValueError: none of the tensors fits, or one does and has values out of range.
        """
        entries = [given]
        if isinstance(given, Mapping):
            entries = list(given.values())
        elif isinstance(given, list | tuple):
            entries = list(given)
        tensors = [entry for entry in entries if isinstance(entry, Tensor)]
        if not tensors:
            raise TypeError(
                f"the DataLoader gives {type(given).__name__} without a tensor in it; expected a "
                "tensor, or a sequence or mapping that holds one"
            )
        fitting = (x for x in tensors if self._as_shaped(x) is not None)
        return self._checked(next(fitting, tensors[0]))

    def _checked(self, x: Tensor) -> Tensor:
        shaped = self._as_shaped(x)
        if shaped is None:
            raise DataError(
                f"the data have the shape {tuple(x.shape)}; expected (N, "
                f"{', '.join(map(str, self.shape or ()))}), the model's input_shape"
            )
        require_kind(shaped, self.kind, "the data", self.classes)
        return shaped

    def _as_shaped(self, x: Tensor) -> Tensor | None:
        """The data, (N, H, W) as (N, 1, H, W) where the model takes that; None: they do not fit."""
        if self.shape is None or tuple(x.shape[1:]) == self.shape:
            return x
        return x.unsqueeze(1) if (1, *x.shape[1:]) == self.shape else None
