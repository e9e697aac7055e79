"""Runs the cases: every contestant in turn, in one process, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vae_fast.bench import plain
from vae_fast.bench.cases import SMALL, Case, kernels, moved_bytes
from vae_fast.bench.measure import Interleaved, OtherLoad, Step, copy_of

_WARM_UPS = 3
_TURNS = 5


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Attributes:
        kind: "kernel", "small", "step", "epoch" or "growth".
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


@dataclass(frozen=True)
class Setting:
    """How rows are measured, and who takes part beside eager PyTorch and this package.

    Attributes:
        device: "cpu" or "cuda".
        budget: seconds for a row.
        with_compile: whether torch.compile takes part.
        jax: `vae_fast.bench.jax_peers`, where JAX takes part.
    """

    device: str
    budget: float
    with_compile: bool
    jax: ModuleType | None


def race(
    kind: str,
    name: str,
    size: str,
    peers: dict[str, Callable[[], Any]],
    setting: Setting,
    nbytes: int | None = None,
) -> Result:
    """All of them in turn, for about as long as the setting says.

    JAX has turns of its own, of many runs each: its threads and torch's spin after their work, and
    would slow down whoever comes next. Its operands stay in the cache meanwhile, which the others,
    who displace each other's, do not get.
    """
    of_torch = {peer: run for peer, run in peers.items() if peer != "jax"}
    of_jax = {peer: run for peer, run in peers.items() if peer == "jax"}
    groups = [Interleaved(group, setting.device) for group in (of_torch, of_jax) if group]
    once = 0.0
    for group in groups:
        for _ in range(_WARM_UPS):
            start = perf_counter()
            group()
        once += perf_counter() - start
        group.forget()
    turns = _TURNS if len(groups) > 1 else 1
    rounds = min(1000, max(5, round(setting.budget / once)))
    others = OtherLoad()
    for turn in range(turns):
        for group in groups:
            if len(groups) > 1:
                group.settle()
            for _ in range(turn, rounds, turns):
                group()
    share = others()
    timings = {peer: times for group in groups for peer, times in group.timings.items()}
    return Result(
        kind,
        name,
        size,
        {peer: times.median for peer, times in timings.items()},
        {peer: times.iqr for peer, times in timings.items()},
        rounds,
        nbytes,
        share,
    )


def _contestants(
    case: Case, inputs: list[Tensor], fused: Step, setting: Setting
) -> dict[str, Callable[[], Any]]:
    """Whoever computes a case, forward and backward."""
    peers: dict[str, Callable[[], Any]] = {"eager": Step(case.plain, inputs)}
    if setting.with_compile:
        torch.compiler.reset()  # every row is compiled for its own shape
        peers["compile"] = Step(torch.compile(case.plain, dynamic=False), inputs)
    if setting.jax is not None and case.op in setting.jax.FUNCTIONS:
        peers["jax"] = setting.jax.kernel_peer(case, inputs, setting.device)
    return peers | {"vae_fast": fused}


def _kernel(case: Case, setting: Setting) -> Result:
    inputs = case.inputs(setting.device)
    fused = Step(case.fused, inputs)
    nbytes = moved_bytes(inputs, fused.outputs)
    peers = {"copy": copy_of(nbytes, setting.device)}
    peers |= _contestants(case, inputs, fused, setting)
    return race("kernel", case.op, case.name, peers, setting, nbytes)


def _small(case: Case, setting: Setting) -> Result:
    inputs = case.inputs(setting.device)
    floor = Step(plain.engine_floor, [x for x in inputs if x.requires_grad])
    peers: dict[str, Callable[[], Any]] = {"floor": floor}
    peers |= _contestants(case, inputs, Step(case.fused, inputs), setting)
    return race("small", case.op, case.name, peers, setting)


def run(setting: Setting, kinds: tuple[str, ...], data: Tensor) -> Iterator[Result]:
    """The rows, as they come.

    Args:
        setting: how, and who takes part.
        kinds: of the rows that are wanted.
        data: what an epoch goes over, uint8, (N, 784).
    """
    from vae_fast.bench.last_layer import INPUTS, LIKELIHOODS, OUTPUTS, ROWS, layer_peers
    from vae_fast.bench.training import epoch_peers, step_peers

    if "kernel" in kinds:
        for case in kernels(setting.device):
            yield _kernel(case, setting)
    if "small" in kinds:
        for case in SMALL:
            yield _small(case, setting)
    if "step" in kinds:
        for batch in (128, 512):
            torch.compiler.reset()
            peers = step_peers(setting.device, batch, setting.with_compile)
            if setting.jax is not None:
                peers["jax"] = setting.jax.step_peer(setting.device, batch)
            yield race("step", "VAE 784-400-20", f"batch {batch}", peers, setting)
        for likelihood in LIKELIHOODS:
            torch.compiler.reset()
            peers = layer_peers(setting.device, likelihood, setting.with_compile)
            name = f"linear_nll, {likelihood}"
            yield race("step", name, f"{ROWS}x({INPUTS}->{OUTPUTS})", peers, setting)
    if "epoch" in kinds:
        size = f"{len(data)} images, batch 128"
        peers = epoch_peers(setting.device, data, 128)
        if setting.jax is not None:
            peers["jax"] = setting.jax.epoch_peer(setting.device, data, 128)
        yield race("epoch", "VAE 784-400-20", size, peers, setting)
