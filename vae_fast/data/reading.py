"""What every reader of files asks for: a true file, a bounded size, and one line where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_fast.data.layout import DataError

# What the data of a source may take, unless the caller says more: a small archive may hold much.
MAX_BYTES = 16 * 2**30


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Within it, whatever a parser raises over a file becomes one `DataError` that names it.

    A parser of somebody else's, fed damaged bytes, raises anything: zlib.error, TokenError,
    struct.error, MemoryError, SyntaxError, NotImplementedError. A list of them is never whole.

    Raises:
        DataError: the path is no ordinary file (a pipe would be waited for), or the block failed.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is not an ordinary file" if path.exists() else f"there is no file {path}"
        )
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as {what}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error of somebody else's says, in one line that is not too long."""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__


def require_size(size: int, limit: int, path: Path) -> None:
    """Raise `DataError` where what files declare to hold is beyond the limit."""
    if size > limit:
        raise DataError(
            f"{path} holds {size:,} bytes of data, and {limit:,} are allowed: give a higher "
            "--max-bytes where there is memory for them"
        )
