"""Files that are either the old ones or the new ones, never half of one or some of each."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_fast.data.reading import first_line

_WRITING, _WRITTEN = ".vae_fast.writing", ".vae_fast.written"  # folders beside the files
_JSON, _CHECKSUM = "json", "blake2b"  # in the header of a safetensors file


class RunError(RuntimeError):
    """A run's folder cannot be read, or is not what it should be; the message says why."""


def write_atomically(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files so that a crash at any moment leaves all old ones or, settled, all new ones.

    They are written into a folder beside them. Its one rename decides: before it nothing has
    happened, after it whoever comes next moves what is still in it to its place (`settle`).

    Args:
        folder: where they lie; nobody else writes there meanwhile.
        contents: by the file's name.

    Raises:
        OSError: they cannot be written, and every file is as it was (it names the file); or what
            is written cannot be moved.
    """
    # An interruption may have come between: before the rename was followed, or the folder filled.
    settle(folder)
    remove_unwritten(folder)
    new = folder / _WRITING
    new.mkdir()
    try:
        for name, content in contents.items():
            with naming(folder / name), (new / name).open("xb") as file:
                if (folder / name).is_dir():  # no rename replaces it
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(new)
        os.rename(new, folder / _WRITTEN)
    except BaseException:
        remove_unwritten(folder)
        raise
    _sync_folder(folder)
    settle(folder)


def is_settled(folder: Path) -> bool:
    """Whether each file that was written is in its place."""
    return not _is_ours(folder / _WRITTEN)


def settle(folder: Path) -> None:
    """Move to its place what `write_atomically` had written when its process was killed."""
    if not is_settled(folder):
        for path in (folder / _WRITTEN).iterdir():
            os.replace(path, folder / path.name)
        (folder / _WRITTEN).rmdir()


def remove_unwritten(folder: Path) -> None:
    """Remove what a process had not written yet when it was killed."""
    if _is_ours(folder / _WRITING):
        shutil.rmtree(folder / _WRITING)


def _is_ours(path: Path) -> bool:
    """A folder; a pipe would be waited for, and what a link leads to is somebody else's."""
    return path.is_dir() and not path.is_symlink()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the disk within it names the file: that of a write or an fsync does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def json_bytes(value: Any) -> bytes:
    """The content of a JSON file."""
    return (json.dumps(value, indent=2) + "\n").encode()


def lines_bytes(values: Iterable[Mapping[str, Any]]) -> bytes:
    """The content of a file of one JSON object a line."""
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Within it, whatever is wrong with a file of a run becomes one `RunError` that names it.

    Parsers raise anything over damaged bytes (RecursionError, MemoryError, ...); see
    `vae_fast.data.reading`.

    Raises:
        RunError: the block failed.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise RunError(f"{path} is not an ordinary file")
    try:
        yield
    except RunError:
        raise
    except FileNotFoundError:
        raise RunError(f"there is no {path}") from None
    except Exception as error:
        raise RunError(f"{path} cannot be read: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        RunError: it is not there, or is not that.
    """
    with parsing(path):
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise RunError(f"{path} holds {type(value).__name__}; expected an object")
    return value


def read_lines(path: Path) -> list[Any]:
    """The values of a file of one of JSON a line.

    Of a last line that does not end there is nothing: the disk was full, or the power was cut.

    Raises:
        RunError: it is not there, or is not that.
    """
    with parsing(path):
        whole, _, _ = path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


def tensors_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> bytes:
    """The content of a safetensors file; the metadata travel as JSON in its header.

    Beside them lies a checksum of both, since the format has none.
    """
    from safetensors.torch import save

    # Clones, because safetensors has no word for two tensors that share memory (tied weights).
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in plain.items()}
    header = {} if metadata is None else {_JSON: json.dumps(metadata)}
    header[_CHECKSUM] = _checksum(contiguous, header.get(_JSON, ""))
    content: bytes = save(contiguous, header)
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        RunError: it is not there, or is damaged.
    """
    from safetensors import safe_open

    with parsing(path):
        # By its descriptor: safetensors itself takes no name that is not UTF-8, and says of what
        # cannot be opened that it is not there.
        with path.open("rb") as opened, safe_open(f"/dev/fd/{opened.fileno()}", "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata() or {}
        text = header.get(_JSON, "")
        # Runs of release 0.1.0 have no checksum, nor has what other programs write.
        if _CHECKSUM in header and header[_CHECKSUM] != _checksum(tensors, text):
            raise RunError(f"{path} is damaged: its checksum is wrong")
        metadata = json.loads(text or "{}")
        if not isinstance(metadata, dict):
            raise RunError(f"{path} describes itself by {metadata!r:.80}; expected an object")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
