"""`--set NAME=VALUE`: the settings that a model has for itself."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import click

from vae_fast.models import MODELS
from vae_fast.models.settings import settings_of


class Assignment(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "assignment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Text to both."""
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What help shows for the value."""
        return "NAME=VALUE"


def own_settings(kind: str, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Of a model, what was given, as values of the settings' types.

    Args:
        kind: the model's name.
        given: names and texts; of a name that comes twice the last one counts.

    Raises:
        click.BadParameter: it has no such setting, or the text is no such value.
    """
    known = settings_of(MODELS[kind])
    values = {}
    for name, text in given:
        if name not in known:
            has = f"has {', '.join(known)}" if known else "has none of its own"
            raise click.BadParameter(f"{kind} {has}, not {name}", param_hint="--set")
        try:
            values[name] = _value(text, known[name][0])
        except ValueError:
            raise click.BadParameter(
                f"{name} is {text!r}, expected {_shown(known[name][0])}", param_hint="--set"
            ) from None
    return values


def _value(text: str, hint: Any) -> Any:
    """Text as a value of a type.

    Raises:
        ValueError: it is none.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for each in arguments:
            try:
                return _value(text, each)
            except ValueError:
                pass
    elif origin is Literal:
        if text in arguments:
            return text
    elif origin is not None and issubclass(origin, Sequence):
        return [_value(part, arguments[0]) for part in text.split(",") if part]
    elif hint is types.NoneType or hint is bool:
        names = {"none": None} if hint is types.NoneType else {"true": True, "false": False}
        if text.lower() in names:
            return names[text.lower()]
    elif hint is float:
        number = float(text)
        if math.isfinite(number):
            return number
    else:
        return hint(text)
    raise ValueError(text)


def _shown(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_shown, arguments))
    if origin is not None:
        return f"{_shown(arguments[0])},..."
    named = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
    return "none" if hint is types.NoneType else named[hint]
