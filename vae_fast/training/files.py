"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor


class RunError(RuntimeError):
    """A run's folder cannot be read, or is not what it should be; the message says why."""


def write_atomically(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files so that a crash at any moment leaves each of them the old one or the new one.

    None is replaced before all are on the disk: what does not fit there costs nothing.

    Args:
        folder: where they lie.
        contents: by the file's name, replaced in this order.

    Raises:
        OSError: they cannot be written; every file is as it was.
    """
    with ExitStack() as stack:
        temporaries = []
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=_temporary_prefix(name))
            stack.callback(Path(temporary).unlink, missing_ok=True)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
            temporaries.append(temporary)
        for name, temporary in zip(contents, temporaries, strict=True):
            os.replace(temporary, folder / name)
    _sync_folder(folder)


def remove_temporaries(folder: Path, names: Iterable[str]) -> None:
    """What a process that was killed while it wrote these files has left."""
    for name in names:
        for path in folder.glob(f"{_temporary_prefix(name)}*"):
            path.unlink(missing_ok=True)


def _temporary_prefix(name: str) -> str:
    return f".{name}."


def json_bytes(value: Any) -> bytes:
    """The content of a JSON file."""
    return (json.dumps(value, indent=2) + "\n").encode()


def lines_bytes(values: Iterable[Mapping[str, Any]]) -> bytes:
    """The content of a file of one JSON object a line."""
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


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

    Of a last line that does not end there is nothing: the disk was full, or the power was cut.

    Raises:
        RunError: it is not there, or is not that.
    """
    try:
        whole, _, _ = path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]
    except FileNotFoundError:
        raise RunError(f"there is no {path}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def tensors_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> bytes:
    """The content of a safetensors file; the metadata travel as JSON in its header."""
    from safetensors.torch import save

    # Clones, because safetensors has no word for two tensors that share memory (tied weights).
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in plain.items()}
    header = None if metadata is None else {"json": json.dumps(metadata)}
    content: bytes = save(contiguous, header)
    return content


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
