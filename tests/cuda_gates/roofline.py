"""What the machine code says about speed: which unit of a GPU each kernel would be limited by.

A model, not a measurement: all units are taken to overlap perfectly, and HBM to deliver all of its
peak bandwidth to whoever asks for enough.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FIGURES = Path(__file__).parent / "figures.json"
BLOCK_WARPS = 8
WARP = 32
REGISTERS = 65536


@dataclass(frozen=True)
class Card:
    """A GPU: per multiprocessor and clock, how many threads' instructions a unit takes."""

    name: str
    multiprocessors: int
    gigahertz: float  # while all of it works
    gigabytes_per_second: float
    max_warps: int
    fma: int
    fp64: int
    issue: int = 128
    alu: int = 64
    mufu: int = 16
    latency_ns: float = 700.0  # of HBM under load

    def blocks(self, registers: int) -> int:
        """Blocks of 256 threads that a multiprocessor holds."""
        per_warp = -(-registers * WARP // 256) * 256
        return min(self.max_warps, REGISTERS // per_warp) // BLOCK_WARPS


# From NVIDIA's data sheets and the tables of the CUDA C++ Programming Guide (arithmetic
# throughput, compute capabilities). Clocks: what the cards hold under load, not their peak.
CARDS = (
    Card("A100 80 GB", 108, 1.41, 2039, 64, 64, 32),
    Card("H100 SXM", 132, 1.755, 3350, 64, 128, 64),
    Card("RTX 4090", 128, 2.52, 1008, 48, 128, 2),
)


@dataclass(frozen=True)
class Figure:
    """A row of the table: a kernel serving one kind of call, per element.

    The counts are of the cheapest way through the loop that such a call can take, `dearest` is the
    instructions of the dearest one.
    """

    call: str
    dtype: str
    kernel: str
    read: int  # bytes
    written: int
    elements: int  # that a thread has under way
    instructions: float
    alu: float
    fma: float
    mufu: float
    fp64: float
    dearest: float
    registers: int

    def occupancy(self, card: Card) -> float:
        return card.blocks(self.registers) * BLOCK_WARPS / card.max_warps

    def nanoseconds(self, card: Card) -> dict[str, float]:
        """Per element, for each unit, if nothing else held it up."""
        clock = card.multiprocessors * card.gigahertz
        threads = card.multiprocessors * card.blocks(self.registers) * BLOCK_WARPS * WARP
        return {
            "memory": (self.read + self.written) / card.gigabytes_per_second,
            "latency": card.latency_ns / (threads * self.elements),
            "issue": self.instructions / (card.issue * clock),
            "ALU": self.alu / (card.alu * clock),
            "FMA": self.fma / (card.fma * clock),
            "MUFU": self.mufu / (card.mufu * clock),
            "FP64": self.fp64 / (card.fp64 * clock),
        }

    def fraction(self, card: Card) -> tuple[float, str]:
        """Of the peak bandwidth, and what it is limited by."""
        times = self.nanoseconds(card)
        limit = max(times, key=times.__getitem__)
        return times["memory"] / times[limit], limit


def read() -> list[Figure]:
    return [Figure(**row) for row in json.loads(FIGURES.read_text())]


def write(figures: list[Figure]) -> None:
    rows = ",\n".join(json.dumps(asdict(figure)) for figure in figures)
    FIGURES.write_text(f"[\n{rows}\n]\n")


def table(figures: list[Figure]) -> Iterator[str]:
    """The lines of docs/cuda.md."""
    yield (
        "| call | dtype | bytes | instructions | MUFU | registers | "
        + " | ".join(f"{card.name}: occupancy, of peak bandwidth" for card in CARDS)
        + " |"
    )
    yield "| --- | --- | " + " | ".join(["---:"] * (4 + len(CARDS))) + " |"
    for f in figures:
        cells = [
            f.call,
            f.dtype,
            str(f.read + f.written),
            f"{f.instructions:.0f} to {f.dearest:.0f}"
            if round(f.dearest) != round(f.instructions)
            else f"{f.instructions:.0f}",
            f"{f.mufu:.2g}",
            str(f.registers),
        ]
        for card in CARDS:
            fraction, limit = f.fraction(card)
            text = f"{f.occupancy(card):.0%}, {fraction:.0%}"
            cells.append(text if limit == "memory" else f"{text} ({limit})")
        yield "| " + " | ".join(cells) + " |"
