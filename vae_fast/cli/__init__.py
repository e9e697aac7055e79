"""The command line: `vae-fast`, and `python -m vae_fast`."""

from __future__ import annotations

import importlib
import os
import sys
import warnings

import click

from vae_fast._version import __version__

# A command's module is imported when it is needed: --help and info should not wait for the rest.
_COMMANDS = {
    "train": "vae_fast.cli.train",
    "evaluate": "vae_fast.cli.evaluate",
    "sample": "vae_fast.cli.runs",
    "reconstruct": "vae_fast.cli.runs",
    "traverse": "vae_fast.cli.explore",
    "interpolate": "vae_fast.cli.explore",
    "impute": "vae_fast.cli.infer",
    "anomaly": "vae_fast.cli.infer",
    "cluster": "vae_fast.cli.infer",
    "demo": "vae_fast.cli.demo",
    "bench": "vae_fast.cli.bench",
    "info": "vae_fast.cli.info",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", prog_name="vae-fast")
def app() -> None:
    """Train auto-encoders and variational auto-encoders, and look at what they learnt.

    Start with `vae-fast demo`, then `vae-fast train --help`.
    """


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr, and no traceback."""
    from vae_fast.cli.console import print_anything
    from vae_fast.cli.signals import Interrupted, interruptible
    from vae_fast.data import DataError
    from vae_fast.training import RunError, TrainingDiverged
    from vae_fast.training.graphed import CannotRecord

    print_anything()
    try:
        with interruptible(), warnings.catch_warnings():
            warnings.showwarning = _warn
            # Not standalone: click would print three lines for an error, and hide an interrupt.
            code = app.main(standalone_mode=False, prog_name="vae-fast")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "vae-fast"
        _fail(f"{error.format_message()} (see {command} --help)", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vae_fast"):
            raise
        _fail(f"{error} (pip install {error.name})", 1)
    except (DataError, RunError, TrainingDiverged, CannotRecord) as error:
        _fail(str(error), 1)
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _fail(f"{where}{error.strerror or error}", 1)
    except Interrupted as error:
        _fail("interrupted", error.code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        _fail(f"there is not enough memory: {error or 'for what was asked'}", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _is_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Of the CPU's, torch has no exception of its own; nor of sizes beyond all memory."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    of_sizes = ("can't allocate memory", "calculation overflowed", "multiplication overflow")
    return any(text in str(error) for text in of_sizes)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"vae-fast: warning: {_one_line(str(message))}", err=True)


def _fail(message: str, code: int) -> None:
    click.echo(f"vae-fast: error: {_one_line(message)}", err=True)
    sys.exit(code)


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())
