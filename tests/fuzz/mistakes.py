"""Calls that must be refused: with a TypeError or a ValueError that names what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.cases import REDUCTIONS
from tests.fuzz.draws import Draws, enlarged
from tests.fuzz.functions import ELEMENTWISE


def _enlarging(operands: list[Any], k: int, draws: Draws) -> Any:
    candidates = enlarged(operands[0].shape)
    return torch.rand(draws.rng.choice(candidates))


def _complex(operands: list[Any], k: int, draws: Draws) -> Any:
    return operands[k].to(torch.complex64)


def _sparse(operands: list[Any], k: int, draws: Draws) -> Any:
    return operands[k].cpu().to_sparse()  # whose layout is asked first, and no device lacks


def _no_tensor(operands: list[Any], k: int, draws: Draws) -> Any:
    return draws.rng.choice(("logits", None, [1.0], {}, operands[k].cpu().numpy()))


def _whole_numbers(operands: list[Any], k: int, draws: Draws) -> Any:
    return (9 * operands[k]).to(draws.rng.choice((torch.int64, torch.int32, torch.int8)))


MISTAKES: tuple[Callable[[list[Any], int, Draws], Any], ...] = (
    _enlarging,
    _complex,
    _sparse,
    _no_tensor,
    _whole_numbers,
)


def refused(seed: int, index: int) -> str | None:
    """The wrong call of this index; None, or what it did instead of refusing."""
    draws = Draws(seed, index)
    f = draws.rng.choice(ELEMENTWISE)
    shape = tuple(draws.rng.choice((2, 3, 5)) for _ in range(draws.rng.randint(1, 3)))
    operands: list[Any] = [torch.rand(shape) * 0.9 + 0.05 for _ in f.names]
    k = draws.rng.randrange(len(f.names))
    mistake = draws.rng.choice(MISTAKES)
    if mistake is _no_tensor and k > 1:
        k = 0  # the others may be left out, or be numbers
    if mistake is _enlarging and k == 0:
        k = 1
    if mistake is _whole_numbers and k == f.target:
        k = 0
    operands[k] = mistake(operands, k, draws)
    options = {"batch_dims": len(shape) - 1, "reduction": draws.rng.choice(REDUCTIONS)}
    said = f"{f.name} with {mistake.__name__.strip('_').replace('_', ' ')} {f.names[k]}"
    try:
        value = f.call(*operands, **options)
    except (TypeError, ValueError) as error:
        message = str(error)
        name = f.names[k]
        if not message.startswith(f.name) or len(message.splitlines()) > 1:
            return f"{said}: the message is {message[:300]!r}"
        if name not in message:
            return f"{said}: {name} is not named in {message!r}"
        return None
    except Exception as error:  # any other is what is looked for: a line of the report, which fails
        return f"{said}: {type(error).__name__}: {str(error)[:200]}"
    kind = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    return f"{said}: not refused, it gave {kind}"
