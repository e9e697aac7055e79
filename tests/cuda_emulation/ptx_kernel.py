"""A kernel of a PTX module as it is written, and the memory that it works on."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Where a kernel's shared arrays seem to be, and what lies between them.
SHARED = 1 << 16
GUARD = 1 << 12

TYPES = {
    f"{kind}{bits}": np.dtype(f"{letter}{bits // 8}")
    for kind, letter, widths in (
        ("u", "u", (8, 16, 32, 64)),
        ("b", "u", (8, 16, 32, 64)),
        ("s", "i", (8, 16, 32, 64)),
        ("f", "f", (16, 32, 64)),
    )
    for bits in widths
}


class PtxError(Exception):
    """The kernel did something that it must not do."""


class Memory:
    """Allocations at given addresses, with a flag for each byte that was written."""

    def __init__(self) -> None:
        self.bases: list[int] = []
        self.data: list[NDArray[np.uint8]] = []
        self.written: list[NDArray[np.bool_]] = []

    def add(self, address: int, content: bytes, written: bool) -> None:
        """An allocation of exactly this content."""
        at = int(np.searchsorted(self.bases, address))
        self.bases.insert(at, address)
        self.data.insert(at, np.frombuffer(content, np.uint8).copy())
        self.written.insert(at, np.full(len(content), written))

    def find(self, address: int, size: int, what: str) -> tuple[int, int]:
        """The allocation and the offset of an access."""
        index = int(np.searchsorted(self.bases, address, side="right")) - 1
        offset = address - self.bases[index] if index >= 0 else 0
        if index < 0 or offset + size > len(self.data[index]):
            raise PtxError(f"out of bounds: {what} at {address:#x}")
        if address % size != 0:
            raise PtxError(f"misaligned: {what} at {address:#x}")
        return index, offset

    def load(self, address: int, size: int, what: str) -> NDArray[np.uint8]:
        """Bytes that were written before."""
        index, offset = self.find(address, size, what)
        if not self.written[index][offset : offset + size].all():
            raise PtxError(f"not initialised: {what} at {address:#x}")
        return self.data[index][offset : offset + size]

    def store(self, address: int, content: NDArray[np.uint8], what: str) -> None:
        """Writes bytes."""
        index, offset = self.find(address, len(content), what)
        self.data[index][offset : offset + len(content)] = content
        self.written[index][offset : offset + len(content)] = True

    def content(self, address: int) -> tuple[bytes, bool]:
        """An allocation's bytes, and whether all were written."""
        index = self.bases.index(address)
        return self.data[index].tobytes(), bool(self.written[index].all())


class Instruction(NamedTuple):
    """`@predicate op.modifiers operands`."""

    predicate: str
    negated: bool
    op: str
    modifiers: list[str]
    operands: list[str]
    text: str


class Kernel:
    """A kernel of a PTX module, parsed."""

    def __init__(self, module: str, name: str) -> None:
        start = module.index(f".entry {name}(")
        body = module[start : module.index("\n}", start)]
        self.name = name
        self.parameters = [
            (parameter, int(size or 0), kind)
            for kind, parameter, size in re.findall(
                r"\.param (?:\.align \d+ )?\.(\w+) (\w+)(?:\[(\d+)\])?", body[: body.index("{")]
            )
        ]
        if len(self.parameters) != 1:
            raise NotImplementedError("several arguments")
        self.threads = int(re.search(r"\.maxntid (\d+)", body)[1])
        self.shared: dict[str, tuple[int, int]] = {}  # address, bytes
        next_address = SHARED
        for alignment, kind, array, count in re.findall(
            r"\.shared \.align (\d+) \.(\w+) ([\w$]+)(?:\[(\d+)\])?;", module
        ):
            size = TYPES[kind].itemsize * int(count or 1)
            next_address = -(-next_address // int(alignment)) * int(alignment)
            self.shared[array] = (next_address, size)
            next_address += size + GUARD
        self.labels: dict[str, int] = {}
        self.code: list[Instruction] = []
        self._parse(body[body.index("{") + 1 :])

    def _parse(self, text: str) -> None:
        text = re.sub(r"//.*", "", text)
        for statement in re.split(r";|(?<=:)\s*\n", text):
            # Inline assembly comes in braces of its own.
            statement = " ".join(statement.split()).lstrip("{} ")
            while label := re.match(r"(\$\w+):\s*", statement):
                self.labels[label[1]] = len(self.code)
                statement = statement[label.end() :]
            if not statement or statement.startswith("."):
                continue
            parts = re.match(r"(?:@(!?)(%p\d+) )?(\S+)\s*(.*)", statement)
            op, *modifiers = parts[3].split(".")
            operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", parts[4])
            self.code.append(
                Instruction(
                    parts[2] or "",
                    parts[1] == "!",
                    op,
                    modifiers,
                    [o.strip() for o in operands],
                    statement,
                )
            )
