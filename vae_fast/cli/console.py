"""Where the commands' words go."""

from __future__ import annotations

import io
import sys

from rich.console import Console


def plain_console(*, width: int | None = None) -> Console:
    """A console that prints what it is given: in a path, brackets and colons are no markup."""
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_anything() -> None:
    """What a stream cannot encode, of a path for example, is escaped, and no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
