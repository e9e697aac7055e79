"""Reads machine code: the kernels of a compiled extension, their resources, their hot loops.

The tools are NVIDIA's, as packages: nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm. Neither they
nor this need a GPU.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import NamedTuple

LOOP_WORDS = r"L[A-Za-z_.$0-9]*"


def tool(name: str) -> str:
    """The path of a tool of NVIDIA's packages."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in Path(folder).glob(f"*/bin/{name}"):
            return str(path)
    raise FileNotFoundError(f"there is no {name}: pip install nvidia-cuda-{name}")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


@dataclass(frozen=True)
class Instruction:
    """One line of machine code: `@P0 LDG.E.128 R4, desc[UR4][R2.64]`."""

    predicate: str | None
    name: str
    operands: str

    @cached_property
    def kind(self) -> str:
        """The name without modifiers."""
        return self.name.partition(".")[0]

    @cached_property
    def target(self) -> str | None:
        """The label that a branch names; some ways out of a loop are calls within the kernel."""
        if self.kind not in ("BRA", "BRX", "JMP", "CALL"):
            return None
        found = re.search(rf"`\(\.({LOOP_WORDS})\)", self.operands)
        return found[1] if found else None

    @cached_property
    def ends_block(self) -> bool:
        return self.kind in ("BRA", "EXIT", "RET", "JMP", "BRX") or self.is_local_call

    @property
    def is_local_call(self) -> bool:
        return self.kind == "CALL" and self.target is not None

    @cached_property
    def is_global_access(self) -> bool:
        return self.kind in ("LDG", "STG")

    @cached_property
    def access(self) -> str:
        """`load 16`: what a global access does, and on how many bytes."""
        kind = "load" if self.name.startswith("LDG") else "store"
        sizes = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
        size = next((sizes[part] for part in self.name.split(".") if part in sizes), 4)
        return f"{kind} {size}"


class Cost(NamedTuple):
    """What an iteration issues, in all and to units that take less than a warp a clock."""

    instructions: int = 0
    alu: int = 0  # integers, comparisons, selections
    fma: int = 0
    mufu: int = 0  # reciprocals, exponentials, logarithms
    fp64: int = 0  # and conversions to and from it

    def plus(self, other: "Cost") -> "Cost":
        return Cost(*map(add, self, other))


_UNITS = {
    "alu": re.compile(r"LOP3|SHF|IADD|VIADD|[IFP]SETP|F?SEL|[FIV]?I?MNMX|PRMT|LEA|IABS|PLOP3|I2FP"),
    "fma": re.compile(r"FFMA|FMUL|FADD|IMAD"),
    "mufu": re.compile(r"MUFU"),
    "fp64": re.compile(r"D(ADD|MUL|FMA|SETP|MNMX)|F2F\.F(32\.F64|64\.F32)|[FI]2[FI].*64"),
}


@cache
def cost_of(name: str) -> Cost:
    """Of an instruction with this name."""
    return Cost(1, **{unit: int(bool(names.match(name))) for unit, names in _UNITS.items()})


@dataclass
class Block:
    """Instructions without a branch between them, and where they go on."""

    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)

    @cached_property
    def cost(self) -> Cost:
        return reduce(Cost.plus, (cost_of(i.name) for i in self.instructions), Cost())

    @cached_property
    def is_slow_path(self) -> bool:
        """Of a division, say."""
        return any(i.kind == "CALL" and not i.is_local_call for i in self.instructions)

    @cached_property
    def accesses(self) -> list[Instruction]:
        return [i for i in self.instructions if i.is_global_access]


@dataclass(frozen=True)
class Kernel:
    """A kernel for one architecture."""

    name: str
    architecture: str
    registers: int
    stack: int
    local: int
    shared: int
    code: tuple[str | Instruction, ...]  # labels are strings

    @property
    def instructions(self) -> Iterator[Instruction]:
        return (line for line in self.code if isinstance(line, Instruction))

    @cached_property
    def blocks(self) -> list[Block]:
        return _blocks(self.code)

    def count(self, prefix: str) -> int:
        return sum(i.name.startswith(prefix) for i in self.instructions)

    @cached_property
    def loops(self) -> list[frozenset[int]]:
        """The blocks of each loop, those with the most instructions first."""
        loops = _natural_loops(self.blocks)
        sizes = {loop: sum(len(self.blocks[b].instructions) for b in loop) for loop in loops}
        return sorted(loops, key=sizes.__getitem__, reverse=True)


