"""Tables, whose columns are of scales of their own."""

import json

import numpy as np
import pytest

SETTINGS = ("--likelihood", "gaussian", "--hidden", 8, "--latent", 2, "--no-plots")


@pytest.fixture
def table(tmp_path):
    """Columns of other scales, and one that never changes."""
    rows = np.random.default_rng(0).normal(size=(120, 4)) * [1, 1e-3, 1e4, 0] + [0, 5, 1e5, 7]
    np.save(tmp_path / "x.npy", rows.astype(np.float32))
    return tmp_path / "x.npy"


@pytest.fixture
def run(tmp_path, table, run_cli):
    arguments = ("--data", table, "--standardize", "--out", tmp_path / "run", "--epochs", 2)
    run_cli("train", *arguments, *SETTINGS)
    return tmp_path / "run"


def test_a_standardized_run_is_evaluated_and_resumed_as_it_was_trained(
    tmp_path, table, run, run_cli
):
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_loss"] < 10  # without it 10^5 and more
    assert json.loads(run_cli("evaluate", run, "--json"))["test_loss"] == last["test_loss"]
    run_cli("train", "--resume", "--out", run, "--epochs", 4, "--no-plots")
    whole = tmp_path / "whole"
    told = ("--data", table, "--standardize", "--out", whole, "--epochs", 4)
    run_cli("train", *told, *SETTINGS)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run, whole)]
    assert weights[0] == weights[1]


def test_other_data_are_scaled_as_the_runs_own_were(tmp_path, table, run, run_cli, error_of):
    kept = json.loads((run / "config.json").read_text())["standardize"]
    assert kept["std"][3] == 1
    assert kept["mean"][3] == 7
    np.save(tmp_path / "two.npy", np.load(table)[:9])
    figures = run_cli("evaluate", run, "--data", tmp_path / "two.npy", "--json")
    assert json.loads(figures)["test_loss"] < 10
    np.save(tmp_path / "three.npy", np.zeros((9, 3), np.float32))
    assert "expected 4 columns" in error_of(
        "evaluate", run, "--data", tmp_path / "three.npy", code=1
    )


def test_arrays_are_written_in_the_datas_own_units(tmp_path, table, run, run_cli):
    run_cli("reconstruct", run, "-n", 5, "--out", tmp_path / "r.npy")
    data, reconstructed = np.load(tmp_path / "r.npy")
    assert all((np.abs(np.load(table) - row) <= 1e-6 * np.abs(row)).all(1).any() for row in data)
    run_cli("sample", run, "-n", 5, "--out", tmp_path / "s.npy")
    for rows in (reconstructed, np.load(tmp_path / "s.npy")):
        assert (abs(rows[:, 1] - 5) < 0.1).all()


def test_pictures_are_not_standardized(tmp_path, error_of):
    said = error_of("train", "--data", "digits", "--standardize", "--out", tmp_path, code=1)
    assert "only tables" in said


def test_what_a_run_was_standardized_with_is_checked(run, error_of):
    config = json.loads((run / "config.json").read_text())
    for kept in (None, {}, {"mean": [0] * 4, "std": [0] * 4}, {"mean": ["x"], "std": [1]}):
        (run / "config.json").write_text(json.dumps({**config, "standardize": kept}))
        error_of("evaluate", run, code=1)
