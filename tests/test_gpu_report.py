"""`make gpu` where there is no GPU: its refusal, its steps, its report, the program it watches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.conftest import Row, table  # noqa: E402
from tests.gpu import every_kernel, present, report  # noqa: E402


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "LOGS", tmp_path)
    return tmp_path


def python(code: str, minutes: float = 1) -> report.Step:
    return report.Step("A step", (sys.executable, "-c", code), minutes)


def test_every_part_is_in_the_report():
    steps = list(report.steps("/toolkit/bin/compute-sanitizer"))
    commands = [" ".join(step.command) for step in steps]
    assert [step.title for step in steps] == [
        "The test suite",
        *("compute-sanitizer memcheck", "compute-sanitizer racecheck"),
        *("compute-sanitizer initcheck", "compute-sanitizer synccheck"),
        "Benchmarks",
    ]  # fmt: skip
    assert commands[0].endswith(" tests")
    assert all("every_kernel.py" in command for command in commands[1:5])
    assert all("--error-exitcode 1" in command for command in commands[1:5])
    assert "--benchmark-only" in commands[5]
    assert all(step.environment["VAE_FAST_TEST_DEVICE"] == "cuda" for step in steps)
    assert all((ROOT / part).exists() for step in steps for part in step.command if "tests" in part)


def test_outcomes(logs):
    passed = report.run(python("print('said')"))
    assert passed.passed
    assert passed.output == "said\n"
    assert (logs / "a-step.log").read_text() == "said\n"
    assert report.run(python("raise SystemExit(3)")).outcome == "FAILED: exit status 3"


def test_a_step_that_hangs_is_killed(logs):
    step = report.Step("Hangs", ("sh", "-c", "sleep 60 & wait; sleep 60"), 0.01)
    result = report.run(step)
    assert result.outcome == "FAILED: not done after 0.01 minutes"
    assert result.seconds < 30


def test_a_missing_sanitizer_is_said(logs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(logs))
    assert report.find_sanitizer() is None
    result = report.run(list(report.steps(None))[1])
    assert result.outcome == "FAILED: not found"
    assert "there is no compute-sanitizer on the PATH or in CUDA_HOME" in report.section(result)


def test_the_sanitizer_of_the_toolkit(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert report.find_sanitizer() == str(program)


def test_the_report():
    step = report.Step("compute-sanitizer memcheck", ("x",), 1, lines=2)
    output = "2692 calls\n========= ERROR SUMMARY: 0 errors\nlast\n"
    results = [
        report.Result(report.Step("The test suite", ("x",), 1), "passed", 61.4, "2178 passed\n"),
        report.Result(step, "FAILED: exit status 1", 3, output),
    ]
    pending = [report.Step("Benchmarks", ("x",), 1)]
    assert report.render("# Card\n", results, pending) == (
        "# Card\n\n"
        "| step | outcome | time |\n| --- | --- | ---: |\n"
        "| The test suite | passed | 61 s |\n"
        "| compute-sanitizer memcheck | FAILED: exit status 1 | 3 s |\n"
        "| Benchmarks | not yet run | |\n\n"
        "## The test suite: passed\n\n```text\n2178 passed\n```\n\n"
        "## compute-sanitizer memcheck: FAILED: exit status 1\n\n"
        "The last 2 of 3 lines:\n\n```text\n========= ERROR SUMMARY: 0 errors\nlast\n```\n"
    )


def test_the_table_of_the_benchmarks():
    """8192 x 8192 in float32, 12 bytes each, on a card that copies 3 TB/s."""
    nbytes = 12 * 8192**2
    row = Row("bernoulli_nll", "8192x8192", 3e-3, 1e-3, 3e-4, 3e-6, nbytes, nbytes / 3e12, None)
    head, line = (text.split() for text in table([row]))
    assert [*head[:2], *head[-5:]] == ["op", "size", "compile", "GB/s", "of", "copy", "others"]
    assert line == [
        *("bernoulli_nll", "8192x8192", "3.000", "1.000", "0.300", "1%"),
        *("10.0", "3.3", "2684.4", "89%", "-"),
    ]


def test_every_kernel_runs_through(capsys):
    every_kernel.main()
    assert "calls on" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so_first(tmp_path):
    """Before an environment is made: VENV would be one."""
    assert present.count() == 0
    done = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "gpu",
            f"VENV={tmp_path}/venv",
            f"PYTHON={sys.executable}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("make gpu: there is no NVIDIA GPU")
    assert not list(tmp_path.iterdir())
