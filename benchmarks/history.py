"""Appends the figures of the commit that is checked out to docs/figures/history.jsonl.

    python -m benchmarks.history runs/bench/bench.json    # what `vae-fast bench` has written

A line is a commit: when, on what, and each kernel's milliseconds, eager's beside this package's.
The documentation draws them (docs/performance.md).
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "docs" / "figures" / "history.jsonl"
BUSY = 0.08  # a row in which other processes used more of the machine is no figure


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def entry(bench: dict) -> dict:
    """The line that a bench.json gives, at HEAD."""
    kernels = [
        row
        for row in bench["results"]
        if row["kind"] == "kernel" and (row["used_by_others"] or 0) <= BUSY
    ]
    if not kernels:
        raise SystemExit("no row of a kernel on a machine that was idle: measure once more")
    commit, date = _git("log", "-1", "--format=%H %cI").split()
    return {
        "commit": commit,
        "date": date,
        "machine": f"{bench['conditions']['machine']}, {bench['conditions']['instruction set']}",
        "torch": bench["conditions"]["torch"],
        "milliseconds": {
            f"{row['name']} {row['size']}": {
                peer: round(row["seconds"][peer] * 1e3, 5) for peer in ("eager", "vae_fast")
            }
            for row in kernels
        },
    }


def main() -> None:
    """Append a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", type=Path, help="a bench.json")
    if _git("status", "--porcelain", "--", "csrc", "vae_fast", "benchmarks"):
        raise SystemExit("the tree has changes: the figures would not be the commit's")
    added = entry(json.loads(parser.parse_args().bench.read_text()))
    with HISTORY.open("a") as history:
        history.write(json.dumps(added) + "\n")
    print(f"{HISTORY.relative_to(ROOT)}: {added['commit'][:7]}, {len(added['milliseconds'])} rows")


if __name__ == "__main__":
    main()
