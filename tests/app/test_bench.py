"""`vae-fast bench` measures and writes everything; how fast anything is, no test asks."""

import dataclasses
import importlib
import json
import sys

import pytest
import torch

from vae_fast.bench import growth, growth_report, last_layer, machine, report, run
from vae_fast.bench.cases import SMALL, kernels
from vae_fast.bench.find_jax import find_jax
from vae_fast.bench.measure import Step
from vae_fast.bench.run import Result, Setting, race
from vae_fast.bench.training import PlainVAE

CASES = (*kernels("cpu"), *SMALL)
JAX_PEERS = "vae_fast.bench.jax_peers"


@pytest.fixture
def without_jax(monkeypatch):
    """`import jax` fails as where it is not installed."""
    monkeypatch.delitem(sys.modules, JAX_PEERS, raising=False)
    monkeypatch.setitem(sys.modules, "jax", None)


@pytest.fixture
def short_curves(monkeypatch):
    monkeypatch.setattr(growth, "ELEMENTS", (1, 1000))
    monkeypatch.setattr(growth, "BATCHES", (1, 4))
    monkeypatch.setattr(growth, "WIDTHS", (8, 16))


@pytest.fixture
def small_rows(monkeypatch):
    """Every row, of a few elements."""

    def small(device):
        return tuple(dataclasses.replace(case, size=(4, 20)) for case in kernels(device))

    monkeypatch.setattr(run, "kernels", small)
    monkeypatch.setattr(last_layer, "OUTPUTS", 300)
    monkeypatch.setattr(machine, "COPIED_BYTES", (1 << 16, 1 << 20))