def iteration_cost(kernel: Kernel, accesses: dict[str, int]) -> tuple[Cost, Cost, int] | None:
    """The cheapest and the dearest way through the hot loop, which is the one with these accesses.

    Of several the one that has the fewest besides: a loop over elements, each of which may be
    missing, has a way for any number of them.

    A loop for any dtype and layout has many ways through it. Those that access global memory as a
    certain call does, so many loads and stores of such sizes (or, where the compiler has unrolled
    the loop, a multiple of that), are what an iteration of that call can be.

    Args:
        kernel: the kernel.
        accesses: how many of each `Instruction.access` an iteration makes.

    Returns:
        The cheapest, the dearest, and how often the loop is unrolled; None where there is no such
        way.
    """
    for unrolled in (1, 2, 4, 8):
        wanted = {access: unrolled * n for access, n in accesses.items()}
        ways = {loop: _ways(kernel.blocks, loop, wanted) for loop in kernel.loops}
        found = {loop: way for loop, way in ways.items() if way is not None}
        if found:
            hot = min(found, key=lambda loop: sum(len(kernel.blocks[b].accesses) for b in loop))
            return *found[hot], unrolled
    return None


def _ways(
    blocks: list[Block], loop: frozenset[int], wanted: dict[str, int]
) -> tuple[Cost, Cost] | None:
    order = _topological(blocks, loop)
    header = order[0]
    kinds = sorted(wanted)
    goal = tuple(wanted[kind] for kind in kinds)
    # For each block and each number of accesses so far: the cheapest and the dearest way there.
    best: dict[int, dict[tuple[int, ...], tuple[Cost, Cost]]] = {b: {} for b in order}
    best[header][(0,) * len(kinds)] = (Cost(), Cost())
    found: tuple[Cost, Cost] | None = None
    position = {b: n for n, b in enumerate(order)}
    for b in order:
        for state, (low, high) in best[b].items():
            for after, cost in _through(blocks[b], state, kinds, goal):
                ends = low.plus(cost), high.plus(cost)
                for successor in blocks[b].successors:
                    if successor == header:
                        if after == goal:
                            found = _merged(found, ends)
                    elif successor in loop and position[successor] > position[b]:
                        best[successor][after] = _merged(best[successor].get(after), ends)
    return found


def _merged(a: tuple[Cost, Cost] | None, b: tuple[Cost, Cost]) -> tuple[Cost, Cost]:
    return b if a is None else (min(a[0], b[0]), max(a[1], b[1]))


def _through(
    block: Block, state: tuple[int, ...], kinds: list[str], goal: tuple[int, ...]
) -> list[tuple[tuple[int, ...], Cost]]:
    """What a block makes of the counts; several, since predicated accesses may not happen."""
    if block.is_slow_path:
        return []
    states = {state}
    for instruction in block.accesses:
        happens = set()
        if instruction.access in kinds:
            k = kinds.index(instruction.access)
            happens = {(*s[:k], s[k] + 1, *s[k + 1 :]) for s in states if s[k] < goal[k]}
        states = happens | (states if instruction.predicate else set())
    return [(s, block.cost) for s in states]


# ---- control flow --------------------------------------------------------------------------------


def _blocks(code: tuple[str | Instruction, ...]) -> list[Block]:
    blocks = [Block()]
    starts: dict[str, int] = {}
    for line in code:
        if isinstance(line, str):
            if blocks[-1].instructions:
                blocks.append(Block())
            starts[line] = len(blocks) - 1
        else:
            blocks[-1].instructions.append(line)
            if line.ends_block:
                blocks.append(Block())
    for number, block in enumerate(blocks):
        last = block.instructions[-1] if block.instructions else None
        if last is None or not last.ends_block:
            block.successors.append(number + 1)
            continue
        if last.target in starts:
            block.successors.append(starts[last.target])
        # BRA.DIV and BRA.CONV branch on what the warp does, without a predicate.
        if last.predicate or last.operands.startswith(("UR", "UP", "P", "!")) or "DIV" in last.name:
            block.successors.append(number + 1)
    for block in blocks:
        block.successors = [s for s in block.successors if s < len(blocks)]
    return blocks


