"""Runs nvcc's own PTX on the CPU: what is tested is what was compiled.

A block's threads advance together, those with the lowest program counter first, which is one of the
orders that a GPU may take. Every access to memory is checked: within an allocation, aligned, and
never a read of what was not written. Races are the business of the emulation (simt.h).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

WARP = 32
# Where the kernel's parameters and its shared arrays seem to be.
PARAMETERS, SHARED = 1 << 60, 1 << 16
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


def unsigned(dtype: np.dtype) -> np.dtype:
    """The unsigned integer of the same size."""
    return np.dtype(f"u{dtype.itemsize}")


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


COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "min": np.fmin,
    "max": np.fmax,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}

UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "not": np.invert,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rcp": np.reciprocal,
    "ex2": np.exp2,
    "lg2": np.log2,
}


ROUND_TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}

# What PTX packs two of into a register, the first operand in the upper half.
PAIRS = {"bf16x2": "bf16", "f16x2": "f16"}


def to_half(x: NDArray[np.float32], kind: str) -> NDArray[np.uint16]:
    """The bits of x as f16 or bf16, rounded to nearest, ties to even."""
    if kind == "f16":
        return x.astype(np.float16).view(np.uint16)
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def without_subnormals(x: Array) -> Array:
    """What .ftz makes of an operand or a result."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(np.zeros_like(x), x), x)


