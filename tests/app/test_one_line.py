"""Whatever goes wrong is said in one line, and paths are printed as they are."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from vae_fast.cli.signals import Interrupted, interruptible
from vae_fast.training import Trainer
from vae_fast.training.graphed import CannotRecord

SMALL = ("--data", "digits", "--latent", 2, "--hidden", 8, "--device", "cpu", "--no-plots")


@pytest.mark.parametrize("name", ["[/bold]", "runs[beta]", ":smile:", os.fsdecode(b"\xff\xfe")])
def test_paths_are_printed_as_they_are(tmp_path, monkeypatch, run_cli, name):
    monkeypatch.chdir(tmp_path)
    shown = name.encode(errors="backslashreplace").decode()
    assert f"{shown}/model.safetensors" in run_cli("train", "--out", name, *SMALL, "--epochs", 1)
    assert shown in run_cli("train", "--resume", "--out", name, "--epochs", 2, "--no-plots")
    assert f"{shown} on 300" in run_cli("evaluate", name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", 2**64), "--seed"),
        (("--batch-size", 10**20), "--batch-size"),
        (("--latent", 10**30), "--latent"),
        (("--hidden", 10**30), "--hidden"),
        (("--threads", 100_000), "--threads"),
        (("--beta", "nan"), "'nan' is not a finite number"),
        (("--device", "mps"), "the device 'mps' is not to be had here"),
        (("--hidden", "2000000000,2000000000"), "overflow|can't allocate memory"),
    ],
)
def test_numbers_beyond_what_there_is(tmp_path, error_of, arguments, message):
    said = error_of("train", "--out", tmp_path / "run", *SMALL, *arguments, code=2)
    assert any(part in said for part in message.split("|"))
    assert len(said) < 500


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), CannotRecord("not recorded")],
)
def test_what_the_machine_lacks_is_one_line(tmp_path, error_of, monkeypatch, error):
    def failing(*_):
        raise error

    monkeypatch.setattr(Trainer, "fit", failing)
    said = error_of("train", "--out", tmp_path / "run", *SMALL, code=1)
    assert str(error) in said


def test_no_memory_of_torch_is_one_line(tmp_path, run_cli, error_of):
    run_cli("train", "--out", tmp_path, *SMALL, "--epochs", 1)
    said = error_of("evaluate", tmp_path, "-k", 2_000_000_000, code=1)
    assert "there is not enough memory" in said


def test_a_setting_is_named_as_it_was_given(error_of):
    said = error_of("train", "--resume", "--out", "x", "--model", "ae", code=2)
    assert "leave out --model" in said


def test_an_error_of_our_own_is_no_line(run_cli, monkeypatch):
    """A fault of this package must show where it is."""

    def failing(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Trainer, "fit", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        run_cli("train", "--out", "x", *SMALL)


def test_a_schedule_that_jumps_is_said(tmp_path, run_cli):
    settings = ("--schedule", "cosine", "--epochs", 2)
    run_cli("train", "--out", tmp_path, *SMALL, *settings)
    with pytest.warns(UserWarning, match="goes on at 0.0005, and was 0"):
        Trainer.resume(tmp_path, epochs=4)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_there_is(tmp_path, run_cli, monkeypatch, number, code):
    evaluate = Trainer.evaluate

    def signalled(trainer, data):
        if trainer.epoch == 3:
            os.kill(os.getpid(), number)
        return evaluate(trainer, data)

    monkeypatch.setattr(Trainer, "evaluate", signalled)
    settings = ("--epochs", 9, "--checkpoint-every", 50)
    said = run_cli("train", "--out", tmp_path, *SMALL, *settings, code=code)
    assert "to go on after epoch 3:" in " ".join(said.split())
    assert Trainer.resume(tmp_path).epoch == 3


def test_a_second_signal_ends_the_process():
    child = os.fork()
    if child == 0:
        try:
            with interruptible():
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except Interrupted:
                    os.kill(os.getpid(), signal.SIGINT)
        finally:
            os._exit(99)  # not reached
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGINT


def test_an_interruption_of_the_imports_is_one_line():
    """Which take seconds, in which people think better of it."""
    script = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
import vae_fast_command
vae_fast_command.main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "vae-fast: error: interrupted\n")


def test_signals_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_data_with_nan_are_named(tmp_path, error_of):
    array = np.zeros((20, 4), np.float32)
    array[3, 2] = np.nan
    np.save(tmp_path / "x.npy", array)
    told = ("--data", tmp_path / "x.npy", "--likelihood", "gaussian", "--out", tmp_path / "run")
    assert "NaN" in error_of("train", *told, code=1)


def test_what_a_run_says_of_its_data_is_checked(tmp_path, run_cli, error_of):
    run_cli("train", "--out", tmp_path, *SMALL, "--epochs", 1)
    config = json.loads((tmp_path / "config.json").read_text())
    for data in (None, [], {"source": 5}, {**config["data"], "foo": 1}):
        (tmp_path / "config.json").write_text(json.dumps({**config, "data": data}))
        error_of("evaluate", tmp_path, code=1)