def _depth_first(
    blocks: list[Block], start: int, inside: frozenset[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Reverse postorder of what can be reached inside, and the edges that lead back."""
    order: list[int] = []
    back: list[tuple[int, int]] = []
    seen, open_ = {start}, {start}
    stack = [(start, iter(blocks[start].successors))]
    while stack:
        node, successors = stack[-1]
        for s in successors:
            if s in open_:
                back.append((node, s))
            if s in inside and s not in seen:
                seen.add(s)
                open_.add(s)
                stack.append((s, iter(blocks[s].successors)))
                break
        else:
            stack.pop()
            open_.discard(node)
            order.append(node)
    return order[::-1], back


def _natural_loops(blocks: list[Block]) -> list[frozenset[int]]:
    """The loops, those with the same header as one."""
    order, back = _depth_first(blocks, 0, frozenset(range(len(blocks))))
    predecessors: dict[int, list[int]] = {b: [] for b in order}
    for b in order:
        for s in blocks[b].successors:
            predecessors[s].append(b)
    loops: dict[int, set[int]] = {}
    for end, header in back:
        body = loops.setdefault(header, {header})
        work = [end]
        while work:
            node = work.pop()
            if node not in body:
                body.add(node)
                work += predecessors[node]
    return [frozenset(body) for body in loops.values()]


def _topological(blocks: list[Block], loop: frozenset[int]) -> list[int]:
    """The loop's blocks from its header on, inner loops passed once."""
    entries = {s for b in range(len(blocks)) if b not in loop for s in blocks[b].successors}
    header = next(b for b in sorted(loop) if b in entries)
    return _depth_first(blocks, header, loop)[0]


# ---- reading -------------------------------------------------------------------------------------


def kernels_of(binary: Path, architecture: str, folder: Path) -> list[Kernel]:
    """The kernels of an extension (or a cubin) for an architecture such as `sm_90`.

    Args:
        binary: the file.
        architecture: which of those that it holds.
        folder: where to unpack it.
    """
    cubins = [binary]
    if binary.suffix != ".cubin":
        run(tool("cuobjdump"), "-xelf", architecture, binary.resolve(), cwd=folder)
        cubins = sorted(folder.glob(f"*{architecture}.cubin"))
    return [kernel for cubin in cubins for kernel in _kernels_of_cubin(cubin, architecture)]


def _kernels_of_cubin(cubin: Path, architecture: str) -> Iterator[Kernel]:
    resources: dict[str, dict[str, int]] = {}
    name = ""
    for line in run(tool("cuobjdump"), "--dump-resource-usage", cubin).splitlines():
        if found := re.match(r"\s*Function (.+):$", line):
            name = found[1]
        elif "REG:" in line:
            resources[name] = {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", line)}
    readable = demangled(list(resources))
    for name, code in _listings(run(tool("nvdisasm"), "-c", cubin)):
        if name in resources:
            r = resources[name]
            yield Kernel(
                readable[name], architecture, r["REG"], r["STACK"], r["LOCAL"], r["SHARED"], code
            )


def _listings(text: str) -> Iterator[tuple[str, tuple[str | Instruction, ...]]]:
    name, lines = "", list[str | Instruction]()
    for line in text.splitlines():
        if found := re.match(r"\s*\.section\s+(\S+?),", line):
            if name:
                yield name, tuple(lines)
            name, lines = found[1].removeprefix(".text.") if ".text." in found[1] else "", []
        elif found := re.match(rf"\.({LOOP_WORDS}):", line):
            lines.append(found[1])
        elif found := re.match(
            r"\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@(!?U?P\w+)\s+)?([A-Z]\S*)\s*(.*?)\s*;", line
        ):
            lines.append(Instruction(found[1], found[2], found[3]))
    if name:
        yield name, tuple(lines)


def demangled(names: list[str]) -> dict[str, str]:
    """Each as `rows<LossElement<BernoulliNll, true>, float, 4, true>`."""
    readable = run("c++filt", *names).splitlines() if names else []
    return dict(zip(names, map(_shortened, readable), strict=True))


def _shortened(text: str) -> str:
    text = re.sub(r"\(vae_fast.*\)$", "", text).removeprefix("void ")
    text = re.sub(r"vae_fast::(cuda::|portable::)?(\(anonymous namespace\)::)?", "", text)
    return text.replace("> >", ">>")
