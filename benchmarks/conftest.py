"""The report: what was measured, under which conditions, as one table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import vae_fast as vf
from tests.device import DEVICE
from vae_fast.bench.measure import conditions


@dataclass(frozen=True)
class Row:
    """A line of the table; times in seconds."""

    op: str
    size: str
    eager: float
    compile: float | None
    fused: float
    spread: float
    nbytes: int
    copy: float
    others: float | None

    def cells(self) -> Iterator[str]:
        yield from (self.op, self.size)
        for time in (self.eager, self.compile, self.fused):
            yield "-" if time is None else f"{time * 1e3:.3f}"
        yield f"{self.spread / self.fused:.0%}"
        for time in (self.eager, self.compile):
            yield "-" if time is None else f"{time / self.fused:.1f}"
        yield f"{self.nbytes / self.fused * 1e-9:.1f}"
        yield f"{self.copy / self.fused:.0%}"
        yield "-" if self.others is None else f"{self.others:.0%}"


TITLES = (
    *("op", "size", "eager ms", "compile ms", "vae_fast ms", "spread"),
    *("x eager", "x compile", "GB/s", "of copy", "others"),
)
ROWS = pytest.StashKey[list[Row]]()
CONDITIONS = pytest.StashKey[dict[str, str]]()


def table(rows: list[Row]) -> Iterator[str]:
    """The rows under their titles, in columns: two of text, then numbers."""
    lines = [TITLES, *(tuple(row.cells()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        texts = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths[:2], strict=True)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(cells[2:], widths[2:], strict=True)]
        yield "  ".join(texts + numbers)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-compile", action="store_true", help="leave torch.compile out (it takes longest)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []
    if DEVICE != "cpu" and not (torch.cuda.is_available() and vf.build_info().cuda_kernels):
        raise pytest.UsageError(f"on {DEVICE} there is no GPU, or no kernel for it: make gpu")
    config.stash[CONDITIONS] = conditions(DEVICE)
    # One table; pytest-benchmark's own, of the same times without the peers, where it compares.
    if not config.getoption("benchmark_compare", None):
        config.option.benchmark_quiet = True


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["vae_fast"] = config.stash[CONDITIONS]


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    return request.config.stash[ROWS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("forward + backward, medians, interleaved")
    for name, value in config.stash[CONDITIONS].items():
        write(f"{name:<16}{value}")
    write("")
    for line in table(rows):
        write(line)
    write("")
    write("spread   interquartile range of vae_fast")
    write("x        how many times faster vae_fast is")
    write("GB/s     bytes that must move, per second")
    write("of copy  that, as a fraction of the copy bandwidth measured at that size")
    write("others   of the machine, used by other processes: not a figure to quote above 8%")
