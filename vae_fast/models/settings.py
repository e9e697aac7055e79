"""A model's own settings: those of its arguments that the other models do not have."""

from __future__ import annotations

import inspect
import math
from typing import Any, get_type_hints

from vae_fast.engine.checks import is_int, is_number
from vae_fast.models.base import LatentModel

_SHARED = inspect.signature(LatentModel.__init__).parameters


def settings_of(model: type[LatentModel]) -> dict[str, tuple[Any, Any]]:
    """The type and the default of each, by name; of the model itself and of what it is made from.

    Example:
        >>> from vae_fast.models import BetaVAE
        >>> from vae_fast.models.settings import settings_of
        >>> settings_of(BetaVAE)
        {'beta': (<class 'float'>, 4.0)}
    """
    return {name: found for name, found in _arguments(model).items() if name not in _SHARED}


def defaults_of(model: type[LatentModel]) -> dict[str, Any]:
    """What a model has by default where others have something else, by the argument's name.

    Example:
        >>> from vae_fast.models import LinearVAE
        >>> from vae_fast.models.settings import defaults_of
        >>> defaults_of(LinearVAE)
        {'hidden': (), 'likelihood': 'gaussian'}
    """
    return {name: default for name, (_, default) in _arguments(model).items() if name in _SHARED}


def _arguments(model: type[LatentModel]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each argument by keyword of the classes between it and LatentModel."""
    found: dict[str, tuple[Any, Any]] = {}
    for each in model.__mro__[: model.__mro__.index(LatentModel)]:
        if "__init__" not in vars(each):
            continue
        initial = vars(each)["__init__"]
        hints = get_type_hints(initial)
        for name, parameter in inspect.signature(initial).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name not in found:
                found[name] = (hints[name], parameter.default)
    return found


def check_number(model: object, name: str, value: Any, *, above: float = -math.inf) -> float:
    """A finite number, as a float.

    Args:
        model: whose setting it is.
        name: of the setting.
        value: what came.
        above: what it is at least.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or below.
    """
    owner = type(model).__name__
    if not is_number(value):
        raise TypeError(f"{owner}: {name} is of type {type(value).__name__}, expected float")
    if not above <= value < math.inf:
        least = "" if above == -math.inf else f" of at least {above:g}"
        raise ValueError(f"{owner}: {name} is {value}, expected a finite number{least}")
    return float(value)


def check_whole(model: object, name: str, value: Any, *, least: int = 1) -> int:
    """A whole number.

    Args:
        model: whose setting it is.
        name: of the setting.
        value: what came.
        least: what it is at least.

    Raises:
        TypeError: it is none.
        ValueError: it is below.
    """
    owner = type(model).__name__
    if not is_int(value):
        raise TypeError(f"{owner}: {name} is of type {type(value).__name__}, expected int")
    if value < least:
        raise ValueError(f"{owner}: {name} is {value}, expected at least {least}")
    return int(value)
