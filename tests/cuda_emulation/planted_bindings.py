"""Checks that the Python tests on the emulated device still see: bugs planted in the CUDA library.

    planted_bindings.py plant BUG SOURCE PLANTED    writes the source with the bug
    planted_bindings.py check BUG                   runs its test, which must fail as it says

The bugs were there once, or nearly so. The tests without them are part of the suite.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Bug(NamedTuple):
    """Text of bindings/cuda/library.cpp that becomes another, the test that notices, and how."""

    changes: tuple[tuple[str, str], ...]
    test: str
    complaint: str


_LAUNCH = "  launch(cuda::sample(args, is_on_host ? *rows : Seed{}));\n"
_SEEDS = "  args.seeds = is_on_host ? nullptr : rows;\n"

BUGS = {
    # An incomplete call, which is refused: its workspace comes from the plan that is launched.
    "planned_before_seeds": Bug(
        ((_SEEDS + _LAUNCH, _LAUNCH + _SEEDS),),
        "tests/test_functorch.py::test_vmap_of_sampling_with_a_divergence_of_many_elements",
        "CUDA error: invalid argument",
    ),
    # Every replay of a graph would have the noise of its recording.
    "recordings_unseen": Bug(
        (("return status == cudaStreamCaptureStatusNone ? 0 : id;", "return 0;"),),
        "tests/cuda_emulation/test_device.py::test_a_recording_draws_on_the_device",
        "assert not True",
    ),
}


def plant(bug: Bug, source: Path, planted: Path) -> None:
    """Replaces text that must be there exactly once."""
    text = source.read_text()
    for old, new in bug.changes:
        if text.count(old) != 1:
            raise SystemExit(f"{source.name}: {text.count(old)} times, expected once: {old!r}")
        text = text.replace(old, new)
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(text)


def check(bug: Bug) -> str | None:
    """What is wrong, if the test does not fail as it must."""
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-x", bug.test]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    output = run.stdout + run.stderr
    if run.returncode == 0:
        return f"{bug.test} passes"
    return None if bug.complaint in output else f"{bug.test} fails otherwise:\n{output}"


def main() -> int:
    action, name, *paths = sys.argv[1:]
    if action == "plant":
        plant(BUGS[name], *map(Path, paths))
        return 0
    wrong = check(BUGS[name])
    print(wrong or f"{name}: caught")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
