"""Data as people have them: understood, or refused in one sentence that names the file."""

import gzip
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from vae_fast.data import DataError, load
from vae_fast.models import VAE
from vae_fast.training import Trainer, TrainerConfig

ONCE = TrainerConfig(epochs=1, device="cpu")


def pictures(n):
    return np.random.default_rng(n).integers(0, 256, (n, 8, 8), np.uint8)


@pytest.fixture
def run(tmp_path, run_cli):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 8, 8), np.float32))
    settings = ("--epochs", 1, "--hidden", 8, "--no-plots", "--device", "cpu")
    run_cli("train", "--data", tmp_path / "x.npy", *settings, "--out", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("values", ["other", "fewer"])
def test_a_run_notices_that_its_data_have_changed(run, tmp_path, error_of, values):
    changed = np.load(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", changed * 0.5 if values == "other" else changed[:30])
    what = "checksum" if values == "other" else "count"
    for command in (("evaluate", run), ("train", "--resume", "--out", run, "--epochs", 2)):
        assert f"the {what} of its train part is" in error_of(*command, code=1)


def test_all_of_another_file_is_evaluated_and_its_range_checked(run, tmp_path, run_cli, error_of):
    x = np.random.default_rng(1).random((7, 8, 8), np.float32)
    np.save(tmp_path / "new.npy", x)
    figures = run_cli("evaluate", run, "--data", tmp_path / "new.npy", "--json")
    assert json.loads(figures)["count"] == 7
    np.save(tmp_path / "new.npy", x * 5)
    for command in ("evaluate", "reconstruct"):
        assert "needs them in [0, 1]" in error_of(
            command, run, "--data", tmp_path / "new.npy", code=1
        )


@pytest.mark.parametrize(
    ("arrays", "counts"),
    [
        ({"x_train": pictures(6), "y_train": np.zeros((6, 1), int), "x_test": pictures(2)}, (6, 2)),
        ({"X_train": pictures(6), "X_test": pictures(2)}, (6, 2)),
        ({"arr_0": pictures(6), "arr_1": pictures(2)}, (5, 1)),
    ],
    ids=["keras", "capitals", "no names"],
)
def test_archives_as_others_write_them(tmp_path, arrays, counts):
    np.savez(tmp_path / "x.npz", **arrays)
    data = load(str(tmp_path / "x.npz"))
    assert (len(data.train), len(data.test)) == counts


def test_ones_that_were_meant_as_white_are_warned_about(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(8, dtype=np.uint8))
    with pytest.warns(UserWarning, match="nearly black"):
        load(str(tmp_path / "x.npy"))


def test_an_archive_is_read_up_to_its_limit_and_only_where_needed(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", train=pictures(12), other=np.zeros(10**6))
    assert len(load(str(tmp_path / "x.npz"), max_bytes=10**4).train) == 10
    with pytest.raises(DataError, match="--max-bytes"):
        load(str(tmp_path / "x.npz"), max_bytes=100)


def test_damaged_archives_and_images_are_named(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", train=np.random.default_rng(0).random((12, 8, 8)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[120:140] = b"\xff" * 20
    (tmp_path / "x.npz").write_bytes(content)
    (tmp_path / "images").mkdir()
    for name in ("a.ppm", "b.ppm"):
        (tmp_path / "images" / name).write_bytes(b"P6\n16 16\n255\n" + b"x" * 100)
    for source, name in (("x.npz", "x.npz"), ("images", r"[ab]\.ppm")):
        with pytest.raises(DataError, match=rf"{name} cannot be read as"):
            load(str(tmp_path / source), test_fraction=0.5)


def test_what_is_not_mnist_is_not_expanded_and_a_pipe_is_not_waited_for(tmp_path):
    name = tmp_path / "train-images-idx3-ubyte.gz"
    name.write_bytes(gzip.compress(bytes(60_000_000)))
    with pytest.raises(DataError, match="md5 sum is wrong"):
        load("mnist", data_dir=tmp_path)
    name.unlink()
    os.mkfifo(name)
    with pytest.raises(DataError, match="not an ordinary file"):
        load("mnist", data_dir=tmp_path)


def test_folders_as_systems_leave_them(tmp_path):
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    for name in ("a.png", "b.png", "._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        clear.save(tmp_path / name)
    data = load(str(tmp_path), test_fraction=0.5)
    assert (len(data.train), data.train_labels) == (1, None)
    assert int(data.train.max()) == 0  # over black
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"c\.gif holds 2 pictures"):
        load(str(tmp_path))


X = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "source",
    [
        X.numpy(),
        X[:, 0],
        TensorDataset(X),
        DataLoader([(torch.tensor(3), x) for x in X], 20),
        DataLoader([{"label": torch.tensor(3), "image": x[0]} for x in X], 20),
    ],
    ids=["array", "without channels", "dataset", "label first", "mapping"],
)
def test_the_trainer_takes_what_people_have(source):
    trainer = Trainer(VAE((1, 8, 8), 2, hidden=(8,)), ONCE)
    trainer.fit(source)
    assert trainer.evaluate(source) == trainer.evaluate(X)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (X * 5, ValueError, r"needs them in \[0, 1\]"),
        (DataLoader(TensorDataset(X * 5), 5), ValueError, r"needs them in \[0, 1\]"),
        (X[..., :7], ValueError, r"expected \(N, 1, 8, 8\)"),
        ([1, 2], TypeError, "the data are list"),
    ],
    ids=["range", "range of a loader", "shape", "list"],
)
def test_the_trainer_says_what_does_not_fit(source, error, message):
    with pytest.raises(error, match=message):
        Trainer(VAE((1, 8, 8), 2, hidden=(8,)), ONCE).fit(source)
