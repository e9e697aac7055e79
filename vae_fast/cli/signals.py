"""Ctrl-C and SIGTERM: the first one lets a command keep what it has, a second one does not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came.

    Attributes:
        code: what a shell calls a process that ended by it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in _NUMBERS:
        signal.signal(other, signal.SIG_DFL)
    raise Interrupted(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it they raise `Interrupted`, once; another one ends the process where it is.

    What a shell has set to be ignored (of a job in the background) is ignored. Before it, while the
    package is imported, there is `vae_fast_command`.
    """
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
