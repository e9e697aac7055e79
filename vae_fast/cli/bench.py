"""`vae-fast bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from vae_fast.cli.console import plain_console
from vae_fast.cli.grouped import Device, FiniteRange, GroupedCommand, Threads, option
from vae_fast.training import choose_device

if TYPE_CHECKING:
    from rich.console import Console

    from vae_fast.bench.growth import Point
    from vae_fast.bench.report import Machine
    from vae_fast.bench.run import Result

_KINDS = ("kernel", "small", "step", "epoch", "growth")
_WIDTH = 150  # of a table that goes into a file


@click.command(cls=GroupedCommand)
@option(
    "What",
    "--only",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    show_default="all",
    help="Measure these alone; may be given again.",
)
@option(
    "What",
    "--images",
    type=click.IntRange(128),
    default=60_000,
    help="Of 784 pixels, that an epoch goes over.",
)
@option(
    "What",
    "--compile/--no-compile",
    "with_compile",
    default=True,
    help="Let torch.compile take part, which takes longest to prepare.",
)
@option(
    "How",
    "--seconds",
    type=FiniteRange(0, min_open=True),
    default=2.0,
    help="Spent on a row.",
)
@option("How", "--device", type=Device(), default="auto", help="auto is a GPU where there is one.")
@option("How", "--threads", type=Threads(), help="Threads of the CPU.  [default: torch's]")
@option(
    "How",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/bench"),
    metavar="FOLDER",
    help="Where the files go.",
)
def bench(
    kinds: tuple[str, ...],
    device: str,
    threads: int | None,
    seconds: float,
    with_compile: bool,
    images: int,
    out: Path,
) -> None:
    """Measure what this package gains on this machine.

    Eager PyTorch, torch.compile, JAX (where it is installed) and vae_fast take turns in one
    process:

    \b
    kernel  each function forward and backward, as training does it
    small   the same where a call's overhead is all there is
    step    a training step of pytorch/examples' VAE; a last layer with its likelihood
    epoch   an epoch of it; eager with the example's own loader
    growth  time over elements, threads, batch and width (3 minutes, 10 GB)

    Leaves in FOLDER bench.json and a picture for each: factors.png (how many times faster),
    roofline.png (how near the memory's speed), small.png, growth.png.
    """  # noqa: D301 - click's mark: these lines stay as they are
    from vae_fast.bench import machine, measure, report
    from vae_fast.bench.find_jax import find_jax
    from vae_fast.bench.growth import growth
    from vae_fast.bench.run import Setting, run

    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=_WIDTH)
    kinds = kinds or _KINDS
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    if chosen.index is not None:  # of several GPUs, the one that was named
        torch.accelerator.set_device_index(chosen.index)
    place = chosen.type
    jax, of_jax = find_jax(place)
    setting = Setting(place, seconds, with_compile, jax)
    conditions = measure.conditions(place) | {"JAX": of_jax}
    for name, value in conditions.items():
        console.print(f"{name:<16}{value}", soft_wrap=True)
    with console.status("the machine: copies and matrix products"):
        limits = report.Machine(conditions, machine.copy_bandwidth(place), machine.gemm_rate(place))
    rates = [rate * 1e-9 for rate in limits.copy_bandwidth.values()]
    console.print(f"{'copy':<16}{max(rates):.0f} GB/s in cache, {rates[-1]:.0f} GB/s beyond")
    console.print(f"{'matrix products':<16}{limits.gemm_rate * 1e-9:.0f} GFLOP/s\n")

    data = torch.randint(0, 256, (images, 784), dtype=torch.uint8)
    results = []
    with console.status("measuring") as status:
        for result in run(setting, kinds, data):
            results.append(result)
            status.update(f"measuring: {result.name} {result.size} is done")
        points = []
        for point in growth(setting) if "growth" in kinds else ():
            points.append(point)
            status.update(f"measuring: {point.name}, {point.axis} {point.at} is done")
    _print(console, results, points)
    written = _write(out, limits, results, points)
    console.print("written: " + " ".join(map(str, written)), soft_wrap=True)


def _print(console: Console, results: Sequence[Result], points: Sequence[Point]) -> None:
    from vae_fast.bench import growth_report, report

    small = [result for result in results if result.kind == "small"]
    large = [result for result in results if result.kind != "small"]
    if large:
        console.print(report.table(large))
        console.print(f"\n{report.LEGEND}\n", soft_wrap=True)
    if small:
        console.print(report.small_table(small))
        console.print(f"\n{report.SMALL_LEGEND}\n", soft_wrap=True)
    if points:
        for table in growth_report.tables(points):
            console.print(table)
            console.print()
        console.print(f"{growth_report.LEGEND}\n", soft_wrap=True)


def _write(
    out: Path, limits: Machine, results: Sequence[Result], points: Sequence[Point]
) -> list[Path]:
    from vae_fast.bench import report
    from vae_fast.plots.bench import plot_factors, plot_roofline, plot_small
    from vae_fast.plots.growth import plot_growth

    out.mkdir(parents=True, exist_ok=True)
    written = [out / "bench.json"]
    written[0].write_text(json.dumps(report.as_json(limits, results, points), indent=2) + "\n")
    pictures = (
        ("factors.png", plot_factors, [result for result in results if result.kind != "small"]),
        ("roofline.png", plot_roofline, [result for result in results if result.kind == "kernel"]),
        ("small.png", plot_small, [result for result in results if result.kind == "small"]),
    )
    for name, plot, shown in pictures:
        if shown:
            written.append(out / name)
            plot(written[-1], limits, shown)
    if points:
        written.append(out / "growth.png")
        plot_growth(written[-1], limits, points)
    return written
