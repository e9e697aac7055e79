"""`make gpu`: everything that only a GPU can tell, and one file that tells it.

The whole test suite on the GPU; every kernel under compute-sanitizer; the benchmarks, with eager
PyTorch and torch.compile beside them. A step that fails does not keep the next ones from running.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "gpu"
PYTEST = (sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

# What torch asks CUDA for and does without is no error of a kernel; our own launches are checked.
OPTIONS = {"memcheck": ("--report-api-errors", "no")}


@dataclass(frozen=True)
class Step:
    """A command of the report.

    Attributes:
        title: what it does; also names its log.
        command: what is run, in the repository.
        environment: beside the process's own.
        minutes: after which it is killed.
        lines: of the end of its output that the report shows.
    """

    title: str
    command: tuple[str, ...]
    minutes: float
    environment: dict[str, str] = field(default_factory=dict)
    lines: int = 40


@dataclass(frozen=True)
class Result:
    """What became of a step; `outcome` is "passed" or what went wrong."""

    step: Step
    outcome: str
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def find_sanitizer() -> str | None:
    """compute-sanitizer, on the PATH or in the CUDA toolkit."""
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    places = ("compute-sanitizer", home / "bin/compute-sanitizer")
    return next(filter(None, map(shutil.which, map(str, places))), None)


def steps(sanitizer: str | None) -> Iterator[Step]:
    """All of them; without compute-sanitizer its steps fail and say so."""
    on_gpu = {"VAE_FAST_TEST_DEVICE": "cuda"}
    yield Step("The test suite", (*PYTEST, "tests"), 45, on_gpu)
    # Without its cache torch asks CUDA for every tensor: an access beyond one is then seen.
    exact = on_gpu | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONPATH": str(ROOT)}
    for tool in TOOLS:
        command = (
            *(sanitizer or "compute-sanitizer", "--tool", tool, "--error-exitcode", "1"),
            *(*OPTIONS.get(tool, ()), sys.executable, "tests/gpu/every_kernel.py"),
        )
        yield Step(f"compute-sanitizer {tool}", command, 20, exact)
    bench = ("benchmarks", "--benchmark-enable", "--benchmark-only")
    yield Step("Benchmarks", (*PYTEST, *bench), 60, on_gpu, lines=80)


def run(step: Step) -> Result:
    """Runs it, all of its output into a log as it comes."""
    start = time.perf_counter()
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{slug(step.title)}.log"
    with log.open("w") as file:
        try:
            process = subprocess.Popen(
                step.command,
                cwd=ROOT,
                env=os.environ | step.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a sanitizer's child does not die with it
            )
        except FileNotFoundError:
            said = f"there is no {step.command[0]} on the PATH or in CUDA_HOME: install the toolkit"
            return Result(step, "FAILED: not found", 0, said)
        try:
            code = process.wait(60 * step.minutes)
            outcome = "passed" if code == 0 else f"FAILED: exit status {code}"
        except subprocess.TimeoutExpired:
            outcome = f"FAILED: not done after {step.minutes:g} minutes"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Result(step, outcome, time.perf_counter() - start, log.read_text(errors="replace"))


def slug(title: str) -> str:
    """A name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def section(result: Result) -> str:
    """A step's part of the report: how it ended, and the end of what it said."""
    output = result.output.splitlines()
    tail = "\n".join(output[-result.step.lines :])
    rest = len(output) - result.step.lines
    cut = f"The last {result.step.lines} of {len(output)} lines:\n\n" if rest > 0 else ""
    return f"## {result.step.title}: {result.outcome}\n\n{cut}```text\n{tail}\n```\n"


def render(head: str, results: Sequence[Result], pending: Sequence[Step] = ()) -> str:
    """The whole report: what it is of, a line for each step, then their sections."""
    rows = [f"| {r.step.title} | {r.outcome} | {r.seconds:.0f} s |" for r in results]
    rows += [f"| {step.title} | not yet run | |" for step in pending]
    table = "\n".join(["| step | outcome | time |", "| --- | --- | ---: |", *rows])
    return "\n".join([head, f"{table}\n", *map(section, results)])


def heading() -> tuple[str, str]:
    """The card's name, and what every figure of the report depends on."""
    import torch

    import vae_fast as vf

    card = torch.cuda.get_device_name()
    properties = torch.cuda.get_device_properties()
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        driver = []
    facts = (
        f"{datetime.date.today()}; compute capability {properties.major}.{properties.minor}, "
        f"{properties.multi_processor_count} multiprocessors, "
        f"{properties.total_memory / 2**30:.0f} GiB; driver {driver[0] if driver else 'unknown'}."
    )
    return card, f"# {card}\n\n{facts}\n\n```text\n{vf.build_info()}\n```\n"


def main() -> int:
    import torch

    if not torch.cuda.is_available():
        print("make gpu: torch sees no GPU here; make cuda-check needs none", file=sys.stderr)
        return 1
    card, head = heading()
    path = ROOT / "docs" / "gpu" / f"{slug(card)}.md"
    path.parent.mkdir(exist_ok=True)
    sanitizer = find_sanitizer()
    if sanitizer is None:
        print("make gpu: no compute-sanitizer on the PATH or in CUDA_HOME", file=sys.stderr)
    todo, results = list(steps(sanitizer)), []
    while todo:
        step = todo.pop(0)
        print(f"==== {step.title} (at most {step.minutes:g} minutes)", flush=True)
        results.append(run(step))
        print(f"     {results[-1].outcome}, {results[-1].seconds:.0f} s", flush=True)
        path.write_text(render(head, results, todo))
    failed = [result.step.title for result in results if not result.passed]
    print(f"the report is {path}; all that was said is in {LOGS}")
    print(f"FAILED: {', '.join(failed)}" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
