"""Arrays as files: of every dtype, shape and layout, and damaged."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.attack.judge import Case, refused_or
from vae_fast.data import load
from vae_fast.data.sparse import rows

_LIMIT = 2**24
_GIGANTIC = 10**12


def cases(folder: Path) -> Iterator[Case]:
    """All of them."""
    random = np.random.default_rng(0)
    for name, array in _arrays(random):
        yield _npy(folder, name, array)
    for name, content in _damaged(random):
        yield Case(f"damaged {name}", partial(_attack, folder / f"{name}.npy", content, None))
    for name, content in _archives(random):
        yield Case(f"archive {name}", partial(_attack, folder / f"{name}.npz", content, None))
    for name, content in _sparse(random):
        yield Case(f"sparse {name}", partial(_attack_counts, folder / f"{name}.npz", content))


def _npy(folder: Path, name: str, array: np.ndarray) -> Case:
    saved = io.BytesIO()
    np.save(saved, array, allow_pickle=True)
    right = None
    if array.dtype.kind == "b":
        right = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f" or array.dtype == np.uint8:
        right = array.astype(np.uint8 if array.dtype == np.uint8 else np.float32)
    path = folder / f"{name.replace(' ', '-')}.npy"
    return Case(f"array {name}", partial(_attack, path, saved.getvalue(), right))


def _attack(path: Path, content: bytes, right: np.ndarray | None) -> str | None:
    path.write_bytes(content)

    def read() -> str | None:
        data = load(str(path), max_bytes=_LIMIT)
        values = torch.cat([data.train, data.test])
        if values.dtype not in (torch.uint8, torch.float32) or not values.isfinite().all():
            return f"{values.dtype} {values}"
        if right is None:
            return None if len(data.train) and len(data.test) else "an empty part"
        same = np.array_equal(np.sort(values.numpy(), axis=None), np.sort(right, axis=None))
        return None if same and len(values) == len(right) else "other values"

    fault = refused_or(read)
    path.unlink()
    return fault


def _attack_counts(path: Path, content: bytes) -> str | None:
    path.write_bytes(content)

    def read() -> str | None:
        data = load(str(path), max_bytes=_LIMIT, counts=True)
        values = torch.cat([rows(x, torch.arange(len(x))) for x in (data.train, data.test)])
        return None if values.double().frac().eq(0).all() and values.min() >= 0 else str(values)

    fault = refused_or(read)
    path.unlink()
    return fault


def _arrays(random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    for dtype in [
        "?",
        "u1",
        "i1",
        "<u2",
        ">i2",
        "<i4",
        ">u4",
        "<i8",
        "<u8",
        "<f2",
        ">f2",
        "<f4",
        ">f4",
        "<f8",
        ">f8",
        "g",
        "<c8",
        "<c16",
    ]:
        yield (
            f"of {dtype.strip('<>?')}{dtype[0] == '>'}",
            (random.random((12, 4)) * 9).astype(dtype),
        )
    yield "of text", np.full((12, 4), "abc")
    yield "of bytes", np.full((12, 4), b"abc")
    yield "of objects", np.full((12, 4), {}, object)
    yield "of times", np.zeros((12, 4), "M8[s]")
    yield "of records", np.zeros(12, [("a", "f4"), ("b", "u1")])
    yield "of records with letters", np.zeros(12, [("ä", "f4")])
    yield "of nothing", np.zeros((12, 4), "V3")
    shapes = (
        (),
        (0,),
        (5,),
        (0, 4),
        (5, 0),
        (2, 1),
        (1, 4),
        (9, 1),
        (9, 4, 4),
        (9, 1, 4, 4),
        (9, 3, 4, 4),
    )
    shapes += (
        (9, 4, 4, 3),
        (9, 4, 4, 1),
        (9, 4, 4, 4),
        (9, 2, 5, 7),
        (9, 2, 2, 2, 2),
        (2,) * 12,
        (9, 0, 4, 4),
    )
    for shape in shapes:
        for dtype in ("u1", "f4"):
            yield (
                f"{dtype} shaped {len(shape)} {sum(shape)}",
                (random.random(shape) * 200).astype(dtype),
            )
    for name, value in {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "beyond": 1e39}.items():
        for dtype in ("f4", "f8"):
            with np.errstate(over="ignore"):
                array = random.random((12, 4)).astype(dtype)
                array[7, 2] = value
            yield f"{dtype} with {name}", array
    yield "with tiny numbers", np.full((12, 4), 1e-310)
    yield "with -0", np.full((12, 4), -0.0)
    yield "in columns", np.asfortranarray(random.random((12, 4)))
    yield "pictures in columns", np.asfortranarray(random.random((12, 4, 4)).astype("f4"))
    yield "with strides", random.random((24, 8))[::2, ::-2]
    yield "zeros and ones", np.eye(12, dtype=np.uint8)


def _header(text: bytes, version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def _described(shape: object, descr: str = "'<f8'", order: object = False) -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


def _damaged(random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    saved = io.BytesIO()
    np.save(saved, random.random((12, 8)))
    whole = saved.getvalue()
    for kept in (0, 1, 6, 8, 10, 60, 128, 500, len(whole) - 1):
        yield f"cut-to-{kept}", whole[:kept]
    yield "zeros", bytes(500)
    yield "huge", _header(_described((_GIGANTIC, 784)))
    yield "huge-columns", _header(_described((_GIGANTIC, 784), order=True))
    yield "huge-bytes", _header(_described((_GIGANTIC, 9), "'|u1'"))
    yield "overflow", _header(_described((2**40, 2**40)))
    yield "negative", _header(_described((-5, 3)))
    yield "beyond-integers", _header(_described((10**30, 3)))
    yield "not-whole", _header(_described((2.5, 3)))
    yield "truth", _header(_described((True, 3))) + bytes(24)
    yield "calls", _header(_described("__import__('os').system('false')"))
    yield "objects", _header(_described((12, 8), "'|O'")) + bytes(800)
    yield "no-dtype", _header(_described((12, 8), "'nothing'"))
    yield "dtype-of-nothing", _header(_described((12, 8), "None"))
    yield "endless", _header(b"(" * 8999 + b"\n", b"\2\0")
    yield "nested", _header(b"(" * 3000 + b")" * 3000, b"\2\0")
    yield "four-gigabytes", b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b"{"
    yield "version-9", _header(_described((12, 8)), b"\x09\0")
    yield "without-shape", _header(b"{'descr': '<f8', 'fortran_order': False}")
    yield "pickle", b"\x80\x04cos\nsystem\n(S'false'\ntR."
    yield "an-archive", _zip({"train": whole})


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _saved(array: np.ndarray) -> bytes:
    saved = io.BytesIO()
    np.save(saved, array, allow_pickle=True)
    return saved.getvalue()


def _sparse(random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """scipy's table of 12 rows with 36 counts, each of its entries another thing, or missing."""
    good = {
        "format": np.array(b"csr"),
        "shape": np.array([12, 8]),
        "data": random.integers(0, 9, 36),
        "indices": random.integers(0, 8, 36),  # some twice, which scipy allows
        "indptr": np.arange(0, 37, 3),
    }
    others = {
        "whole": None,
        "empty": np.zeros(0),
        "negative": np.full(36, -1),
        "gigantic": np.full(13, 2**62),
        "fractions": np.full(36, 0.5),
        "nan": np.full(36, np.nan),
        "falling": np.arange(36, -1, -3),
        "text": np.array("csr"),
        "two-sizes": np.array([2**40, 2**40]),
        "in-columns": np.zeros((36, 1), int),
        "objects": np.full(36, {}, object),
    }
    for name in good:
        for kind, other in others.items():
            entries = good if other is None else good | {name: other}
            yield f"{name}-{kind}", _zip({f"{key}.npy": _saved(x) for key, x in entries.items()})
        rest = {f"{key}.npy": _saved(x) for key, x in good.items() if key != name}
        yield f"without-{name}", _zip(rest)


