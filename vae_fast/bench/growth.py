"""How cost grows: with the number of elements and of threads, with a step's batch and width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from vae_fast.bench.cases import growing
from vae_fast.bench.machine import free_memory
from vae_fast.bench.measure import Step
from vae_fast.bench.run import Result, Setting, race
from vae_fast.bench.training import HIDDEN, step_peers

ELEMENTS = tuple(10**k for k in range(9))
BATCHES = tuple(4**k for k in range(7))
WIDTHS = tuple(64 << k for k in range(7))
BATCH = 128  # of the steps whose width grows

# The peak of the plain sampler: operands, gradients, and every temporary that its backward keeps.
# Measured: 88.
_BYTES_PER_ELEMENT = 96


@dataclass(frozen=True)
class Point:
    """A place on a curve.

    Attributes:
        name: the function's, or "step".
        axis: what grows: "elements", "batch" or "width".
        at: how much of it.
        threads: of the CPU.
        result: what was measured; None where memory is too small for it.
        missing: the bytes that it would take, and those that are free; None where it was measured.
    """

    name: str
    axis: str
    at: int
    threads: int
    result: Result | None
    missing: tuple[int, int] | None = None


def _function(op: str, elements: int, setting: Setting) -> Point:
    threads = torch.get_num_threads()
    free, needed = free_memory(setting.device), _BYTES_PER_ELEMENT * elements
    if free is not None and needed > free:
        return Point(op, "elements", elements, threads, None, (needed, free))
    case = growing(op, elements)
    inputs = case.inputs(setting.device)
    peers: dict[str, Callable[[], Any]] = {
        "eager": Step(case.plain, inputs),
        "vae_fast": Step(case.fused, inputs),
    }
    result = race("growth", op, case.name, peers, setting)
    return Point(op, "elements", elements, threads, result)


def _step(axis: str, at: int, batch: int, width: int, setting: Setting) -> Point:
    peers = step_peers(setting.device, batch, with_compile=False, hidden=width)
    size = f"batch {batch}, width {width}"
    result = race("growth", "step", size, peers, setting)
    return Point("step", axis, at, torch.get_num_threads(), result)


def growth(setting: Setting) -> Iterator[Point]:
    """The points, as they come: two functions on one thread and on all, then the training step.

    Eager PyTorch and this package alone: torch.compile would compile for minutes, and JAX cannot
    change the number of its threads.
    """
    threads = torch.get_num_threads()
    try:
        for op in ("bernoulli_nll", "reparameterize_kl"):
            for elements in ELEMENTS:
                for count in sorted({1, threads} if setting.device == "cpu" else {threads}):
                    torch.set_num_threads(count)
                    yield _function(op, elements, setting)
    finally:
        torch.set_num_threads(threads)
    for batch in BATCHES:
        yield _step("batch", batch, batch, HIDDEN, setting)
    for width in WIDTHS:
        yield _step("width", width, BATCH, width, setting)