def test_bench(tmp_path, run_cli, without_jax, short_curves, small_rows):
    output = run_cli(
        "bench", "--seconds", 0.01, "--no-compile", "--images", 256, "--device", "cpu",
        "--out", tmp_path,
    )  # fmt: skip
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["conditions"]["device"] == "cpu"
    assert "not installed" in written["conditions"]["JAX"]
    assert "not installed" in output
    assert written["gemm_flops"] > 0
    assert all(rate > 0 for rate in written["copy_bytes_per_second"].values())
    results = written["results"]
    assert [row["kind"] for row in results] == [
        *["kernel"] * len(kernels("cpu")),
        *["small"] * len(SMALL),
        *["step"] * 4,
        "epoch",
    ]
    for row in results:
        assert {"eager", "vae_fast"} <= row["seconds"].keys()
        assert not {"compile", "jax"} & row["seconds"].keys()
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["rounds"] >= 5
        assert row["name"] in output
        assert row["size"] in output
    points = written["growth"]
    assert [point["axis"] for point in points] == [
        *["elements"] * 4,
        *["batch"] * 2,
        *["width"] * 2,
    ]
    assert all(point["result"]["seconds"]["vae_fast"] > 0 for point in points)
    for name in ("factors.png", "growth.png", "roofline.png", "small.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_only_what_is_asked_for(tmp_path, run_cli, small_rows):
    run_cli(
        "bench", "--only", "step", "--seconds", 0.01, "--no-compile", "--device", "cpu",
        "--out", tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert [row["size"] for row in results] == [
        "batch 128", "batch 512", *["512x(128->300)"] * 2,
    ]  # fmt: skip
    assert all("products" in row["seconds"] for row in results)
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "factors.png"}


def test_factors():
    result = Result("step", "a", "b", {"eager": 3.0, "vae_fast": 1.5}, {}, 5, None, None)
    assert result.times_faster("eager") == pytest.approx(2.0)
    assert result.times_faster("compile") is None


def test_growth_on_one_thread_and_on_all(cpu_threads, short_curves):
    cpu_threads(2)
    points = list(growth.growth(Setting("cpu", 1e-9, False, None)))
    functions = [point for point in points if point.axis == "elements"]
    assert [(point.at, point.threads) for point in functions] == [
        *[(1, 1), (1, 2), (1000, 1), (1000, 2)] * 2
    ]
    assert torch.get_num_threads() == 2


def test_growth_says_where_memory_is_too_small(monkeypatch, short_curves):
    monkeypatch.setattr(growth, "free_memory", lambda device: 10_000)
    points = list(growth.growth(Setting("cpu", 1e-9, False, None)))
    missing = [point for point in points if point.result is None]
    assert {(point.axis, point.at) for point in missing} == {("elements", 1000)}
    functions, _ = growth_report.tables(points)
    said = list(functions.columns[-1].cells)
    assert said.count("not measured: takes 9.6e-05 GB, 1e-05 GB are free") == len(missing)


def test_free_memory():
    assert 0 < machine.free_memory("cpu") < 1 << 50


@pytest.mark.parametrize(
    ("floor", "jax", "said"),
    [(1.0, 3.0, "no slower"), (1.8, 1.5, "slower: engine"), (1.0, 1.5, "slower"), (1.0, None, "-")],
)
def test_what_is_said_beside_jax(floor, jax, said):
    seconds = {"eager": 5.0, "floor": floor, "vae_fast": 2.0} | ({"jax": jax} if jax else {})
    result = Result("small", "a", "b", seconds, {"vae_fast": 0.0}, 5, None, None)
    assert list(report.small_table([result]).columns[-1].cells) == [said]


def test_every_contestant_runs_equally_often():
    calls = {"eager": 0, "jax": 0, "vae_fast": 0}

    def peer(name):
        def run():
            calls[name] += 1

        return run

    peers = {name: peer(name) for name in calls}
    result = race("kernel", "a", "b", peers, Setting("cpu", 1e-9, False, None))
    assert result.seconds.keys() == calls.keys()
    assert result.rounds == 5
    assert min(calls.values()) >= result.rounds


def test_a_broken_jax_is_not_taken_for_a_missing_one(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'jaxlib'", name="jaxlib")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="jaxlib"):
        find_jax("cpu")


def test_without_jax(without_jax):
    peers, description = find_jax("cpu")
    assert peers is None
    assert "not installed" in description


def test_jax_computes_the_same():
    """Values and gradients; where noise is drawn, what does not depend on it."""
    pytest.importorskip("jax")
    peers, description = find_jax("cpu")
    assert peers.VERSION in description
    for op in peers.FUNCTIONS:
        case = next(case for case in CASES if case.op == op)
        inputs = case.inputs("cpu")
        step = Step(case.plain, inputs)
        outputs, gradients = peers.kernel_peer(case, inputs, "cpu")()
        if op != "reparameterize":
            loss = outputs[-1] if isinstance(outputs, tuple) else outputs
            assert float(loss) == pytest.approx(step.outputs[-1].item(), rel=1e-4)
        if not op.startswith("reparameterize"):
            step()
            for ours, theirs in zip(step.inputs, gradients, strict=False):
                theirs = torch.tensor(theirs.tolist())
                torch.testing.assert_close(ours.grad, theirs, rtol=1e-3, atol=1e-6)


def test_jax_trains_the_same_model():
    """One step of Adam leaves the same weights, where a variance of exp(-60) hides the noise."""
    pytest.importorskip("jax")
    peers, _ = find_jax("cpu")
    model = PlainVAE()
    with torch.no_grad():
        model.logvar.bias.fill_(-60)
    x = torch.rand(8, 784)
    state = peers.first_state(model, "cpu")
    after, *_ = peers.adam_step(state, x.numpy())
    adam = torch.optim.Adam(model.parameters())
    model(x).backward()
    adam.step()
    # The step is 1e-3 times the gradient's sign, nearly: blurred where the gradient is about zero.
    for layer, (weight, bias) in zip(model.children(), after, strict=True):
        for ours, theirs in ((layer.weight, weight.T), (layer.bias, bias)):
            torch.testing.assert_close(ours, torch.tensor(theirs.tolist()), rtol=0, atol=2e-4)
