"""What a measurement leaves: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from vae_fast.bench.growth import Point
from vae_fast.bench.run import Result

_PEERS = ("eager", "compile", "jax")


@dataclass(frozen=True)
class Machine:
    """Under which conditions, and the machine's own limits.

    Attributes:
        conditions: what has to stand beside every figure.
        copy_bandwidth: bytes per second of a copy, by the bytes that it moves.
        gemm_rate: floating-point operations per second of a float32 matrix product.
    """

    conditions: dict[str, str]
    copy_bandwidth: dict[int, float]
    gemm_rate: float


def as_json(machine: Machine, results: Iterable[Result], points: Iterable[Point]) -> dict[str, Any]:
    """Everything, with the units in the names."""
    return {
        "conditions": machine.conditions,
        "copy_bytes_per_second": machine.copy_bandwidth,
        "gemm_flops": machine.gemm_rate,
        "results": [asdict(result) for result in results],
        "growth": [asdict(point) for point in points],
    }


def share(used_by_others: float | None) -> str:
    """Of the machine, in percent; "-" where unknown."""
    return "-" if used_by_others is None else f"{used_by_others:.0%}"


def _milliseconds(result: Result, peer: str) -> str:
    seconds = result.seconds.get(peer)
    return "-" if seconds is None else f"{seconds * 1e3:.3g}"


def _factor(result: Result, peer: str) -> str:
    factor = result.times_faster(peer)
    return "-" if factor is None else f"{factor:.1f}"


def table(results: Iterable[Result]) -> Table:
    """Medians, how many times faster, and what of the machine is used."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("forward + backward", no_wrap=True)
    made.add_column("size", no_wrap=True)
    times = ("eager ms", "compile ms", "JAX ms", "vae_fast ms", "spread")
    for title in (*times, "x eager", "x compile", "x JAX", "GB/s", "of copy", "others"):
        made.add_column(title, justify="right", no_wrap=True)
    for result in results:
        own = result.seconds["vae_fast"]
        copied = result.seconds.get("copy")
        made.add_row(
            result.name if result.kind == "kernel" else f"{result.name}, {result.kind}",
            result.size,
            *(_milliseconds(result, peer) for peer in (*_PEERS, "vae_fast")),
            f"{result.spread['vae_fast'] / own:.0%}",
            *(_factor(result, peer) for peer in _PEERS),
            "-" if result.nbytes is None else f"{result.nbytes / own * 1e-9:.1f}",
            "-" if copied is None else f"{copied / own:.0%}",
            share(result.used_by_others),
        )
    return made


def _microseconds(result: Result, peer: str) -> str:
    seconds = result.seconds.get(peer)
    return "-" if seconds is None else f"{seconds * 1e6:.1f}"


def _beside_jax(result: Result) -> str:
    """Who is ahead, and whether any autograd function of PyTorch could be."""
    if "jax" not in result.seconds:
        return "-"
    own, floor, jax = (result.seconds[peer] for peer in ("vae_fast", "floor", "jax"))
    if own <= jax:
        return "no slower"
    return "slower: engine" if floor > jax else "slower"


def small_table(results: Iterable[Result]) -> Table:
    """What a call costs, in microseconds, and what of it is autograd's engine."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("a call, forward + backward", no_wrap=True)
    made.add_column("size", no_wrap=True)
    times = ("eager us", "compile us", "JAX us", "engine us", "vae_fast us")
    for title in (*times, "spread", "x eager", "x JAX", "others"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("beside JAX", no_wrap=True)
    for result in results:
        made.add_row(
            result.name,
            result.size,
            *(_microseconds(result, peer) for peer in (*_PEERS, "floor", "vae_fast")),
            f"{result.spread['vae_fast'] / result.seconds['vae_fast']:.0%}",
            *(_factor(result, peer) for peer in ("eager", "jax")),
            share(result.used_by_others),
            _beside_jax(result),
        )
    return made


SMALL_LEGEND = """\
engine: what autograd asks for itself: one node of PyTorch's own in C++ (-a, or a + b) that wants as
many gradients, forward and backward. "slower: engine" says that this alone takes longer than JAX:
there no function that PyTorch differentiates can be as fast."""

LEGEND = """\
spread: interquartile range of vae_fast. x: how many times faster vae_fast is. GB/s: bytes that any
implementation must move, per second. of copy: that, as a fraction of what a copy of as many bytes
reaches here. others: share of the machine that other processes used; figures above 8% are not ones
to quote."""
