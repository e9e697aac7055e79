"""`make gpu`: everything that only a GPU can tell, and one file that tells it.

The whole test suite on the GPU; the kernels under compute-sanitizer; the benchmarks, with eager
PyTorch and torch.compile beside them. A step that fails does not keep the next ones from running.
"""

import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import vae_fast as vf

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest", "-q")

# Under the sanitizer everything takes tens of times as long: each loop, dtype and layout once.
KERNELS = ("tests/test_values.py", "tests/test_noise.py", "-k", "not million and not moments")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


@dataclass(frozen=True)
class Step:
    """A command of the report."""

    title: str
    command: tuple[str, ...]
    environment: dict[str, str]


def sanitizer() -> str | None:
    """compute-sanitizer of the CUDA toolkit."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("compute-sanitizer") or shutil.which(f"{home}/bin/compute-sanitizer")


def steps() -> Iterator[Step]:
    on_gpu = {"VAE_FAST_TEST_DEVICE": "cuda"}
    yield Step("The test suite", (*PYTEST, "tests"), on_gpu)
    program = sanitizer() or "compute-sanitizer"
    # Without its cache torch asks CUDA for every tensor: an access beyond one is then seen.
    exact = on_gpu | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in TOOLS:
        command = (program, "--tool", tool, "--error-exitcode", "1", *PYTEST, *KERNELS)
        yield Step(f"compute-sanitizer {tool}", command, exact)
    bench = ("benchmarks", "--benchmark-enable", "--benchmark-only")
    yield Step("Benchmarks", (*PYTEST, *bench), on_gpu)


def run(step: Step) -> tuple[bool, str]:
    """Whether it passed, and its section."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            step.command,
            cwd=ROOT,
            env=os.environ | step.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        passed, output = done.returncode == 0, done.stdout
    except FileNotFoundError:
        passed, output = False, f"there is no {step.command[0]}: set CUDA_HOME to the CUDA toolkit"
    said = "passed" if passed else "FAILED"
    tail = "\n".join(output.splitlines()[-80:])
    seconds = time.perf_counter() - start
    return passed, f"## {step.title}: {said} ({seconds:.0f} s)\n\n```\n{tail}\n```\n"


def main() -> int:
    if not torch.cuda.is_available():
        print("make gpu: torch sees no GPU here; make cuda-check needs none", file=sys.stderr)
        return 1
    card = torch.cuda.get_device_name()
    name = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    path = ROOT / "docs" / "gpu" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    head = f"# {card}\n\n{datetime.date.today()}, driver {driver}.\n\n```\n{vf.build_info()}\n```\n"
    sections = [head]
    all_passed = True
    for step in steps():
        print(f"==== {step.title}", flush=True)
        passed, section = run(step)
        all_passed &= passed
        sections.append(section)
        path.write_text("\n".join(sections))
    print(f"{'passed' if all_passed else 'FAILED'}; the report is {path}")
    return 0 if all_passed else 1


if __name__ == "__main__":
    sys.exit(main())
