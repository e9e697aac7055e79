"""`vae-fast bench` measures and writes everything; how fast anything is, no test asks."""

import json

import pytest

from vae_fast.bench.cases import kernels
from vae_fast.bench.run import Result


def test_bench(tmp_path, run_cli):
    output = run_cli(
        "bench", "--seconds", 0.01, "--no-compile", "--images", 256, "--device", "cpu",
        "--out", tmp_path,
    )  # fmt: skip
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["conditions"]["device"] == "cpu"
    assert written["gemm_flops"] > 0
    assert all(rate > 0 for rate in written["copy_bytes_per_second"].values())
    results = written["results"]
    assert [row["kind"] for row in results] == ["kernel"] * len(kernels("cpu")) + ["step"] * 2 + [
        "epoch"
    ]
    for row in results:
        assert {"eager", "vae_fast"} <= row["seconds"].keys()
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["rounds"] >= 5
        assert row["name"] in output
        assert row["size"] in output
    for name in ("factors.png", "roofline.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_only_what_is_asked_for(tmp_path, run_cli):
    run_cli(
        "bench", "--only", "step", "--seconds", 0.01, "--no-compile", "--device", "cpu",
        "--out", tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert [row["size"] for row in results] == ["batch 128", "batch 512"]
    assert not (tmp_path / "roofline.png").exists()


def test_factors():
    result = Result("step", "a", "b", {"eager": 3.0, "vae_fast": 1.5}, {}, 5, None, None)
    assert result.times_faster("eager") == pytest.approx(2.0)
    assert result.times_faster("compile") is None
