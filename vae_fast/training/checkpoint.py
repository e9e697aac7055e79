"""Everything that a run needs to go on exactly, in one file.

One safetensors file, so that one rename replaces it whole: the tensors of the model, of the
optimizer and of the best model so far, with the rest as JSON in its header. Nothing in it can run.
No state of a random generator is in it: each epoch's is a function of the run's seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_fast.training.files import RunError, read_tensors, tensors_bytes
from vae_fast.training.metrics import EpochMetrics

_FORMAT = 1


@dataclass
class Checkpoint:
    """The state of a run after an epoch.

    Attributes:
        epoch: epochs done.
        model: its state.
        optimizer: its state, as `Optimizer.state_dict` gives it.
        history: the metrics of the epochs done.
        best: the state of the best model, kept for early stopping.
        best_loss: its test loss, in nats.
        waited: epochs without a better one.
        loader: state of the training DataLoader's own generator, where it has one.
    """

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_loss: float | None = None
    waited: int = 0
    loader: Tensor | None = None

    def to_bytes(self) -> bytes:
        """The content of its file."""
        tensors = _prefixed("model", self.model)
        if self.best is not None:
            tensors |= _prefixed("best", self.best)
        if self.loader is not None:
            tensors["loader"] = self.loader
        plain: dict[str, dict[str, Any]] = {}
        for index, entries in self.optimizer["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    plain.setdefault(str(index), {})[name] = value
        return tensors_bytes(
            tensors,
            {
                "format": _FORMAT,
                "epoch": self.epoch,
                "history": [metrics.to_dict() for metrics in self.history],
                "best_loss": self.best_loss,
                "waited": self.waited,
                "optimizer": {"state": plain, "param_groups": self.optimizer["param_groups"]},
            },
        )

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read what `to_bytes` gave.

        Raises:
            RunError: the file is not there, is damaged, or is no checkpoint.
        """
        tensors, header = read_tensors(path)
        if header.get("format") != _FORMAT:
            raise RunError(f"{path} is not a checkpoint of this release of vae_fast")
        state: dict[int, dict[str, Any]] = {
            int(index): dict(entries) for index, entries in header["optimizer"]["state"].items()
        }
        for name, value in _without_prefix("optimizer", tensors).items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        return cls(
            epoch=header["epoch"],
            model=_without_prefix("model", tensors),
            optimizer={"state": state, "param_groups": header["optimizer"]["param_groups"]},
            history=[EpochMetrics.from_dict(line) for line in header["history"]],
            best=_without_prefix("best", tensors) or None,
            best_loss=header["best_loss"],
            waited=header["waited"],
            loader=tensors.get("loader"),
        )


def snapshot(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state, on its device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def require_fitting_states(optimizer: torch.optim.Optimizer) -> None:
    """A fused kernel takes its sizes from the parameter alone, and writes beyond a smaller state.

    torch's other optimizers compute with operators that compare shapes themselves.

    Raises:
        ValueError: a state is of no parameter, or is not of its parameter's shape and dtype.
    """
    fused = {p for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    adam = isinstance(optimizer, torch.optim.Adam)
    for parameter, entries in optimizer.state.items():
        if not isinstance(parameter, Tensor):
            raise ValueError(f"there is a state of a parameter {parameter}, which there is not")
        if parameter not in fused:
            continue
        missing = {"step", "exp_avg", "exp_avg_sq"} - set(entries) if adam else set()
        if missing:
            raise ValueError(f"the optimizer's state lacks {', '.join(sorted(missing))}")
        for name, value in entries.items():
            shape = torch.Size() if name == "step" else parameter.shape
            dtype = torch.float32 if name == "step" else parameter.dtype
            if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
                came = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else value
                raise ValueError(
                    f"the optimizer's {name} must be {tuple(shape)} {dtype}, got {came!s}"
                )


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