def _archives(random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    npy = _saved
    x, labels = npy(random.random((12, 8))), npy(np.arange(12))
    good = _zip({"train.npy": x})
    yield "empty", b""
    yield "no-entries", _zip({})
    yield "cut", good[: len(good) // 2]
    yield "text", _zip({"train": b"hello"})
    yield "text-array", _zip({"train.npy": b"hello"})
    yield "other-names", _zip({"a.npy": x, "b.npy": x})
    yield "above-itself", _zip({"../train.npy": x})
    yield "huge", _zip({"train.npy": _header(_described((_GIGANTIC, 784)))})
    yield "objects", _zip({"train.npy": npy(np.full((12, 8), {}, object))})
    yield "few-labels", _zip({"train.npy": x, "labels.npy": npy(np.arange(5))})
    yield "labels-of-objects", _zip({"train.npy": x, "labels.npy": npy(np.full(12, {}, object))})
    for order in (False, True):
        empty = _header(_described((0, 10**18) if order else (10**18, 0), order=order))
        yield f"labels-of-nothing-{order}", _zip({"train.npy": x, "labels.npy": empty})
    yield "other-test", _zip({"train.npy": x, "test.npy": npy(np.zeros((3, 5)))})
    yield "bytes-test", _zip({"train.npy": x, "test.npy": npy(np.zeros((3, 8), "u1"))})
    yield "labelled", _zip({"train.npy": x, "labels.npy": labels})
    yield "lzma", _zip({"train.npy": x}, zipfile.ZIP_LZMA)
    yield "bomb", _zip({"train.npy": npy(np.zeros((12, 2**18)))})
    for name, change in _bytes_of_archives().items():
        content = bytearray(good)
        change(content)
        yield name, bytes(content)


def _bytes_of_archives() -> dict[str, Callable[[bytearray], None]]:
    def deflate(content: bytearray) -> None:
        content[120:140] = b"\xff" * 20

    def encrypted(content: bytearray) -> None:
        content[6] |= 1
        content[content.find(b"PK\1\2") + 8] |= 1

    def method(content: bytearray) -> None:
        content[8] = content[content.find(b"PK\1\2") + 10] = 99

    def crc(content: bytearray) -> None:
        content[content.find(b"PK\1\2") + 16] ^= 1

    def size(content: bytearray) -> None:
        content[content.find(b"PK\1\2") + 24] ^= 255

    return {"deflate": deflate, "encrypted": encrypted, "method": method, "crc": crc, "size": size}
