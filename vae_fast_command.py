"""What the command `vae-fast` starts: beside the package, because to import that takes seconds."""

import os
import signal
from types import FrameType


def main() -> None:
    """The command line; until that can look after itself, Ctrl-C ends the process in one line."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    from vae_fast.cli import main as command_line

    command_line()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"vae-fast: error: interrupted\n")
    os._exit(128 + number)
