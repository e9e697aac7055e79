"""What an attack may end in: a right result, or one line of error; no traceback, no signal."""

import contextlib
import io
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vae_fast.cli import main
from vae_fast.data import DataError
from vae_fast.training import RunError


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        name: for people, and to find it again.
        attack: what is wrong with what came of it, in words; None: nothing.
    """

    name: str
    attack: Callable[[], str | None]


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int | None  # None: in an exception that is not meant for people
    out: str
    err: str

    @property
    def fault(self) -> str | None:
        """What should not have been said."""
        if self.code is None:
            return self.err
        words = [line for line in self.err.splitlines() if not line.startswith("vae-fast: warning")]
        if self.code in (0, 1, 2, 130):
            expected = 1 if self.code else 0
            is_error = all(line.startswith("vae-fast: error: ") for line in words)
            if len(words) == expected and is_error:
                return None
        return f"code {self.code}: {self.err[-500:]!r}"


def command(*arguments: object) -> Ended:
    """The command line within this process."""
    out, err = _Stream(), _Stream()
    before = sys.argv
    sys.argv = ["vae-fast", *map(str, arguments)]
    code: int | None = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except Exception:  # a fault, and so the test fails: with what a person would have seen
        return Ended(None, out.text, traceback.format_exc())
    finally:
        sys.argv = before
    return Ended(code, out.text, err.text)


def line(text: str) -> Ended:
    """The same from a line as one types it."""
    return command(*shlex.split(text))


def refused_or(read: Callable[[], str | None]) -> str | None:
    """What a reader of damaged files does: gives the right values, or says in one line why not."""
    try:
        return read()
    except (DataError, RunError) as error:
        message = str(error)
        return (
            None if message and "\n" not in message else f"{len(message)} characters: {message!r}"
        )
    except Exception:  # neither of the two: a fault, and so the test fails, with its traceback
        return traceback.format_exc()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Within it the working directory is another one, and torch has one thread."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def faults(cases: Sequence[Case]) -> list[str]:
    """Those of all cases, each after its name."""
    found = []
    for case in cases:
        fault = case.attack()
        if fault is not None:
            found.append(f"{case.name}: {fault}")
    return found


class _Stream(io.TextIOWrapper):
    """A stream as a process has it: of bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="backslashreplace")

    @property
    def text(self) -> str:
        self.flush()
        content: bytes = self.buffer.getvalue()  # type: ignore[attr-defined]
        return content.decode()
