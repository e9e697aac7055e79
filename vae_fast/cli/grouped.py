"""Options in groups: `--help` of a command with thirty of them stays readable."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from vae_fast.training import choose_device

_LARGEST = 2**31 - 1

# Whole numbers that something is made of; what is beyond them fits nowhere.
COUNT = click.IntRange(1, _LARGEST)
SEED = click.IntRange(0, 2**63 - 1)

Function = TypeVar("Function", bound=Callable[..., Any])


class _Option(click.Option):
    def __init__(self, *arguments: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """What stands in brackets: of a range, not the limit that nobody comes near."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.type, click.IntRange) and (self.type.max or 0) >= _LARGEST:
            extra["range"] = f"x>={self.type.min}"
        return extra


class GroupedCommand(click.Command):
    """A command whose help lists its options under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group, in the order in which they were declared."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def option(group: str, *names: str, **settings: Any) -> Callable[[Function], Function]:
    """An option of a group; defaults are shown unless it is a plain switch."""
    is_switch = settings.get("is_flag", False) and not any("/" in name for name in names)
    settings.setdefault("show_default", not is_switch)
    if isinstance(settings.get("type"), click.IntRange | click.FloatRange):
        settings.setdefault("metavar", "N" if isinstance(settings["type"], click.IntRange) else "X")
    return click.option(*names, cls=_Option, group=group, **settings)


class FiniteRange(click.FloatRange):
    """A range of numbers; click's takes nan for one in any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Text to a number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Threads(click.IntRange):
    """A number of threads that OpenMP can start: beyond what a system gives, it ends the process.

    More than there are processors is possible, to repeat a run of a larger machine bit for bit.
    """

    def __init__(self) -> None:
        super().__init__(1, max(256, os.cpu_count() or 1))


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them: 400 or 512,256."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Text to numbers."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            sizes = tuple(int(part) for part in value.split(",") if part)
        except ValueError:
            sizes = (0,)
        if any(not 0 < size <= _LARGEST for size in sizes):
            self.fail(f"{value!r} is not a list of sizes such as 400 or 512,256", param, ctx)
        return sizes

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What help shows for the value."""
        return "N[,N...]"


class Device(click.ParamType[str]):
    """The name of a device that is there: auto, cpu, cuda, cuda:1."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        try:
            choose_device(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What help shows for the value."""
        return "auto|cpu|cuda|..."


def given(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """Those of the named parameters that were given on the command line, as options."""
    options = {parameter.name: parameter.opts[0] for parameter in ctx.command.get_params(ctx)}
    return [
        options[name]
        for name in names
        if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
