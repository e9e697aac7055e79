"""`python -m tests.attack [KIND]`: the full numbers; every fault is printed.

Ends with 1 where there is one.
"""

import itertools
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.attack import arrays, bit_flips, command_lines, kills, run_files
from tests.attack.judge import Case

_KILLS = 4  # of a run, so that 25 runs are 100


def kinds(folder: Path) -> dict[str, Iterator[Case]]:
    """Each kind's cases, as many as there are to be."""
    return {
        "kills": itertools.islice(kills.cases(folder, kills=_KILLS), 100 // _KILLS),
        "run-files": run_files.cases(folder),
        "checkpoints": itertools.islice(bit_flips.checkpoints(folder), 3000),
        "images": itertools.islice(bit_flips.images(folder), 4000),
        "arrays": arrays.cases(folder),
        "command-lines": command_lines.cases(folder),
    }


def main() -> int:
    """Attack."""
    torch.set_num_threads(1)  # before any other: the killed processes are forked
    warnings.simplefilter("ignore")
    faults = 0
    for kind in sys.argv[1:] or kinds(Path()):
        with tempfile.TemporaryDirectory() as folder:
            start, count, found = time.perf_counter(), 0, 0
            for case in kinds(Path(folder))[kind]:
                fault = case.attack()
                count += 1
                if fault is not None:
                    found += 1
                    print(f"{kind}, {case.name}: {fault}", flush=True)
            seconds = time.perf_counter() - start
            print(f"{kind}: {count} attacks, {found} faults, {seconds:.0f} s", flush=True)
            faults += found
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