def rounded_down(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """x to float, towards minus infinity."""
    nearest = x.astype(np.float32)
    return np.where(nearest > x, np.nextafter(nearest, np.float32(-np.inf)), nearest)


class Block:
    """A block of threads at work: one value per thread in every register."""

    def __init__(
        self, kernel: Kernel, memory: Memory, block: int, blocks: int, args: bytes
    ) -> None:
        self.kernel = kernel
        self.memory = memory
        n = kernel.threads
        self.special = {
            "%tid.x": np.arange(n, dtype=np.uint32),
            "%ctaid.x": np.full(n, block, np.uint32),
            "%ntid.x": np.full(n, n, np.uint32),
            "%nctaid.x": np.full(n, blocks, np.uint32),
        }
        self.local = Memory()  # parameters and shared arrays
        self.local.add(PARAMETERS, args, written=True)
        for address, size in kernel.shared.values():
            self.local.add(address, bytes(size), written=False)
        self.registers: dict[str, Array] = {}
        self.pc = np.zeros(n, np.int64)
        self.done = np.zeros(n, bool)
        self.waiting = np.zeros(n, bool)
        self.executed = 0

    def run(self) -> int:
        """Runs all threads to their end; returns how many instructions they executed."""
        with np.errstate(all="ignore"):
            while not self.done.all():
                ready = ~(self.done | self.waiting)
                if ready.any():
                    self._step(ready)
                elif len(set(self.pc[self.waiting])) > 1:
                    raise PtxError("threads wait at different barriers")
                elif self.done.any() and self.waiting.any():
                    raise PtxError("some threads ended before a barrier")
                else:
                    self.waiting[:] = False
        return self.executed

    def _step(self, ready: NDArray[np.bool_]) -> None:
        pc = int(self.pc[ready].min())
        active = ready & (self.pc == pc)
        self.pc[active] += 1
        instruction = self.kernel.code[pc]
        if instruction.predicate:
            active = active & (self.registers[instruction.predicate] != instruction.negated)
        if not active.any():
            return
        self.executed += int(active.sum())
        handler = getattr(self, f"_{instruction.op}", None)
        try:
            if handler is not None:
                handler(instruction, active)
            else:
                self._arithmetic(instruction, active)
        except PtxError as error:
            raise PtxError(f"{error}; `{instruction.text}`") from None

    # ---- operands

    def _read(self, operand: str, kind: str) -> Array:
        n = len(self.pc)
        if kind == "pred":
            return self.registers[operand] if operand[0] == "%" else np.full(n, operand != "0")
        dtype = TYPES[kind]
        if operand in self.special:
            return self.special[operand].astype(dtype)
        if operand[0] == "%":
            return self.registers[operand].astype(unsigned(dtype)).view(dtype)
        if operand in self.kernel.shared:
            return np.full(n, self.kernel.shared[operand][0], dtype)
        if any(operand == name for name, _, _ in self.kernel.parameters):
            return np.full(n, PARAMETERS, dtype)
        if operand[:2] in ("0f", "0d"):
            bits = np.array(int(operand[2:], 16), f"u{len(operand[2:]) // 2}")
            return np.full(n, bits.view(dtype))
        return np.full(n, int(operand) % (1 << 8 * dtype.itemsize), unsigned(dtype)).view(dtype)

    def _write(self, operand: str, value: Array, active: NDArray[np.bool_]) -> None:
        if operand == "_":
            return
        if value.dtype != bool:
            # A register may be wider than the type: the rest is zero, or the sign.
            width = 2 if operand.startswith("%rs") else 4 if re.match(r"%[rf]\d", operand) else 8
            if value.dtype.itemsize < width:
                value = value.astype(f"{value.dtype.kind}{width}")
            value = np.ascontiguousarray(value).view(unsigned(value.dtype))
        old = self.registers.get(operand)
        self.registers[operand] = value if old is None else np.where(active, value, old)

    def _addresses(self, operand: str) -> list[int]:
        base, _, offset = operand.strip("[]").partition("+")
        kind = "u64" if base.startswith("%rd") or base[0] != "%" else "u32"
        return [int(a) + int(offset or 0) for a in self._read(base.strip(), kind)]

    # ---- memory

    def _space(self, modifiers: list[str]) -> Memory:
        return self.memory if "global" in modifiers else self.local

    def _registers_of(self, operand: str) -> list[str]:
        return [name.strip() for name in operand.strip("{}").split(",")]

    def _ld(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        dtype = TYPES[i.modifiers[-1]]
        names = self._registers_of(i.operands[0])
        size = dtype.itemsize * len(names)
        space, addresses = self._space(i.modifiers), self._addresses(i.operands[1])
        values = np.zeros((len(self.pc), len(names)), dtype)
        for thread in np.flatnonzero(active):
            what = f"{i.op} of {size} bytes by thread {thread}"
            values[thread] = space.load(addresses[thread], size, what).view(dtype)
        for k, name in enumerate(names):
            self._write(name, values[:, k], active)

    def _st(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        names = self._registers_of(i.operands[1])
        values = np.stack([self._read(name, kind) for name in names], axis=1)
        space, addresses = self._space(i.modifiers), self._addresses(i.operands[0])
        for thread in np.flatnonzero(active):
            what = f"{i.op} of {values[thread].nbytes} bytes by thread {thread}"
            space.store(addresses[thread], values[thread].view(np.uint8), what)

    def _atom(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        addresses, limits = self._addresses(i.operands[1]), self._read(i.operands[2], kind)
        old = np.zeros(len(self.pc), TYPES[kind])
        for thread in np.flatnonzero(active):
            what = f"{i.op} by thread {thread}"
            old[thread] = self.memory.load(addresses[thread], 4, what).view(TYPES[kind])[0]
            if "inc" not in i.modifiers:
                raise PtxError("an atomic that nothing here should need")
            new = 0 if old[thread] >= limits[thread] else old[thread] + 1
            self.memory.store(addresses[thread], np.array([new], TYPES[kind]).view(np.uint8), what)
        self._write(i.operands[0], old, active)

    # ---- control

    def _bra(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        self.pc[active] = self.kernel.labels[i.operands[0]]

    def _ret(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        self.done |= active

    def _bar(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        self.waiting |= active

    def _membar(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        pass

    _fence = _membar

    def _shfl(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        if "bfly" not in i.modifiers:
            raise PtxError("a shuffle that nothing here should need")
        threads = np.arange(len(self.pc))
        masks = self._read(i.operands[4], "u32")
        for first in range(0, len(self.pc), WARP):
            lanes = active[first : first + WARP]
            if lanes.any():
                mask = int(masks[first : first + WARP][lanes][0])
                there = int(np.packbits(lanes, bitorder="little").view(np.uint32)[0])
                if mask & ~there:
                    raise PtxError(f"a shuffle's mask {mask:#x} has lanes that are not there")
        sources = threads ^ self._read(i.operands[2], "u32").astype(np.int64)
        value, *found = i.operands[0].split("|")
        self._write(value, self._read(i.operands[1], "u32")[sources], active)
        if found:
            self._write(found[0], np.ones(len(self.pc), bool), active)

    # ---- values

    def _mov(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        if i.operands[0].startswith("{"):
            parts = self._registers_of(i.operands[0])
            bits = self._read(i.operands[1], kind)
            part = np.dtype(f"u{bits.dtype.itemsize // len(parts)}")
            for k, name in enumerate(parts):
                self._write(name, (bits >> np.uint64(8 * part.itemsize * k)).astype(part), active)
        elif i.operands[1].startswith("{"):
            parts = self._registers_of(i.operands[1])
            whole = TYPES[kind]
            width = 8 * whole.itemsize // len(parts)
            bits = np.zeros(len(self.pc), np.uint64)
            for k, name in enumerate(parts):
                bits |= self._read(name, f"u{width}").astype(np.uint64) << np.uint64(width * k)
            self._write(i.operands[0], bits.astype(whole), active)
        else:
            self._write(i.operands[0], self._read(i.operands[1], kind), active)

    _cvta = _mov

    def _cvt(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        *how, to, source = i.modifiers
        values = [self._read(operand, source) for operand in i.operands[1:]]
        if to in PAIRS:
            high, low = (to_half(value, PAIRS[to]).astype(np.uint32) for value in values)
            result = high << np.uint32(16) | low
        elif to == "bf16":
            result = to_half(values[0], to)
        else:
            value = values[0]
            for rounding in ROUND_TO_INTEGER.keys() & set(how):
                value = ROUND_TO_INTEGER[rounding](value)
            result = value.astype(TYPES[to])
        if "sat" in how:  # a NaN becomes 0
            result = np.fmax(np.fmin(result, np.ones_like(result)), np.zeros_like(result))
        self._write(i.operands[0], result, active)

    def _setp(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        how = i.modifiers[0]
        either_nan = (a != a) | (b != b)
        if how in ("nan", "num"):
            result = either_nan if how == "nan" else ~either_nan
        elif how in COMPARE:
            result = COMPARE[how](a, b) & ~(
                either_nan if how == "ne" else np.zeros_like(either_nan)
            )
        else:  # unordered: also true for a NaN
            result = COMPARE[how.removesuffix("u")](a, b) | either_nan
        self._write(i.operands[0], result, active)

    def _selp(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        self._write(i.operands[0], np.where(self.registers[i.operands[3]], a, b), active)

    def _mul(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        if "wide" in i.modifiers:
            wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
            result = a.astype(wide) * b.astype(wide)
        elif "hi" in i.modifiers:
            bits = 8 * a.dtype.itemsize
            high = [(int(x) * int(y)) >> bits for x, y in zip(a, b, strict=True)]
            result = np.array(high, a.dtype)
        else:
            result = a * b
        self._write(i.operands[0], result, active)

    def _fma(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b, c = (self._read(operand, kind) for operand in i.operands[1:])
        if i.op == "mad" and "wide" in i.modifiers:
            wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
            c = self._read(i.operands[3], f"{'s' if wide.kind == 'i' else 'u'}{8 * wide.itemsize}")
            result = a.astype(wide) * b.astype(wide) + c
        elif a.dtype == np.float32:  # exact product, one rounding in double before that to float
            wide_sum = a.astype(np.float64) * b + c
            result = rounded_down(wide_sum) if "rm" in i.modifiers else wide_sum.astype(np.float32)
        else:
            result = a * b + c
        self._write(i.operands[0], result, active)

    _mad = _fma

    def _shl(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        x, by = self._read(i.operands[1], kind), self._read(i.operands[2], "u32")
        bits = 8 * x.dtype.itemsize
        inside = np.minimum(by, bits - 1).astype(x.dtype)
        result = x << inside if i.op == "shl" else x >> inside
        if x.dtype.kind == "u":
            result = np.where(by < bits, result, np.zeros_like(x))
        self._write(i.operands[0], result, active)

    _shr = _shl

    def _bfi(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        inserted, into = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        position, length = (int(operand) for operand in i.operands[3:])
        mask = np.array((1 << length) - 1 << position, into.dtype)
        shifted = inserted << np.array(position, into.dtype)
        self._write(i.operands[0], (into & ~mask) | (shifted & mask), active)

    def _prmt(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        a, b, selector = (self._read(operand, "u32") for operand in i.operands[1:])
        both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
        result = np.zeros_like(a)
        for byte in range(4):
            control = selector >> np.uint32(4 * byte) & np.uint32(15)
            if (control[active] > 7).any():
                raise NotImplementedError(i.text)
            chosen = both >> (control.astype(np.uint64) & np.uint64(7)) * np.uint64(8)
            result |= (chosen & np.uint64(255)).astype(np.uint32) << np.uint32(8 * byte)
        self._write(i.operands[0], result, active)

    def _div(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        result = a / b if a.dtype.kind == "f" else a // np.where(b == 0, 1, b).astype(b.dtype)
        self._write(i.operands[0], result.astype(a.dtype), active)

    def _rem(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        a, b = self._read(i.operands[1], kind), self._read(i.operands[2], kind)
        self._write(i.operands[0], np.remainder(a, np.where(b == 0, 1, b).astype(b.dtype)), active)

    def _arithmetic(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind = i.modifiers[-1]
        values = [self._read(operand, kind) for operand in i.operands[1:]]
        table = UNARY if len(values) == 1 else BINARY
        if i.op not in table:
            raise NotImplementedError(i.text)
        flushes = "ftz" in i.modifiers
        if flushes:
            values = [without_subnormals(value) for value in values]
        result = table[i.op](*values).astype(values[0].dtype)
        self._write(i.operands[0], without_subnormals(result) if flushes else result, active)


def run(kernel: Kernel, memory: Memory, blocks: int, args: bytes) -> int:
    """Runs all blocks, the last first; returns how many instructions the threads executed."""
    return sum(
        Block(kernel, memory, block, blocks, args).run() for block in reversed(range(blocks))
    )
