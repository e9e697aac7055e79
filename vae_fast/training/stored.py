"""What a run's files say is checked before anything is made of it: they may be from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vae_fast.models import LatentModel, build

Tensors = Mapping[str, Tensor]


def entry(values: Any, name: str, *kinds: type) -> Any:
    """A value of a JSON object.

    Args:
        values: what should be the object.
        name: of the value.
        kinds: what it may be. A number is finite; a whole one, at least 0, is a float too where
            that is asked for; a truth value is a bool alone.

    Raises:
        ValueError: it is not there, or is something else.
    """
    if not isinstance(values, dict):
        raise ValueError(f"it holds {type(values).__name__}; expected an object with {name!r}")
    if name not in values:
        raise ValueError(f"it has no {name!r}")
    value = values[name]
    if not any(_is_a(value, kind) for kind in kinds):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"its {name!r} is {value!r:.80}; expected {expected}")
    return value


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, int) and value >= 0
    return isinstance(value, kind)


def is_number(value: Any) -> bool:
    """A finite number, and no whole one beyond floating point."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) <= sys.float_info.max


def require_kind(name: str, value: Any, like: Any) -> None:
    """Raise ValueError unless a value that was JSON can stand in for another of its kind.

    None stands for what is not chosen: whatever is stored instead of it is taken. A truth value is
    the same: by those of an optimizer it is decided what states there are.
    """
    if isinstance(like, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(like):
            raise ValueError(f"{name} is {value!r:.80}; expected {len(like)} values")
        for one, other in zip(value, like, strict=True):
            require_kind(name, one, other)
    elif isinstance(like, bool):
        if value is not like:
            raise ValueError(f"{name} is {value!r:.80}; expected {like}")
    elif isinstance(like, int | float):
        if not is_number(value):
            raise ValueError(f"{name} is {value!r:.80}; expected a finite number")
    elif like is not None and type(value) is not type(like):
        raise ValueError(f"{name} is {value!r:.80}; expected {type(like).__name__}")


def fitted(tensors: Tensors, wanted: Tensors) -> dict[str, Tensor]:
    """Stored tensors, of the shapes and dtypes of those that they are for.

    Raises:
        ValueError: one is not; torch itself would convert some, and broadcast others.
    """
    return {
        name: fitted_tensor(name, value, wanted[name].shape, wanted[name].dtype)
        if name in wanted
        else value
        for name, value in tensors.items()
    }


def fitted_tensor(name: str, value: Any, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A stored tensor of this shape and dtype.

    Earlier releases kept a single number without dimensions where it now has one.

    Raises:
        ValueError: it is another, or no tensor.
    """
    if isinstance(value, Tensor) and value.dim() == 0 and shape == (1,):
        value = value.reshape(1)
    if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
        came = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name} must be {tuple(shape)} {dtype}, got {came:.80}")
    return value


def model_of(config: Mapping[str, Any], tensors: Tensors) -> LatentModel:
    """The model that a configuration describes, with these weights, in their dtype, on the CPU.

    It is compared with the weights before there is memory for it: a configuration may ask for any.

    Raises:
        ValueError, RuntimeError: the configuration is of no model, or of one with other weights.
    """
    with torch.device("meta"):
        model = build(config)
    dtypes = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if len(dtypes) == 1:  # where there are several, those that do not fit are named below
        model.to(dtypes.pop())
    wanted = model.state_dict()
    differing = sorted(wanted.keys() ^ tensors.keys())
    if differing:
        raise ValueError(f"the weights lack, or the model has not, {', '.join(differing):.200}")
    tensors = fitted(tensors, wanted)
    model.to_empty(device="cpu")
    model.load_state_dict(dict(tensors))
    return model
