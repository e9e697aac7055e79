"""100,000 random calls of the public functions against plain float64.

A line for each that is wrong repeats it. draws.py makes operands of every shape, stride and dtype,
calls.py is the table of functions, exact.py has right values and tolerances, mistakes.py makes
calls that must be refused.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from tests.fuzz.run import failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first call's index")
    parser.add_argument("--only", type=int, help="one call alone, by its index")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_default_device(arguments.device)
    indices = (
        range(arguments.first, arguments.first + arguments.calls)
        if arguments.only is None
        else [arguments.only]
    )
    start, found = time.perf_counter(), 0
    for line in failures(arguments.seed, indices):
        found += 1
        print(line, flush=True)
    print(f"{len(indices)} calls, {found} wrong, {time.perf_counter() - start:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
