"""Tables, whose columns are of scales of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_fast.data.layout import Data, DataError


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / std of each column; a column that never changes is left at zero.

    Attributes:
        mean: (D,) float32, of the data to train on.
        std: (D,) float32, their standard deviation; 1 where that is 0.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, train: Tensor) -> Scaling:
        """That gives these data mean 0 and variance 1.

        Raises:
            DataError: they are no table.
        """
        if train.dim() != 2 or not train.is_floating_point():
            raise DataError(
                f"only tables, (N, D) of floating point, can be standardized, not "
                f"{tuple(train.shape)} {train.dtype}"
            )
        std, mean = torch.std_mean(train, 0, correction=0)
        return cls(mean, torch.where(std > 0, std, 1.0))

    def apply(self, data: Data) -> None:
        """Scale both parts, in place.

        Raises:
            DataError: they have another number of columns.
        """
        if data.shape != tuple(self.mean.shape):
            raise DataError(
                f"{data.name} has the shape {data.shape}; expected {len(self.mean)} columns, as in "
                "the data that the run was standardized with"
            )
        for part in (data.train, data.test):
            part.sub_(self.mean).div_(self.std)

    def undo(self, x: Tensor) -> Tensor:
        """Scaled values in the data's own units."""
        return x.cpu() * self.std + self.mean

    def to_dict(self) -> dict[str, list[float]]:
        """As plain values, for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaling:
        """The inverse of `to_dict`.

        Raises:
            ValueError: it is not that.
        """
        mean, std = (torch.tensor(values[name], dtype=torch.float32) for name in ("mean", "std"))
        is_one = mean.dim() == 1 and mean.shape == std.shape
        if not is_one or not mean.isfinite().all() or not ((std > 0) & std.isfinite()).all():
            raise ValueError("what it was standardized with is not a mean and a deviation a column")
        return cls(mean, std)
