"""`make bench-against REV=...`: this tree and another commit of it, measured in turns.

The other commit is checked out into a temporary worktree and built there. Each side has a process
of its own (worker.py) with its own extension; they take turns of some 50 ms, beginning with another
one each time, so that whatever else the machine does meets both. Where its memory lies makes a
process a few percent faster or slower for as long as it lives, so several pairs of processes are
asked, of which another side starts first each time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from tests.device import DEVICE
from vae_fast.bench.measure import OtherLoad, conditions
from vae_fast.bench.report import share

ROOT = Path(__file__).parents[1]
_TURN = 0.05  # seconds of measuring
_PAIRS = 5
_SAME = 0.05  # two processes of the same code differ by up to that, by where their memory lies
_WIDTH = 120  # of a table that goes into a file


def _git(*arguments: str, problem: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{problem}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A temporary worktree of the revision; removed at the end, whatever happens."""
    problem = f"{revision!r} is no commit here"
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}", problem=problem)
    with tempfile.TemporaryDirectory(prefix="vae_fast_against_") as folder:
        tree = Path(folder) / "tree"
        problem = f"no worktree of {revision!r}"
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit, problem=problem)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree), problem=f"{tree} is left behind")


def build(tree: Path) -> None:
    """Compile the extension where it stands, as this tree's was."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{tree} does not build:\n{done.stdout}{done.stderr}")


class Side:
    """A worker's process: what it can measure, and its timings on request."""

    def __init__(self, tree: Path) -> None:
        self.started = perf_counter()
        command = [sys.executable, str(ROOT / "benchmarks" / "worker.py"), str(tree), DEVICE]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )
        self.cases: list[str] = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a worker ended: its message is above")
        return json.loads(line)

    def _ask(self, **request: Any) -> Any:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def prepare(self, case: str) -> float:
        """Make a case ready; seconds of one run."""
        return self._ask(prepare=case)

    def used(self) -> float:
        """The processor's seconds that it has used."""
        return self._ask(used=True)

    def turn(self, count: int) -> float:
        """The median of so many runs."""
        return statistics.median(self._ask(run=count))


@dataclass(frozen=True)
class Pair:
    """What one pair of processes says of a case.

    Attributes:
        then: seconds on the other side, the median over turns.
        now: on this one.
        ratio: of the two in the same pair of turns, the median.
        others: share of the machine that other processes used.
    """

    then: float
    now: float
    ratio: float
    others: float | None


def race(case: str, then: Side, now: Side, seconds: float) -> Pair:
    """Both in turns, for about so many seconds; the one that was started first begins."""
    order = sorted((then, now), key=lambda side: side.started)
    once = max(side.prepare(case) for side in order)
    count = max(1, min(1000, round(_TURN / once)))
    turns = max(3, round(seconds / (2 * count * once)))
    taken: dict[Side, list[float]] = {then: [], now: []}
    load, start, used = OtherLoad(), perf_counter(), then.used() + now.used()
    for turn in range(turns):
        for side in reversed(order) if turn % 2 else order:
            taken[side].append(side.turn(count))
    busy, ours = load(), (then.used() + now.used() - used) / (perf_counter() - start)
    return Pair(
        statistics.median(taken[then]),
        statistics.median(taken[now]),
        statistics.median(a / b for a, b in zip(taken[then], taken[now], strict=True)),
        None if busy is None else max(0.0, busy - ours / (os.cpu_count() or 1)),
    )


def cells(case: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    """A line of the table."""
    ratios = sorted(pair.ratio for pair in pairs)
    low, high = ratios[0], ratios[-1]
    verdict = "faster" if low > 1 + _SAME else "slower" if high < 1 - _SAME else "the same"
    then = statistics.median(pair.then for pair in pairs)
    now = statistics.median(pair.now for pair in pairs)
    others = [pair.others for pair in pairs if pair.others is not None]
    return (
        case,
        *(f"{seconds * 1e3:.4g}" for seconds in (then, now)),
        f"{statistics.median(ratios):.3f}",
        f"{low:.3f} to {high:.3f}",
        verdict,
        share(max(others, default=None)),
    )


def table(results: Mapping[str, Sequence[Pair]], revision: str) -> Table:
    """Medians, and how many times faster this tree is."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    made.add_column("vae_fast, forward + backward", no_wrap=True)
    for title in (f"{revision} ms", "here ms", "x", "spread", "here is", "others"):
        made.add_column(title, justify="right", no_wrap=True)
    for case, pairs in results.items():
        made.add_row(*cells(case, pairs))
    return made


LEGEND = f"""\
x: how many times faster this tree is, the median over {_PAIRS} pairs of processes; spread: the
least and the most that one of them says. Faster or slower: all of them say so, by more than
{_SAME:.0%}. others: share of the machine that other processes used, at most."""


def compare(then: Path, now: Path, revision: str, only: str, seconds: float) -> None:
    """Print how the tree `now` compares with the tree `then`."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    results: dict[str, list[Pair]] = {}
    with console.status("measuring") as status:
        for number in range(_PAIRS):
            with ExitStack() as stack:
                trees = (then, now) if number % 2 else (now, then)
                sides = {tree: stack.enter_context(Side(tree)) for tree in trees}
                old, new = sides[then], sides[now]
                for case in new.cases:
                    if case in old.cases and only in case:
                        status.update(f"measuring: {case}")
                        pair = race(case, old, new, seconds / _PAIRS)
                        results.setdefault(case, []).append(pair)
    for name, value in conditions(DEVICE).items():
        console.print(f"{name:<16}{value}", soft_wrap=True)
    console.print()
    console.print(table(results, revision))
    for where, mine, other in (("here", new, old), (f"in {revision}", old, new)):
        for case in mine.cases:
            if case not in other.cases and only in case:
                console.print(f"only {where}: {case}")
    console.print(f"\n{LEGEND}", soft_wrap=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench-against", description=__doc__.split("\n")[0])
    parser.add_argument("revision", help="a commit, as git names them: main, HEAD~3, f8eb59f")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--seconds", type=float, default=5.0, help="spent on a case [5]")
    chosen = parser.parse_args()
    with checkout(chosen.revision) as tree:
        print(f"building {chosen.revision}", file=sys.stderr)
        build(tree)
        compare(tree, ROOT, chosen.revision, chosen.only, chosen.seconds)


if __name__ == "__main__":
    main()
