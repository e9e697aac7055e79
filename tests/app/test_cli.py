"""The command line as a person meets it: as processes where that matters, else within this one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vae_fast
from vae_fast.cli import _COMMANDS
from vae_fast.training import TrainerConfig

SMALL = ["--hidden", "16", "--latent", "2", "--epochs", "2", "--device", "cpu"]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(vae_fast.__file__).parents[1]),
}


def _hear_interrupts():
    """A shell's background jobs, and all that they start, are deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments, **settings):
    """`python -m vae_fast` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "vae_fast", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        preexec_fn=_hear_interrupts, **settings,
    )  # fmt: skip


def finish(process, code=0):
    """What a process has said on stdout and stderr."""
    said, errors = process.communicate(timeout=120)
    assert process.returncode == code, said + errors
    assert "Traceback" not in errors
    return said, errors


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run of a VAE on digits, with its pictures."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    said, _ = finish(start("train", "--data", "digits", "--out", out, *SMALL))
    assert "after epoch 2" in said
    return out


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_train_leaves_everything(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors",
        "curves.png", "reconstructions.png", "samples.png", "latent.png",
    }  # fmt: skip
    lines = lines_of(run)
    assert [set(line) for line in lines] == 2 * [
        {"epoch", "train_loss", "train_nll", "train_kl", "test_loss", "test_nll", "test_kl",
         "seconds"}
    ]  # fmt: skip
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["test_loss"] < lines[0]["test_loss"] < 50


def test_evaluate_repeats_the_last_line(run, run_cli):
    figures = json.loads(run_cli("evaluate", run, "--device", "cpu", "--json"))
    last = lines_of(run)[-1]
    for name in ("test_loss", "test_nll", "test_kl"):
        assert figures[name] == pytest.approx(last[name], rel=1e-6)
    table = run_cli("evaluate", run, "-k", "3")
    assert f"{last['test_loss']:.3f}" in table
    assert "log p(x) >=" in table


def test_evaluate_where_it_was_asked_to(tmp_path, run_cli):
    """A run from a machine with a GPU, on one without; its curves are its own."""
    run_cli("train", "--out", tmp_path, *SMALL, "--tensorboard", "--no-plots")
    written = json.loads((tmp_path / "config.json").read_text())
    written["trainer"]["device"] = "cuda:99"
    (tmp_path / "config.json").write_text(json.dumps(written))
    figures = json.loads(run_cli("evaluate", tmp_path, "--device", "cpu", "--json"))
    assert figures["test_loss"] == pytest.approx(lines_of(tmp_path)[-1]["test_loss"], rel=1e-6)


def test_sample_and_reconstruct(run, tmp_path, run_cli, error_of):
    for command, name in (("sample", "samples"), ("reconstruct", "reconstructions")):
        (run / f"{name}.png").unlink()
        run_cli(command, run, "-n", 5)
        with Image.open(run / f"{name}.png") as image:
            assert min(image.size) > 100
        run_cli(command, run, "-n", 5, "--out", tmp_path / f"{name}.npy")
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (5, 1, 8, 8)
    assert 0 <= samples.min() <= samples.max() <= 1
    assert np.load(tmp_path / "reconstructions.npy").shape == (2, 5, 1, 8, 8)
    assert ".png nor .npy" in error_of("sample", run, "--out", "x.gif", code=2)


def test_interrupted_and_resumed_is_as_never_interrupted(tmp_path, run_cli):
    settings = ["--epochs", "40", "--hidden", "16", "--no-plots", "--threads", "1", "--seed", "4"]
    process = start("train", "--out", tmp_path / "broken", *settings)
    metrics = tmp_path / "broken" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = finish(process, code=130)
    assert "--resume --out" in said
    assert len(lines_of(tmp_path / "broken")) < 40
    run_cli("train", "--resume", "--out", tmp_path / "broken", "--no-plots", "--threads", "1")
    run_cli("train", "--out", tmp_path / "whole", *settings)
    for name in ("model.safetensors", "config.json"):
        whole, broken = ((tmp_path / run / name).read_bytes() for run in ("whole", "broken"))
        assert whole == broken
    losses = [
        [line["test_loss"] for line in lines_of(tmp_path / run)] for run in ("whole", "broken")
    ]
    assert losses[0] == losses[1]


def test_more_epochs_and_refused_settings(run, run_cli, error_of):
    assert "leave out --latent" in error_of(
        "train", "--resume", "--out", run, "--latent", 3, code=2
    )
    run_cli("train", "--resume", "--out", run, "--epochs", 3, "--no-plots")
    assert len(lines_of(run)) == 3


def test_a_run_is_replaced_only_on_request(tmp_path, run_cli, error_of):
    arguments = ["train", "--out", tmp_path, *SMALL, "--epochs", "1", "--no-plots"]
    run_cli(*arguments)
    assert "holds a run already" in error_of(*arguments, code=1)
    run_cli(*arguments, "--overwrite", "--model", "ae")
    assert json.loads((tmp_path / "config.json").read_text())["model"]["model"] == "ae"
    assert "auto-encoder" in error_of("evaluate", tmp_path, "-k", 5, code=2)


def test_every_setting_reaches_the_run(tmp_path, run_cli):
    run_cli(
        "train", "--out", tmp_path, "--data", "digits", "--test-fraction", 0.25, "--arch", "conv",
        "--channels", "4,8", "--hidden", "16,12", "--latent", 3, "--likelihood", "gaussian",
        "--decoder-logvar", "-1.5", "--beta", 0.5, "--kl-warmup", 0.5, "--free-bits", 0.01,
        "--epochs", 1, "--batch-size", 64, "--lr", 0.002, "--schedule", "linear", "--lr-warmup",
        0.1, "--weight-decay", 0.001, "--clip-norm", 3, "--patience", 2, "--min-delta", 0.01,
        "--seed", 9, "--device", "cpu", "--threads", 1, "--checkpoint-every", 2, "--no-plots",
        "--precision", "bfloat16", "--no-cuda-graphs", "--kl-cycles", 2, "--kl-capacity", 4,
        "--kl-capacity-warmup", 0.25,
    )  # fmt: skip
    config = json.loads((tmp_path / "config.json").read_text())
    assert TrainerConfig.from_dict(config["trainer"]) == TrainerConfig(
        epochs=1, batch_size=64, learning_rate=0.002, weight_decay=0.001, schedule="linear",
        lr_warmup=0.1, clip_norm=3.0, beta=0.5, kl_warmup=0.5, free_bits=0.01, patience=2,
        min_delta=0.01, checkpoint_every=2, seed=9, device="cpu",
        precision="bfloat16", cuda_graphs=False, kl_cycles=2, kl_capacity=4.0,
        kl_capacity_warmup=0.25,
    )  # fmt: skip
    assert config["model"] == {
        "model": "vae", "input_shape": [1, 8, 8], "latent_dim": 3, "hidden": [16, 12],
        "architecture": "conv", "channels": [4, 8], "likelihood": "gaussian",
        "decoder_logvar": -1.5,
    }  # fmt: skip
    assert config["data"]["test_fraction"] == 0.25


def test_rows_of_numbers_train_too(tmp_path, run_cli, error_of, monkeypatch):
    """Data that are no pictures: curves and codes are drawn, the rest is not."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    run_cli("train", "--data", "x.npy", "--likelihood", "gaussian", *SMALL)
    out = Path("runs") / "x-vae"
    assert (out / "latent.png").exists()
    assert not (out / "samples.png").exists()
    assert "no pictures" in error_of("sample", out, code=1)
    run_cli("sample", out, "--out", tmp_path / "s.npy")
    monkeypatch.chdir("/")
    run_cli("evaluate", tmp_path / out)  # from another folder: the path of the data is in the run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "nothing"], 1, "no data called 'nothing'"),
        (["train", "--data", "x.npy"], 1, "there is no file"),
        (["train", "--epochs", "0"], 2, "--epochs"),
        (["train", "--hidden", "a,b"], 2, "--hidden"),
        (["train", "--device", "warp"], 2, "--device"),
        (["train", "--precision", "float16"], 2, "--precision"),
        (["train", "--device", "meta"], 2, "the device 'meta' is not to be had here"),
        (["train", "--device", "cpu", "--cuda-graphs"], 2, "--cuda-graphs needs a GPU"),
        (["train", "--decoder-logvar", "big"], 2, "--decoder-logvar"),
        (["train", "--arch", "conv", "--channels", "4,4,4,4"], 2, "too often"),
        (["train", "--resume"], 2, "--resume needs --out"),
        (["train", "--resume", "--out", "nowhere"], 1, "there is no"),
        (["evaluate", "nowhere"], 1, "there is no run in nowhere"),
        (["fly"], 2, "No such command"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, error_of, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(*arguments, code=code)


def test_real_values_need_another_likelihood(tmp_path, error_of):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    assert "Gaussian" in error_of("train", "--data", tmp_path / "x.npy", code=1)


def test_a_mistake_as_a_process_sees_it(tmp_path):
    _, errors = finish(start("evaluate", "nowhere", cwd=tmp_path), code=1)
    assert errors == "vae-fast: error: there is no run in nowhere (it has no config.json)\n"


def test_info_and_help(run_cli):
    assert torch.__version__ in run_cli("info")
    assert json.loads(run_cli("info", "--json"))["torch"] == torch.__version__
    for command in _COMMANDS:
        assert command in run_cli("--help")
        assert "Usage: vae-fast" in run_cli(command, "--help")
    assert "Optimisation:" in run_cli("train", "--help")
    assert "Commands:" in run_cli(code=2)  # nothing given


def test_demo(tmp_path, run_cli, few_codes):
    for _ in range(2):  # and again, over the first
        run_cli("demo", "--out", tmp_path / "demo", "--epochs", 2)
    names = {str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*.*")}
    assert names >= {
        "config.json", "metrics.jsonl", "model.safetensors", "curves.png", "reconstructions.png",
        "samples.png", "latent.png", "ae/metrics.jsonl", "ae/model.safetensors",
    }  # fmt: skip
    run_cli("evaluate", tmp_path / "demo" / "ae")


def test_importing_the_package_imports_torch_alone():
    heavy = ["matplotlib", "sklearn", "PIL", "safetensors", "pooch", "click", "rich", "requests"]
    code = f"import sys, vae_fast; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout.strip() == "[]"
