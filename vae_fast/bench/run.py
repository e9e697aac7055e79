"""Runs the cases: every contestant in turn, in one process, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from vae_fast.bench.cases import Case, kernels, moved_bytes
from vae_fast.bench.measure import Interleaved, OtherLoad, Step, copy_of

_WARM_UPS = 3


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Attributes:
        kind: "kernel", "step" or "epoch".
        name: what was measured.
        size: of it.
        seconds: of each contestant, the median.
        spread: of each, the interquartile range.
        rounds: how often each ran.
        nbytes: what any implementation of a kernel must move.
        used_by_others: share of the machine that other processes took meanwhile.
    """

    kind: str
    name: str
    size: str
    seconds: dict[str, float]
    spread: dict[str, float]
    rounds: int
    nbytes: int | None
    used_by_others: float | None

    def times_faster(self, peer: str) -> float | None:
        """Than this contestant; None where it did not run."""
        return self.seconds[peer] / self.seconds["vae_fast"] if peer in self.seconds else None


def race(
    kind: str,
    name: str,
    size: str,
    peers: dict[str, Callable[[], Any]],
    device: str,
    budget: float,
    nbytes: int | None = None,
) -> Result:
    """All of them in turn, for about so many seconds."""
    in_turn = Interleaved(peers, device)
    for _ in range(_WARM_UPS):
        start = perf_counter()
        in_turn()
    rounds = min(1000, max(5, round(budget / (perf_counter() - start))))
    in_turn.forget()
    others = OtherLoad()
    for _ in range(rounds):
        in_turn()
    share = others()
    return Result(
        kind,
        name,
        size,
        {peer: timings.median for peer, timings in in_turn.timings.items()},
        {peer: timings.iqr for peer, timings in in_turn.timings.items()},
        rounds,
        nbytes,
        share,
    )


def _kernel(case: Case, device: str, budget: float, with_compile: bool) -> Result:
    inputs = case.inputs(device)
    fused = Step(case.fused, inputs)
    nbytes = moved_bytes(inputs, fused.outputs)
    peers: dict[str, Callable[[], Any]] = {
        "copy": copy_of(nbytes, device),
        "eager": Step(case.plain, inputs),
    }
    if with_compile:
        torch.compiler.reset()  # every row is compiled for its own shape
        peers["compile"] = Step(torch.compile(case.plain, dynamic=False), inputs)
    peers["vae_fast"] = fused
    return race("kernel", case.op, case.name, peers, device, budget, nbytes)


def run(
    device: str, budget: float, with_compile: bool, kinds: tuple[str, ...], data: Tensor
) -> Iterator[Result]:
    """The rows, as they come.

    Args:
        device: "cpu" or "cuda".
        budget: seconds for a row.
        with_compile: whether torch.compile takes part.
        kinds: of the rows that are wanted.
        data: what an epoch goes over, uint8, (N, 784).
    """
    from vae_fast.bench.training import epoch_peers, step_peers

    if "kernel" in kinds:
        for case in kernels(device):
            yield _kernel(case, device, budget, with_compile)
    if "step" in kinds:
        for batch in (128, 512):
            torch.compiler.reset()
            peers = step_peers(device, batch, with_compile)
            yield race("step", "VAE 784-400-20", f"batch {batch}", peers, device, budget)
    if "epoch" in kinds:
        size = f"{len(data)} images, batch 128"
        yield race("epoch", "VAE 784-400-20", size, epoch_peers(device, data, 128), device, budget)
