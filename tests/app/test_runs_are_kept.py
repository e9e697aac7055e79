"""What a run's folder survives: mistakes, other processes, a full disk, a killed process."""

import errno
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest

from vae_fast import Trainer, TrainerConfig
from vae_fast.training import RunError
from vae_fast.training.run import load_run, owned

SMALL = ("--data", "digits", "--latent", "2", "--hidden", "8", "--device", "cpu", "--no-plots")
NAMES = ("config.json", "checkpoint.safetensors", "model.safetensors", "metrics.jsonl")


@pytest.fixture
def run(tmp_path, run_cli):
    """The folder of a small run of two epochs."""
    folder = tmp_path / "run"
    run_cli("train", "--out", folder, *SMALL, "--epochs", 2)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("code", "mistake"),
    [
        (2, ("--beta", "nan")),
        (2, ("--lr", "inf")),
        (2, ("--arch", "conv", "--channels", "8,8,8,8,8,8")),
        (2, ("--decoder-logvar", "foo", "--likelihood", "gaussian")),
        (1, ("--data", "nowhere.npy")),
    ],
)
def test_a_mistake_beside_overwrite_costs_nothing(run, error_of, code, mistake):
    before = contents(run)
    error_of("train", "--out", run, *SMALL, "--epochs", 1, "--overwrite", *mistake, code=code)
    assert contents(run) == before


def test_a_full_disk_costs_nothing(run, make_vae, digits, monkeypatch):
    before = contents(run)
    written = []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    trainer = Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=run, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            trainer.fit(digits.train)
    assert contents(run) == before
    assert {path.name for path in run.iterdir()} == before.keys()
    trainer.fit(digits.train)
    assert len(load_run(run).history) == 1


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_files_of_somebody_else_are_left_alone(tmp_path, error_of, overwrite):
    """A Hugging Face model, say, has two of the names."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Bert"]}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = contents(tmp_path)
    message = error_of("train", "--out", tmp_path, *SMALL, *overwrite, code=1)
    assert "which is not of a run of vae_fast: choose another folder" in message
    assert contents(tmp_path) == before


def test_a_run_without_its_checkpoint_is_a_run(run, error_of):
    (run / "checkpoint.safetensors").unlink()
    assert "holds a run already" in error_of("train", "--out", run, *SMALL, code=1)


def test_the_demo_replaces_its_own_run_only(run, error_of):
    before = contents(run)
    assert "not of the demo" in error_of("demo", "--out", run, "--epochs", 1, code=1)
    assert contents(run) == before


def test_half_a_line_of_metrics_is_survived(run, run_cli):
    """What a full disk, or a power cut, leaves of the last one."""
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 3])
    assert len(load_run(run).history) == 2
    run_cli("evaluate", run)
    run_cli("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_the_checkpoint_alone_is_resumed_from(run, run_cli):
    (run / "metrics.jsonl").write_text("{broken")
    (run / "model.safetensors").write_bytes(b"damaged")
    run_cli("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    assert len(load_run(run).history) == 3


def test_one_process_at_a_time(run, error_of):
    arguments = ("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    with owned(run):
        message = error_of(*arguments, code=1)
        with pytest.raises(RunError, match="another process is training"), owned(run):
            pass
    assert "another process is training in" in message
    assert set(contents(run)) == set(NAMES)


def test_the_second_of_two_trainers_is_refused(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=1, device="cpu")
    first, second = (Trainer(make_vae(), config, out=tmp_path) for _ in range(2))
    first.fit(digits.train)
    before = contents(tmp_path)
    with pytest.raises(RunError, match="holds a run already"):
        second.fit(digits.train)
    assert contents(tmp_path) == before


def test_what_a_killed_process_has_left_is_removed(run, run_cli):
    (run / ".vae_fast.writing").mkdir()
    for name in NAMES:
        (run / ".vae_fast.writing" / name).write_bytes(b"half")
    (run / ".mine").write_bytes(b"kept")
    run_cli("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    assert set(contents(run)) == {*NAMES, ".mine"}


def hide(run):
    """As a process leaves a run that is killed as soon as it has written all of it."""
    (run / ".vae_fast.written").mkdir()
    for name in NAMES:
        (run / name).rename(run / ".vae_fast.written" / name)


def test_every_command_finds_what_a_killed_process_has_written(run, run_cli, error_of):
    before = contents(run)
    hide(run)
    run_cli("evaluate", run)
    assert contents(run) == before
    hide(run)
    assert "holds a run already" in error_of("train", "--out", run, *SMALL, code=1)
    hide(run)
    assert "not of the demo" in error_of("demo", "--out", run, "--epochs", 1, code=1)
    hide(run)
    run_cli("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    assert {path.name for path in run.iterdir()} == {*NAMES}


def test_a_process_that_lives_moves_its_files_itself(run):
    with owned(run):
        hide(run)
        with pytest.raises(RunError, match="there is no run"):
            load_run(run)
        assert {path.name for path in run.iterdir()} == {".vae_fast.written"}
    assert len(load_run(run).history) == 2


def test_an_interruption_says_where_a_resumption_goes_on(run_cli, tmp_path, monkeypatch):
    evaluate = Trainer.evaluate

    def interrupted(trainer, data):
        if trainer.epoch == 3:
            raise KeyboardInterrupt
        return evaluate(trainer, data)

    monkeypatch.setattr(Trainer, "evaluate", interrupted)
    arguments = ("train", "--out", tmp_path, *SMALL, "--epochs", 9, "--checkpoint-every", 2)
    output = run_cli(*arguments, code=130)
    assert "interrupted after epoch 3 of 9; to go on after epoch 3:" in " ".join(output.split())
    assert Trainer.resume(tmp_path).epoch == 3


def test_a_trainer_may_fit_again(make_vae, digits, tmp_path):
    trainer = Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path)
    trainer.fit(digits.train)
    assert len(trainer.fit(digits.train)) == 1


# What changes names, or waits until they are on the disk: all that a kill can come between.
_STEPS = ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink")


def killed_before(step, work):
    """Do the work in a child that is killed before so many of the steps; whether it was."""
    child = os.fork()
    if child == 0:
        left = iter(range(step))

        def dying(true):
            def call(*given, **named):
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return true(*given, **named)

            return call

        for name in _STEPS:
            setattr(os, name, dying(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_run_is_replaced_whole_or_not_at_all(run, run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 6), np.float32))
    other = (*SMALL, "--data", tmp_path / "x.npy", "--epochs", 1)
    new = ("train", *other, "--overwrite", "--out")
    run_cli(*new, tmp_path / "undisturbed")
    weights = (tmp_path / "undisturbed" / "model.safetensors").read_bytes()
    (run / "notes.txt").write_bytes(b"of somebody else")
    before = contents(run)
    found = []
    for step in itertools.count():
        folder = shutil.copytree(run, tmp_path / f"killed before {step}")
        was_killed = killed_before(step, lambda folder=folder: run_cli(*new, folder))
        run_cli("evaluate", folder, "--json")
        left = contents(folder)
        if left == before:
            found.append("the old one")
            continue
        found.append("the new one")
        assert left["notes.txt"] == before["notes.txt"]
        run_cli("train", "--resume", "--out", folder, "--no-plots")
        assert {path.name for path in folder.iterdir()} == before.keys()
        assert (folder / "model.safetensors").read_bytes() == weights
        if not was_killed:
            break
    assert [name for name, _ in itertools.groupby(found)] == ["the old one", "the new one"]
    assert found.count("the new one") > 10
