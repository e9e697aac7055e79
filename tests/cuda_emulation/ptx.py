"""Runs nvcc's own PTX on the CPU: what is tested is what was compiled.

A block's threads advance together, those with the lowest program counter first, which is one of the
orders that a GPU may take. Every access to memory is checked: within an allocation, aligned, and
never a read of what was not written. Races are the business of the emulation (simt.h).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from ptx_arithmetic import (
    BINARY,
    COMPARE,
    FUNCTIONS,
    ROUND_TO_INTEGER,
    UNARY,
    Array,
    fma_double,
    fma_float,
    saturated,
    to_float,
    to_half,
    to_integer,
    without_subnormals,
)
from ptx_kernel import TYPES, Instruction, Kernel, Memory, PtxError

WARP = 32
# Where the kernel's parameters seem to be.
PARAMETERS = 1 << 60

# What PTX packs two of into a register, the first operand in the upper half.
PAIRS = {"bf16x2": "bf16", "f16x2": "f16"}

# Of the instructions that compute: the modifiers, beside types, whose meaning is known here.
MODIFIERS = {
    op: set(modifiers.split())
    for ops, modifiers in (
        ("add", "rn rz rm rp ftz sat"),
        ("sub", "rn ftz sat"),
        ("mul", "rn ftz sat lo hi wide"),
        ("fma", "rn rz rm rp ftz sat"),
        ("mad", "lo wide"),
        ("min max", "ftz NaN"),
        ("neg abs", "ftz"),
        ("sqrt rcp div", "approx full rn ftz"),
        ("rsqrt ex2 lg2", "approx ftz"),
        ("cvt", "rn rz rm rp rni rzi rmi rpi ftz sat bf16 bf16x2 f16x2"),
        ("setp", "eq ne lt le gt ge equ neu ltu leu gtu geu num nan ftz"),
        ("shf", "l r wrap clamp"),
        ("and or xor not copysign rem selp shl shr bfi prmt lop3", ""),
    )
    for op in ops.split()
}


def unsigned(dtype: np.dtype) -> np.dtype:
    """The unsigned integer of the same size."""
    return np.dtype(f"u{dtype.itemsize}")


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
        known = MODIFIERS.get(instruction.op)
        if known is not None and not set(instruction.modifiers) <= known | {*TYPES, "pred"}:
            raise NotImplementedError(instruction.text)
        handler = getattr(self, f"_{instruction.op}", self._arithmetic)
        try:
            handler(instruction, active)
        except PtxError as error:
            raise PtxError(f"{error}; `{instruction.text}`") from None

    # ---- operands

    def _read(self, operand: str, kind: str) -> Array:
        n = len(self.pc)
        if kind == "pred":
            return self.registers[operand] if operand[0] == "%" else np.full(n, operand != "0")
        if kind == "bf16":
            return (self._read(operand, "u16").astype(np.uint32) << np.uint32(16)).view(np.float32)
        dtype = TYPES[kind]
        if operand in self.special:
            return self.special[operand].astype(dtype)
        if operand in self.registers:  # inline assembly has names of its own
            return self.registers[operand].astype(unsigned(dtype)).view(dtype)
        if operand[0] == "%":
            raise PtxError(f"{operand} is read before it is written")
        if operand in self.kernel.shared:
            return np.full(n, self.kernel.shared[operand][0], dtype)
        if any(operand == name for name, _, _ in self.kernel.parameters):
            return np.full(n, PARAMETERS, dtype)
        if operand[:2] in ("0f", "0d"):
            bits = np.array(int(operand[2:], 16), f"u{len(operand[2:]) // 2}")
            return np.full(n, bits.view(dtype))
        return np.full(n, int(operand, 0) % (1 << 8 * dtype.itemsize), unsigned(dtype)).view(dtype)

    def _write(self, operand: str, value: Array, active: NDArray[np.bool_]) -> None:
        if operand == "_":
            return
        if value.dtype != bool:
            # A register may be wider than the type: the rest is zero, or the sign.
            width = 2 if operand.startswith("%rs") else 4 if re.match(r"%[rf]\d", operand) else 8
            if value.dtype.kind == "f":
                value = np.ascontiguousarray(value).view(unsigned(value.dtype))
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

    def _operands(self, i: Instruction, kind: str) -> list[Array]:
        values = [self._read(operand, kind) for operand in i.operands[1:]]
        return [without_subnormals(x) for x in values] if "ftz" in i.modifiers else values

    def _write_float(self, i: Instruction, value: Array, active: NDArray[np.bool_]) -> None:
        if "sat" in i.modifiers:
            value = saturated(value)
        self._write(
            i.operands[0], without_subnormals(value) if "ftz" in i.modifiers else value, active
        )

    def _cvt(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        *how, to, source = i.modifiers
        rounding = next((h for h in how if h.startswith("r")), "")
        if to in ("f16", "bf16", *PAIRS):
            if source != "f32" or not set(how) <= {"rn", "ftz"}:
                raise NotImplementedError(i.text)
            halves = [to_half(x, PAIRS.get(to, to)) for x in self._operands(i, source)]
            result = halves[-1].astype(TYPES["u16" if len(halves) == 1 else "u32"])
            if len(halves) == 2:
                result |= halves[0].astype(np.uint32) << np.uint32(16)
            return self._write(i.operands[0], result, active)
        (x,) = self._operands(i, source)
        dtype = TYPES[to]
        if rounding in ROUND_TO_INTEGER:
            x = ROUND_TO_INTEGER[rounding](x)
        if dtype.kind == "f" and x.dtype.kind == "f":
            narrows = dtype.itemsize < x.dtype.itemsize
            return self._write_float(
                i, to_float(x, rounding) if narrows else x.astype(dtype), active
            )
        if "sat" in how or (dtype.kind == "f" and rounding != "rn"):
            raise NotImplementedError(i.text)
        result = to_integer(x, dtype) if x.dtype.kind == "f" else x.astype(dtype)
        self._write(i.operands[0], result, active)

    def _setp(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        if len(i.operands) != 3 or "|" in i.operands[0]:
            raise NotImplementedError(i.text)
        a, b = self._operands(i, i.modifiers[-1])
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
        if not {"wide", "hi"} & set(i.modifiers):
            return self._arithmetic(i, active)
        a, b = self._operands(i, i.modifiers[-1])
        if "wide" in i.modifiers:
            wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
            result = a.astype(wide) * b.astype(wide)
        else:
            bits = 8 * a.dtype.itemsize
            high = [(int(x) * int(y)) >> bits for x, y in zip(a, b, strict=True)]
            result = np.array(high, a.dtype)
        self._write(i.operands[0], result, active)

    def _fma(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        kind, rounding = i.modifiers[-1], i.modifiers[0]
        a, b, c = self._operands(i, kind)
        if kind == "f32":
            result = fma_float(a, b, c, rounding)
        elif kind == "f64" and rounding == "rn":
            result = np.zeros_like(a)
            result[active] = fma_double(a[active], b[active], c[active])
        else:
            raise NotImplementedError(i.text)
        self._write_float(i, result, active)

    def _mad(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        a, b, c = self._operands(i, i.modifiers[-1])
        if "wide" in i.modifiers:
            wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
            c = self._read(i.operands[3], f"{'s' if wide.kind == 'i' else 'u'}{8 * wide.itemsize}")
            a, b = a.astype(wide), b.astype(wide)
        self._write(i.operands[0], a * b + c, active)

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
            chosen = both >> (control.astype(np.uint64) & np.uint64(7)) * np.uint64(8)
            chosen &= np.uint64(255)
            sign = np.where(chosen >= 128, np.uint64(255), np.uint64(0))
            chosen = np.where(control > 7, sign, chosen)
            result |= chosen.astype(np.uint32) << np.uint32(8 * byte)
        self._write(i.operands[0], result, active)

    def _lop3(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        a, b, c, table = self._operands(i, "b32")
        result = np.zeros_like(a)
        for row in range(8):
            term = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            result |= term & -(table >> np.uint32(row) & np.uint32(1))
        self._write(i.operands[0], result, active)

    def _shf(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        low, high, by = (x.astype(np.uint64) for x in self._operands(i, "b32"))
        by = by & np.uint64(31) if "wrap" in i.modifiers else np.minimum(by, np.uint64(32))
        both = high << np.uint64(32) | low
        shifted = both << by >> np.uint64(32) if "l" in i.modifiers else both >> by
        self._write(i.operands[0], shifted.astype(np.uint32), active)

    def _div(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        a, b = self._operands(i, i.modifiers[-1])
        if a.dtype.kind == "f":
            return self._write_float(i, a / b, active)
        b = np.where(b == 0, 1, b).astype(b.dtype)
        self._write(i.operands[0], (a - np.fmod(a, b)) // b, active)  # towards zero

    def _rem(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        a, b = self._operands(i, i.modifiers[-1])
        self._write(i.operands[0], np.fmod(a, np.where(b == 0, 1, b).astype(b.dtype)), active)

    def _arithmetic(self, i: Instruction, active: NDArray[np.bool_]) -> None:
        if i.op not in MODIFIERS:
            raise NotImplementedError(i.text)
        values = self._operands(i, i.modifiers[-1])
        dtype = values[0].dtype
        if i.op in FUNCTIONS:
            result = FUNCTIONS[i.op](values[0].astype(np.float64)).astype(dtype)
        elif i.modifiers[0] in ("rz", "rm", "rp"):
            if dtype != np.float32:
                raise NotImplementedError(i.text)
            result = fma_float(values[0], np.ones_like(values[0]), values[1], i.modifiers[0])
        elif "NaN" in i.modifiers:
            result = np.where(values[0] != values[0], values[0], BINARY[i.op](*values))
            result = np.where(values[1] != values[1], values[1], result)
        else:
            result = (UNARY if len(values) == 1 else BINARY)[i.op](*values)
        if dtype.kind == "f":
            self._write_float(i, result, active)
        elif "sat" in i.modifiers:
            raise NotImplementedError(i.text)
        else:
            self._write(i.operands[0], result, active)


def run(kernel: Kernel, memory: Memory, blocks: int, args: bytes) -> int:
    """Runs all blocks, the last first; returns how many instructions the threads executed."""
    return sum(
        Block(kernel, memory, block, blocks, args).run() for block in reversed(range(blocks))
    )
