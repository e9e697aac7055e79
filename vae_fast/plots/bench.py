"""The pictures of `vae-fast bench`: how many times faster, and how near the machine's limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_fast.bench.report import Machine
from vae_fast.bench.run import Result
from vae_fast.plots.figure import COLORS, MUTED, figure, plain_log, save, soften

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By the power of two.
_TICKS = {14: "16 kB", 16: "64 kB", 18: "256 kB", 20: "1 MB", 22: "4 MB", 24: "16 MB", 26: "64 MB"}
_TICKS |= {28: "256 MB", 30: "1 GB"}
_Peer = tuple[str, str, str]  # its key, its name, its colour
_MARKERS = ("o", "^", "D", "v", "P", "X", "s", "h")  # by function
_PEERS: tuple[_Peer, ...] = (
    ("eager", "eager PyTorch", COLORS[1]),
    ("compile", "torch.compile", COLORS[2]),
    ("jax", "JAX", COLORS[3]),
)
_ALL: tuple[_Peer, ...] = (("vae_fast", "vae_fast", COLORS[0]), *_PEERS)


def plot_factors(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """A bar for each contestant and row: its time over ours."""
    made, axes = _rows_of_bars("How many times as long as vae_fast others take", results, _PEERS)
    for row, y, height, peer, color in _bars(results, _PEERS):
        factor = results[row].times_faster(peer) or 0.0
        axes.barh(y, factor, height, color=color)
        axes.text(max(factor, 1.0), y, f" {factor:.1f}", va="center", fontsize=8)
    axes.axvline(1, color=COLORS[0], linewidth=2, label="vae_fast = 1")
    axes.set_xlabel(f"time / time of vae_fast, forward + backward ({where(machine)})", fontsize=9)
    made.legend(frameon=False, loc="outside lower center", ncols=4)
    save(made, path)


def plot_small(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """A bar for each contestant and row: its time; and the part that is autograd's engine."""
    made, axes = _rows_of_bars("What a call costs where the tensors are small", results, _ALL)
    for row, y, height, peer, color in _bars(results, _ALL):
        microseconds = results[row].seconds[peer] * 1e6
        axes.barh(y, microseconds, height, color=color)
        right = max(microseconds, results[row].seconds["floor"] * 1e6)
        axes.text(right, y, f" {microseconds:.0f}", va="center", fontsize=8)
    for row, result in enumerate(results):
        floor = result.seconds["floor"] * 1e6
        axes.plot([floor, floor], [row - 0.42, row + 0.42], color="black", linewidth=1.5)
    axes.plot([], [], color="black", linewidth=1.5, label="autograd's engine alone")
    axes.set_xlabel(f"microseconds, forward + backward ({where(machine)})", fontsize=9)
    made.legend(frameon=False, loc="outside lower center", ncols=5)
    save(made, path)


def _rows_of_bars(
    title: str, results: Sequence[Result], peers: Sequence[_Peer]
) -> tuple[Figure, Axes]:
    """An empty diagram with a labelled place for every row, the first on top."""
    made = figure(9, 1.6 + 0.5 * len(results), title)
    axes = made.subplots()
    for peer, label, color in peers:
        if any(peer in result.seconds for result in results):
            axes.barh(0, 0, color=color, label=label)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(results)), [_label(result) for result in results], fontsize=9)
    axes.margins(x=0.08)
    soften(axes)
    return made, axes


def _bars(
    results: Sequence[Result], peers: Sequence[_Peer]
) -> Iterator[tuple[int, float, float, str, str]]:
    """Row, middle, height, contestant and colour of each bar that has a figure."""
    for row, result in enumerate(results):
        present = [(peer, color) for peer, _, color in peers if peer in result.seconds]
        height = 0.8 / max(1, len(present))
        for k, (peer, color) in enumerate(present):
            yield row, row - 0.4 + (k + 0.5) * height, 0.9 * height, peer, color


def plot_roofline(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """Bytes that must move per second, over how many they are, below what a copy reaches."""
    made = figure(9, 6.2, "How near the kernels come to the memory's speed")
    axes = made.subplots()
    sizes = list(machine.copy_bandwidth)
    rates = [machine.copy_bandwidth[size] * 1e-9 for size in sizes]
    axes.plot(sizes, rates, color=MUTED, linewidth=2, label="a copy: the limit")
    shapes = dict(zip(dict.fromkeys(result.name for result in results), _MARKERS, strict=False))
    for result in results:
        for peer, _, color in _ALL:
            if result.nbytes is not None and peer in result.seconds:
                rate = result.nbytes / result.seconds[peer] * 1e-9
                axes.plot(result.nbytes, rate, shapes[result.name], color=color, alpha=0.85)
    for peer, label, color in _ALL:
        if any(peer in result.seconds for result in results):
            axes.plot([], [], "s", color=color, label=label)
    for name, marker in shapes.items():
        axes.plot([], [], marker, color=MUTED, fillstyle="none", label=name)
    plain_log(axes)
    axes.set_xticks([1 << k for k in _TICKS], list(_TICKS.values()))
    axes.set_xlim(min(result.nbytes or sizes[0] for result in results) / 2, 2 * sizes[-1])
    axes.set_xlabel(f"bytes that any implementation must move ({where(machine)})", fontsize=9)
    axes.set_ylabel("GB/s of those bytes, forward + backward: higher is faster")
    made.legend(frameon=False, loc="outside lower center", ncols=4, fontsize=9)
    soften(axes)
    save(made, path)


def _label(result: Result) -> str:
    kind = f", {result.kind}" if result.kind in ("step", "epoch") else ""
    return f"{result.name}{kind}\n{result.size}"


def where(machine: Machine) -> str:
    """The machine and the torch that stand below a picture."""
    return f"{machine.conditions['machine']}, torch {machine.conditions['torch']}"
