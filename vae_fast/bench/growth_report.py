"""The tables of how cost grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from vae_fast.bench.growth import Point
from vae_fast.bench.report import share


def _nanoseconds(seconds: float) -> str:
    value = seconds * 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cells(point: Point) -> tuple[str, ...]:
    if point.result is None:
        needed, free = (f"{nbytes * 1e-9:.3g} GB" for nbytes in point.missing or ())
        return ("-", "-", "-", "-", "-", f"not measured: takes {needed}, {free} are free")
    seconds, own = point.result.seconds, point.result.seconds["vae_fast"]
    return (
        _nanoseconds(seconds["eager"] / point.at),
        _nanoseconds(own / point.at),
        f"{point.result.spread['vae_fast'] / own:.0%}",
        f"{seconds['eager'] / own:.1f}",
        share(point.result.used_by_others),
        "",
    )


def functions_table(points: Iterable[Point]) -> Table:
    """Nanoseconds per element."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("forward + backward", no_wrap=True)
    for title in ("elements", "threads", "eager ns", "vae_fast ns", "spread", "x eager", "others"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("", no_wrap=True)
    for point in points:
        made.add_row(point.name, f"{point.at:,}", str(point.threads), *_cells(point))
    return made


def steps_table(points: Iterable[Point]) -> Table:
    """Milliseconds, and how many times as long as the step's matrix products."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("training step", no_wrap=True)
    times = ("products ms", "eager ms", "vae_fast ms", "spread")
    ratios = ("eager / products", "vae_fast / products")
    for title in (*times, *ratios, "others"):
        made.add_column(title, justify="right", no_wrap=True)
    for result in (point.result for point in points if point.result is not None):
        products, eager, own = (result.seconds[peer] for peer in ("products", "eager", "vae_fast"))
        made.add_row(
            result.size,
            *(f"{seconds * 1e3:.3g}" for seconds in (products, eager, own)),
            f"{result.spread['vae_fast'] / own:.0%}",
            *(f"{seconds / products:.2f}" for seconds in (eager, own)),
            share(result.used_by_others),
        )
    return made


def tables(points: Sequence[Point]) -> tuple[Table, Table]:
    """Of the functions, and of the step."""
    functions = [point for point in points if point.axis == "elements"]
    return functions_table(functions), steps_table(p for p in points if p.axis != "elements")


LEGEND = """\
ns: per element. products: the eleven matrix products of the step, by torch, and nothing else.
spread: interquartile range of vae_fast. x: how many times faster vae_fast is. others: share of the
machine that other processes used."""
