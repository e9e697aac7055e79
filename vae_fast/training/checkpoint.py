"""Everything that a run needs to go on exactly, in one file.

One safetensors file, so that one rename replaces it whole: the tensors of the model, of the
optimizer and of the best model so far, with the rest as JSON in its header. Nothing in it can run.
No state of a global random generator is in it: each epoch's is a function of the run's seed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_fast.training.files import RunError, parsing, read_tensors, tensors_bytes
from vae_fast.training.metrics import EpochMetrics
from vae_fast.training.stored import entry, fitted_tensor, require_kind

_FORMAT = 1

# Settings of torch's optimizers that are the device's, and not the run's.
_HOW_TO_COMPUTE = ("foreach", "fused", "capturable")

# Whose generators a checkpoint holds: `vae_fast.training.randomness.own_generators`.
_GENERATORS = ("loader", "sampler", "batch_sampler", "inner_sampler")


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
        generators: the states of those that the training DataLoader and its samplers own.
    """

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_loss: float | None = None
    waited: int = 0
    generators: dict[str, Tensor] = field(default_factory=dict)

    def clone(self) -> Checkpoint:
        """A copy that training leaves as it is, on the same devices."""
        state = {
            index: {name: _cloned(value) for name, value in entries.items()}
            for index, entries in self.optimizer["state"].items()
        }
        return replace(
            self,
            model={name: value.clone() for name, value in self.model.items()},
            optimizer=copy.deepcopy(self.optimizer | {"state": {}}) | {"state": state},
            history=list(self.history),
        )

    def to_bytes(self) -> bytes:
        """The content of its file."""
        tensors = _prefixed("model", self.model)
        if self.best is not None:
            tensors |= _prefixed("best", self.best)
        tensors |= self.generators
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
        with parsing(path):
            optimizer = entry(header, "optimizer", dict)
            plain = entry(optimizer, "state", dict)
            state: dict[int, dict[str, Any]] = {
                int(index): dict(entry(plain, index, dict)) for index in plain
            }
            for name, value in _without_prefix("optimizer", tensors).items():
                index, _, key = name.partition(".")
                state.setdefault(int(index), {})[key] = value
            checkpoint = cls(
                epoch=entry(header, "epoch", int),
                model=_without_prefix("model", tensors),
                optimizer={"state": state, "param_groups": entry(optimizer, "param_groups", list)},
                history=[EpochMetrics.from_dict(line) for line in entry(header, "history", list)],
                best=_without_prefix("best", tensors) or None,
                best_loss=entry(header, "best_loss", float, type(None)),
                waited=entry(header, "waited", int),
                generators={name: tensors[name] for name in _GENERATORS if name in tensors},
            )
            if [line.epoch for line in checkpoint.history] != [*range(1, checkpoint.epoch + 1)]:
                raise ValueError(f"its history is not of {checkpoint.epoch} epochs")
            if (checkpoint.best is None) != (checkpoint.best_loss is None):
                raise ValueError("it has the best model or its loss, and not both")
        return checkpoint


def snapshot(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state, on its device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fitting_state(stored: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state from a file, to be computed with as this one does.

    A fused kernel takes its sizes from the parameter alone, and writes beyond a smaller state.
    torch's other optimizers compute with operators that compare shapes themselves.

    Raises:
        ValueError: a state is of no parameter, or is not of its parameter's shape and dtype; or a
            setting is not what this optimizer has in its place.
    """
    own = optimizer.state_dict()["param_groups"]
    groups = stored["param_groups"]
    if [entry(group, "params", list) for group in groups] != [group["params"] for group in own]:
        raise ValueError("the optimizer's groups of parameters are others")
    for group, like in zip(groups, own, strict=True):
        for name in like.keys() & group.keys() - {*_HOW_TO_COMPUTE}:
            require_kind(f"the optimizer's {name}", group[name], like[name])
    parameters = {
        index: (parameter, bool(group.get("fused")))
        for group, like in zip(optimizer.param_groups, own, strict=True)
        for index, parameter in zip(like["params"], group["params"], strict=True)
    }
    state = {}
    for index, entries in stored["state"].items():
        if index not in parameters:
            raise ValueError(f"there is a state of a parameter {index}, which there is not")
        parameter, fused = parameters[index]
        fitting = _of_fused(entries, parameter, optimizer) if fused else entries
        state[index] = {name: _as_it_lies(value, parameter) for name, value in fitting.items()}
    return {
        "state": state,
        "param_groups": [
            like | group | {name: like[name] for name in _HOW_TO_COMPUTE if name in like}
            for group, like in zip(groups, own, strict=True)
        ],
    }


def _as_it_lies(value: Any, parameter: Tensor) -> Any:
    """A number for each of the parameter's, in its order in memory, in which a fused kernel goes.

    Files hold rows; a parameter may be held transposed, or with its channels last.
    """
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _of_fused(
    entries: dict[str, Any], parameter: Tensor, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    if isinstance(optimizer, torch.optim.Adam):
        missing = {"step", "exp_avg", "exp_avg_sq"} - entries.keys()
        if missing:
            raise ValueError(f"the optimizer's state lacks {', '.join(sorted(missing))}")
    shapes = {"step": (torch.Size(), torch.float32)}
    return {
        name: fitted_tensor(
            f"the optimizer's {name}", value, *shapes.get(name, (parameter.shape, parameter.dtype))
        )
        for name, value in entries.items()
    }


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
