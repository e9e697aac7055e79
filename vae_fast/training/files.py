"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


class RunError(RuntimeError):
    """A run's folder cannot be read, or is not what it should be; the message says why."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """A JSON file, written atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """A file of one JSON object a line, written atomically."""
    write_atomically(path, "".join(f"{json.dumps(value)}\n" for value in values).encode())


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        RunError: it is not there, or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"there is no {path}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of one JSON object a line.

    Raises:
        RunError: it is not there, or is not that.
    """
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        raise RunError(f"there is no {path}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """A safetensors file, written atomically; the metadata travel as JSON in its header."""
    from safetensors.torch import save

    # Clones, because safetensors has no word for two tensors that share memory (tied weights).
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in plain.items()}
    header = None if metadata is None else {"json": json.dumps(metadata)}
    write_atomically(path, save(contiguous, header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        RunError: it is not there, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(f"there is no {path}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata() or {}
        return tensors, json.loads(header.get("json", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
