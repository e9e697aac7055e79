"""Checks that the emulation still sees: plants one bug at a time and demands that a test fails.

Each bug is a change of text in a copy of the kernels' sources, built in the way that is to catch
it. The sources without a bug must pass in every one of these builds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

BUILDS = {
    "plain": [],
    "asan": ["-DVAE_FAST_ASAN", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "tsan": ["-DVAE_FAST_TSAN", "-fsanitize=thread"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:redzone=512",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
}


class Bug(NamedTuple):
    """Text of a file under csrc/cuda that becomes another, and the build that notices."""

    name: str
    build: str
    file: str
    changes: tuple[tuple[str, str], ...]
    program: str = "planted_test"


BUGS = (
    Bug(
        "a vector past the end",
        "asan",
        "loops.cuh",
        (("if (left >= V) {\n    visit<", "if (left > 0) {\n    visit<"),),
    ),
    Bug(
        "vectors at any address",
        "asan",
        "call.cpp",
        (("std::min<int64_t>(16, elements * bytes_of", "(bytes_of"),),
    ),
    Bug(
        "shared sums read without a barrier",
        "tsan",
        "loops.cuh",
        (("__syncthreads();\n  const int teams", "const int teams"),),
    ),
    Bug(
        "a tail that is not written",
        "plain",
        "loops.cuh",
        (("j < left; ++j", "j < left - 1; ++j"),),
    ),
    Bug(
        "no fence before the ticket",
        "tsan",
        "sums.cuh",
        (("{\n    __threadfence();\n    is_last", "{\n    is_last"),),
    ),
    Bug(
        "blocks add into one sum",
        "tsan",
        "loops.cuh",
        (
            (
                "args.partials[which * parts.count + its_part] = sum;",
                "args.partials[which * parts.count + group * splits] += sum;",
            ),
        ),
    ),
    Bug(
        "values' parts where a tile's are",
        "plain",
        "loops.cuh",
        (("args.partials + static_cast<int64_t>(gridDim.x) * kTileElements", "args.partials"),),
    ),
    Bug(
        "a barrier that some threads skip",
        "plain",
        "loops.cuh",
        (
            (
                "__syncthreads();\n  const int teams",
                "if (threadIdx.x < 100) __syncthreads();\n  const int teams",
            ),
        ),
    ),
    Bug(
        "a shuffle of all lanes in a branch",
        "plain",
        "loops.cuh",
        (
            (
                "const double sum = warp_sum(sums[which], small_team);",
                "const double sum = part < parts.count ? warp_sum(sums[which], small_team) : 0;",
            ),
        ),
    ),
    Bug(
        "a ticket that is not reset",
        "plain",
        "sums.cuh",
        (("atomicInc(ticket, blocks - 1)", "atomicAdd(ticket, 1u)"),),
    ),
    Bug(
        "a shared array read past its end",
        "asan",
        "sums.cuh",
        (("lane < kWarps ? warp_sums[lane] : 0", "warp_sums[lane]"),),
    ),
    Bug(
        "lanes that trade through shared memory without __syncwarp",
        "tsan",
        "sums.cuh",
        (
            (
                "x[k] = combine(x[k], __shfl_xor_sync(kAllLanes, x[k], distance));",
                "VAE_FAST_SHARED(T, lanes, kBlockThreads);\n"
                "      lanes[threadIdx.x] = x[k];\n"
                "      x[k] = combine(x[k], lanes[threadIdx.x ^ distance]);",
            ),
        ),
    ),
    Bug(
        "no fence after the ticket",
        "tsan",
        "sums.cuh",
        (("== blocks - 1;\n    __threadfence();", "== blocks - 1;"),),
    ),
    Bug(
        "a team's sums read without a barrier",
        "tsan",
        "sums.cuh",
        (("__syncthreads();\n  const int warps", "const int warps"),),
    ),
    Bug(
        "a row that is read past its end",
        "asan",
        "multinomial.cuh",
        (("if (i >= count) continue;\n        raw", "raw"),),
    ),
    Bug(
        "sums about a center of each thread's own",
        "plain",
        "multinomial.cuh",
        (("sums.move_to(MultinomialRow<T>(of_team[0]).center);", ""),),
    ),
    Bug(
        "a long row that is not read again",
        "plain",
        "multinomial.cuh",
        (("if (first >= 0) held.load(args, offsets, first, team, count_from(first));", ""),),
    ),
    Bug(
        "counts that are read past their row's end",
        "asan",
        "counts.cuh",
        (("if (i < count) raw[i] = One", "raw[i] = One"),),
    ),
    Bug(
        "weights of counts about a center of each thread's own",
        "plain",
        "counts.cuh",
        (("softmax.move_to(MultinomialRow<T>(of_team[0]).center);", ""),),
    ),
    Bug(
        "gradients of counts that each thread sums for itself",
        "plain",
        "counts.cuh",
        (("team_combine<2>(sums, own.team,", "team_combine<2>(sums, 1,"),),
    ),
    Bug(
        "logits of counts that do not share their total",
        "plain",
        "counts.cuh",
        (("multinomial_weight(logits[i], center), share)", "T(0), share)"),),
    ),
    Bug(
        "components that are read past the last one",
        "asan",
        "pairs.cuh",
        (
            (
                "const bool is_there = row < rows && number < end;",
                "const bool is_there = number < end;",
            ),
        ),
        "planted_pairs_test",
    ),
    Bug(
        "a tile of pairs that is written while it is read",
        "tsan",
        "pairs.cuh",
        (
            (
                "__syncthreads();  // what lies there has been read\n    tile.template load_owners",
                "tile.template load_owners",
            ),
        ),
        "planted_pairs_test",
    ),
    Bug(
        "pairs that others of the team have met, left out of the sum",
        "plain",
        "pairs.cuh",
        (("value.combine(kTeam);", ""),),
        "planted_pairs_test",
    ),
    Bug(
        "a ticket that is not counted by an atomic",
        "tsan",
        "sums.cuh",
        (
            (
                "is_last[0] = atomicInc(ticket, blocks - 1) == blocks - 1;",
                "is_last[0] = *ticket == blocks - 1;\n    *ticket = is_last[0] ? 0 : *ticket + 1;",
            ),
        ),
    ),
    Bug(
        "shares of a sum that did not move with its best",
        "plain",
        "../formulas/mixture.h",
        (("weights * weight + T(1)", "weights + T(1)"),),
        "planted_mixture_test",
    ),
    Bug(
        "a run's losses that are not the team's",
        "plain",
        "mixture.cuh",
        (("static_cast<T>(team_sum(own_nll, team));", "own_nll;"),),
        "planted_mixture_test",
    ),
    Bug(
        "a run that is read past its end",
        "asan",
        "mixture.cuh",
        (("exists_ ? i : args.run - 1, add", "i, add"),),
        "planted_mixture_test",
    ),
    Bug(
        "a long run's elements that stay where they were",
        "plain",
        "mixture.cuh",
        (
            (
                "if (is_long) element.move_to(args, position, i);\n      const auto",
                "const auto",
            ),
        ),
        "planted_mixture_test",
    ),
    Bug(
        "scores read without a barrier",
        "tsan",
        "mixture.cuh",
        (("if (is_long) __syncthreads();  // the scores", "// the scores"),),
        "planted_mixture_test",
    ),
    Bug(
        "a sum that another overwrites",
        "tsan",
        "mixture.cuh",
        (("if (team > kWarp) __syncthreads();", ""),),
        "planted_mixture_test",
    ),
)

# The tests, each with its formulas: few are enough here, and compile fast.
PROGRAMS = {
    "planted_test": "StandardNormalKl,PoissonNll",
    "planted_mixture_test": "BernoulliNll",
    "planted_pairs_test": "BernoulliNll",
}


def change(path: Path, old: str, new: str) -> None:
    """Replaces text that must be there exactly once."""
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{path.name}: {text.count(old)} times, expected once: {old!r}")
    path.write_text(text.replace(old, new))


def copy_sources(folder: Path, bug: Bug | None) -> Path:
    """A copy of csrc with the bug."""
    csrc = folder / "csrc"
    for part in ("cuda", "formulas"):
        shutil.copytree(ROOT / "csrc" / part, csrc / part)
    shutil.copy(ROOT / "csrc" / "kernels.h", csrc)
    if bug is not None:
        for old, new in bug.changes:
            change(csrc / "cuda" / bug.file, old, new)
    return csrc


class Tools(NamedTuple):
    """The compiler, where CUDA's headers are, and the emulation's objects by build."""

    compiler: str
    cuda_include: str
    runtime: dict[str, Path]

    def compile(self, sources: list[str], csrc: Path, flags: list[str]) -> None:
        """Compiles a test or the emulation."""
        folders = (csrc, ROOT / "tests" / "cuda_emulation", ROOT / "tests" / "cpp")
        options = ["-std=c++20", "-O1", "-g1", "-Wno-unknown-pragmas"]
        options += [f"-I{folder}" for folder in folders]
        options += ["-isystem", self.cuda_include, *flags]
        paths = [str(ROOT / "tests" / "cuda_emulation" / source) for source in sources]
        subprocess.run([self.compiler, *options, *paths], check=True)


def compile_runtime(tools: Tools, folder: Path) -> None:
    """The emulation itself, once for each build; ThreadSanitizer must not judge it."""
    for build, flags in BUILDS.items():
        own = [flag for flag in flags if flag != "-fsanitize=thread"]
        tools.runtime[build] = folder / f"simt_{build}.o"
        options = [*own, "-c", "-o", str(tools.runtime[build])]
        tools.compile(["simt.cpp"], ROOT / "csrc", options)


def outcome(tools: Tools, bug: Bug | None, build: str, test: str) -> tuple[bool, str]:
    """Whether the test passes, and the first error that it names: one that a bug can cause."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        csrc = copy_sources(folder, bug)
        program = folder / "test"
        flags = [*BUILDS[build], f"-DVAE_FAST_LOSSES={PROGRAMS[test]}", "-o", str(program)]
        sources = [f"{test}.cpp", "planted_stubs.cpp"]
        tools.compile(sources, csrc, [*flags, str(tools.runtime[build])])
        run = subprocess.run(
            ["setarch", "-R", str(program)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **ENVIRONMENT},
        )
    words = (
        "SIMT ERROR",
        "runtime error",
        "ERROR: AddressSanitizer",
        "WARNING: ThreadSan",
        "/tests/cpp/",  # a CHECK of what came out
    )
    lines = (run.stderr + run.stdout).splitlines()
    return run.returncode == 0, next((x for x in lines if any(word in x for word in words)), "")


def main() -> int:
    """Prints a line for each bug; 1 if one went unseen or a build without a bug fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--cuda-include", default="/usr/local/cuda/include")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(arguments.compiler, arguments.cuda_include, {})
        compile_runtime(tools, Path(folder))
        cases: list[tuple[Bug | None, str, str]] = [
            (None, build, program) for program in PROGRAMS for build in BUILDS
        ]
        cases += [(bug, bug.build, bug.program) for bug in BUGS]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            results = list(pool.map(lambda case: outcome(tools, *case), cases))
    wrong = 0
    for (bug, build, program), (passes, complaint) in zip(cases, results, strict=True):
        right = passes if bug is None else not passes and complaint != ""
        wrong += not right
        name = f"no bug, {program}" if bug is None else bug.name
        verdict = "passes" if passes else "caught"
        print(f"{'ok   ' if right else 'WRONG'} {build:5} {name}: {verdict} {complaint[:110]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
