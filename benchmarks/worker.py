"""One side of `make bench-against`: measures the cases of the tree that it is told to import.

A line of JSON comes in on stdin, one goes out on stdout: {"prepare": case} makes a case ready and
answers with the seconds of one run; {"run": n} answers with n timings; {"used": true} with the
processor's seconds that this process has used. It ends with its stdin.

It is the same program for both trees, and asks of the older one no more than its table of cases.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import vae_fast as vf
from vae_fast.bench import cases
from vae_fast.bench.measure import Step, finished
from vae_fast.bench.training import step_peers

_WARM_UPS = 3
_SETTLING = 0.02  # how long the other side's threads may still look for work


def _kernel(case: cases.Case, device: str) -> Callable[[], Any]:
    return Step(case.fused, case.inputs(device))


def makers(device: str) -> dict[str, Callable[[], Callable[[], Any]]]:
    """By the case's name, what makes one run of it."""
    small = getattr(cases, "SMALL", ())  # earlier trees have none
    made: dict[str, Callable[[], Callable[[], Any]]] = {
        f"{case.op} {case.name}": lambda case=case: _kernel(case, device)
        for case in (*cases.kernels(device), *small)
    }
    for batch in (128, 512):
        made[f"training step, batch {batch}"] = lambda batch=batch: step_peers(
            device, batch, with_compile=False
        )["vae_fast"]
    return made


def timings(run: Callable[[], Any], count: int) -> Iterator[float]:
    """Seconds of so many runs, after untimed ones."""
    end = perf_counter() + _SETTLING
    while True:
        run()
        if perf_counter() > end:
            break
    for _ in range(count):
        start = perf_counter()
        run()
        yield perf_counter() - start


def main(tree: str, device: str) -> None:
    """Serve until stdin ends."""
    if Path(tree).resolve() not in Path(vf.__file__).resolve().parents:
        sys.exit(f"vae_fast was imported from {vf.__file__}, not from {tree}")
    if vf.build_info().backend != "compiled":
        sys.exit(f"the extension of {tree} does not load")
    made = makers(device)
    print(json.dumps(list(made)), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            run = finished(made[request["prepare"]](), device)
            for _ in range(_WARM_UPS):
                run()
            answer: Any = next(timings(run, 1))
        elif "run" in request:
            answer = list(timings(run, request["run"]))
        else:
            answer = sum(os.times()[:2])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
