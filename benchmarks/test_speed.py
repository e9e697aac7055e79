"""`make bench`: eager PyTorch, torch.compile and this package, side by side."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import CASES
from benchmarks.conftest import DEVICE, Row
from vae_fast.bench.cases import Case, moved_bytes
from vae_fast.bench.measure import Interleaved, OtherLoad, Step, copy_of, finished

SECONDS_PER_ROW = 5.0
WARM_UPS = 3


def check_agreement(case: Case, fused: Step, eager: Step) -> None:
    """The two compute the same loss, to the precision of plain PyTorch's sum; z is drawn."""
    if fused.outputs[-1].dim() > 0:
        return
    torch.testing.assert_close(
        fused.outputs[-1],
        eager.outputs[-1],
        rtol=1e-2 if case.dtype == torch.bfloat16 else 1e-4,
        atol=0,
        check_dtype=False,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.name}".replace(" ", "-"))
def test_speed(
    benchmark: BenchmarkFixture, case: Case, rows: list[Row], request: pytest.FixtureRequest
) -> None:
    inputs = case.inputs(DEVICE)
    fused, eager = Step(case.fused, inputs), Step(case.plain, inputs)
    check_agreement(case, fused, eager)
    nbytes = moved_bytes(inputs, fused.outputs)
    peers: dict[str, Callable[[], Any]] = {"copy": copy_of(nbytes, DEVICE), "eager": eager}
    if benchmark.enabled and not request.config.getoption("without_compile"):
        torch.compiler.reset()  # every row is compiled for its own shape
        peers["compile"] = Step(torch.compile(case.plain, dynamic=False), inputs)
    peers_in_turn = Interleaved(peers, DEVICE)
    timed = finished(fused, DEVICE)

    for _ in range(WARM_UPS):
        start = perf_counter()
        peers_in_turn()
        timed()
    rounds = min(1000, max(10, round(SECONDS_PER_ROW / (perf_counter() - start))))
    peers_in_turn.forget()

    benchmark.group = case.op
    other_load = OtherLoad()
    benchmark.pedantic(timed, setup=peers_in_turn, rounds=rounds)  # type: ignore[no-untyped-call]
    others = other_load()
    if benchmark.stats is None:  # not enabled
        return
    median, spread = benchmark.stats["median"], benchmark.stats["iqr"]
    medians = {name: timings.median for name, timings in peers_in_turn.timings.items()}
    for name, timings in peers_in_turn.timings.items():
        benchmark.extra_info.update(timings.as_info(name))
    benchmark.extra_info.update(
        {f"x_{name}": medians[name] / median for name in peers if name != "copy"},
        nbytes=nbytes,
        gigabytes_per_second=nbytes / median * 1e-9,
        fraction_of_copy=medians["copy"] / median,
        used_by_others=others,
    )
    rows.append(
        Row(
            case.op,
            case.name,
            medians["eager"],
            medians.get("compile"),
            median,
            spread,
            nbytes,
            medians["copy"],
            others,
        )
    )
