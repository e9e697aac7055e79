"""The pictures of `vae-fast bench`: how many times faster, and how near the machine's limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vae_fast.bench.report import Machine
from vae_fast.bench.run import Result
from vae_fast.plots.figure import COLORS, MUTED, figure, save, soften

# By the power of two.
_TICKS = {14: "16 kB", 16: "64 kB", 18: "256 kB", 20: "1 MB", 22: "4 MB", 24: "16 MB", 26: "64 MB"}
_TICKS |= {28: "256 MB", 30: "1 GB"}
_PEERS = (
    ("eager", "eager PyTorch", COLORS[1]),
    ("compile", "torch.compile", COLORS[2]),
    ("jax", "JAX", COLORS[3]),
)


def plot_factors(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """A bar for each contestant and row: its time over ours."""
    made = figure(9, 1.6 + 0.42 * len(results), "How many times as long as vae_fast others take")
    axes = made.subplots()
    for row, result in enumerate(results):
        present = [peer for peer in _PEERS if peer[0] in result.seconds]
        height = 0.8 / max(1, len(present))
        for k, (peer, _, color) in enumerate(present):
            factor = result.times_faster(peer) or 0.0
            y = row - 0.4 + (k + 0.5) * height
            axes.barh(y, factor, 0.9 * height, color=color)
            axes.text(factor, y, f" {factor:.1f}", va="center", fontsize=8)
    axes.axvline(1, color=COLORS[0], linewidth=2, label="vae_fast")
    for peer, label, color in _PEERS:
        if any(peer in result.seconds for result in results):
            axes.barh(0, 0, color=color, label=label)
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(results)), [_label(result) for result in results], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(x=0.08)
    axes.set_xlabel(f"time / time of vae_fast, forward + backward ({_where(machine)})", fontsize=9)
    made.legend(frameon=False, loc="outside lower center", ncols=4)
    soften(axes)
    save(made, path)


def plot_roofline(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """Bytes that must move per second, over how many they are, below what a copy reaches."""
    kernels = [result for result in results if result.nbytes is not None]
    made = figure(9, 5.6, "How near the kernels come to the memory's speed")
    axes = made.subplots()
    sizes = list(machine.copy_bandwidth)
    rates = [machine.copy_bandwidth[size] * 1e-9 for size in sizes]
    axes.plot(sizes, rates, color=MUTED, linewidth=2, label="a copy: the limit")
    for peer, label, color in (("vae_fast", "vae_fast", COLORS[0]), *_PEERS):
        points = [
            (result.nbytes, result.nbytes / result.seconds[peer] * 1e-9)
            for result in kernels
            if result.nbytes is not None and peer in result.seconds
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=color, label=label, alpha=0.85)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([1 << k for k in _TICKS], list(_TICKS.values()))
    axes.set_xlabel(f"bytes that any implementation must move ({_where(machine)})", fontsize=9)
    axes.set_ylabel("GB/s")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, loc="lower right")
    soften(axes)
    save(made, path)


def _label(result: Result) -> str:
    kind = "" if result.kind == "kernel" else f", {result.kind}"
    return f"{result.name}{kind}\n{result.size}"


def _where(machine: Machine) -> str:
    return f"{machine.conditions['machine']}, torch {machine.conditions['torch']}"
