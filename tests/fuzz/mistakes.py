"""Calls that must be refused: a valid one with one argument made wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vae_fast as vf
from tests.fuzz.calls import Call
from tests.fuzz.draws import Source
from vae_fast.engine.table import LOSSES

_LONGEST = 600  # a message that a person reads

Make = Callable[[Source, Tensor, Tensor], Any]


def _enlarged(source: Source, x: Tensor, first: Tensor) -> Tensor:
    """Broadcasts with the others, to something larger: seven of everything."""
    return x.detach().expand((7, *(1,) * (first.dim() - x.dim()), *x.shape))


def _lengthened(source: Source, x: Tensor, first: Tensor) -> Tensor:
    """To a size that no call has."""
    return x.detach().unsqueeze(-1).expand((*x.shape, 11))


def _whole_numbers(source: Source, x: Tensor, first: Tensor) -> Tensor:
    dtypes = (torch.int64, torch.int32, torch.int16, torch.int8)
    return x.detach().nan_to_num().to(source.one_of(dtypes))


def _no_tensor(source: Source, x: Tensor, first: Tensor) -> Any:
    return source.one_of((np.zeros(3), [0.5], {}, "text"))


# Of any tensor, the call's first one beside it.
_OF_ANY: dict[str, Make] = {
    "whole numbers": _whole_numbers,
    "complex": lambda source, x, first: x.detach().to(torch.complex64),
    "no tensor": _no_tensor,
    # Whose layout is asked first, and no device lacks.
    "sparse": lambda source, x, first: x.detach().cpu().to_sparse(),
    "elsewhere": lambda source, x, first: torch.empty(x.shape, dtype=x.dtype, device="meta"),
    "enlarged": _enlarged,
    "lengthened": _lengthened,
}
_SETTINGS: dict[str, tuple[Any, ...]] = {
    "reduction": ("average", 3, None),
    "batch_dims": (-1, 99, 1.5, "x"),
    "num_samples": (0, -1, 2.5),
    "seed": (1.5, "x", 2**64),
}


# The first operands: they give the shape, and may well be larger.
_FIRST = {loss.operands[0] for loss in LOSSES.values()}


def _aliases(name: str) -> tuple[str, ...]:
    """What else an argument may be called, in the function that another one calls, say."""
    if name in ("params", "logits"):
        return tuple(_FIRST)
    return (name.removeprefix("params_"),)


def complaint(source: Source, call: Call) -> str | None:
    """Makes one argument wrong; says so where it is not refused, and by its name."""
    tensors = [n for n, x in call.arguments.items() if isinstance(x, Tensor) and n != "seed"]
    settings = [n for n, x in call.arguments.items() if n in _SETTINGS and x is not None]
    name = source.one_of(tensors + settings)
    if name in _SETTINGS:
        what, wrong = "a wrong setting", source.one_of(_SETTINGS[name])
    else:
        what = source.one_of(tuple(_OF_ANY))
        is_larger = what in ("enlarged", "lengthened")
        if (is_larger and name in _FIRST) or (what == "elsewhere" and len(tensors) == 1):
            return None
        wrong = _OF_ANY[what](source, call.arguments[name], call.arguments[tensors[0]])
        if what == "whole numbers" and name == "target" and wrong.dtype in call.integers:
            return None
    call.arguments[name] = wrong
    try:
        call.function(**call.arguments)
    except (ValueError, TypeError) as error:
        text = str(error)
        if len(text) > _LONGEST or len(text.splitlines()) > 1:
            return f"{name} is {what}: a message of {len(text)} characters, {text[:200]!r}"
        if not hasattr(vf, text.partition(":")[0]):
            return f"{name} is {what}: no function is named in {text!r}"
        if any(word in text for word in (name, *_aliases(name))):
            return None
        return f"{name} is {what}: not named in {text!r}"
    except Exception as error:
        return f"{name} is {what}: raised {type(error).__name__}: {str(error)[:200]!r}"
    return f"{name} is {what}: accepted"
