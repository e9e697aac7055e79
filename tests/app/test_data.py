"""Every source of data, in every form it may come; and what is wrong with bad ones."""

import gzip
import hashlib
import os
import struct
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from vae_fast.data import DataError, load, mnist
from vae_fast.data.layout import hold_out
from vae_fast.data.mnist import parse_idx


def test_digits_are_the_intensities_of_the_source(digits):
    assert digits.train.dtype == torch.uint8
    assert (len(digits.train), len(digits.test)) == (1497, 300)
    assert digits.shape == (1, 8, 8)
    source = torch.from_numpy(datasets.load_digits().images).float()
    ours = torch.cat([digits.test, digits.train])[:, 0].float() / 255
    order = torch.from_numpy(np.random.RandomState(0).permutation(1797))
    torch.testing.assert_close(ours, source[order] / 16, atol=0.002, rtol=0)
    labels = torch.cat([digits.test_labels, digits.train_labels])
    assert torch.equal(labels, torch.from_numpy(datasets.load_digits().target)[order])


def test_the_split_is_the_same_for_ever():
    data = hold_out("x", torch.arange(10)[:, None], None, 0.3)
    assert data.test[:, 0].tolist() == [2, 8, 4]  # numpy's RandomState never changes
    assert sorted(torch.cat([data.test, data.train])[:, 0].tolist()) == list(range(10))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_bad_fractions(fraction):
    with pytest.raises(DataError, match="test fraction"):
        load("digits", test_fraction=fraction)


def test_a_fraction_that_leaves_nothing(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match="leaves one part empty"):
        load(str(tmp_path / "x.npy"), test_fraction=0.01)


# ---- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((12, 5), (5,)),
        ((12, 7, 9), (1, 7, 9)),
        ((12, 3, 7, 9), (3, 7, 9)),
        ((12, 7, 9, 3), (3, 7, 9)),
        ((12, 7, 9, 1), (1, 7, 9)),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "expected_dtype"),
    [("u1", torch.uint8), ("f4", torch.float32), ("f8", torch.float32), ("f2", torch.float32)],
)
def test_arrays_of_every_layout(tmp_path, shape, expected, dtype, expected_dtype):
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    data = load(str(tmp_path / "x.npy"), test_fraction=0.25)
    assert data.shape == expected
    assert data.train.dtype == expected_dtype
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.train.is_contiguous()
    total = float(data.train.double().sum() + data.test.double().sum())
    assert total == pytest.approx(float(array.astype("f8").sum()), rel=1e-5)


def test_channels_behind_are_moved_to_the_front(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    np.savez(tmp_path / "x.npz", train=array, test=array[:1])
    data = load(str(tmp_path / "x.npz"))
    assert torch.equal(data.train, torch.from_numpy(array).permute(0, 3, 1, 2))


def test_bool_becomes_black_and_white(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(6, dtype=bool))
    assert set(load(str(tmp_path / "x.npy")).train.unique().tolist()) == {0, 255}


def test_npz_with_everything(tmp_path):
    x = np.random.default_rng(0).random((20, 4)).astype("f4")
    names = np.array(["a", "b"])[np.arange(20) % 2]
    np.savez(tmp_path / "x.npz", x_train=x, y_train=names, x_test=x[:5], y_test=np.arange(5) + 3)
    data = load(str(tmp_path / "x.npz"))
    assert torch.equal(data.train, torch.from_numpy(x))
    assert torch.equal(data.test, torch.from_numpy(x[:5]))
    assert data.train_labels.tolist() == [0, 1] * 10
    assert data.test_labels.tolist() == [3, 4, 5, 6, 7]


def test_npz_without_a_test_set(tmp_path):
    x = np.random.default_rng(0).random((20, 4)).astype("f4")
    np.savez(tmp_path / "x.npz", anything=x)
    assert len(load(str(tmp_path / "x.npz"), test_fraction=0.1).test) == 2
    np.savez(tmp_path / "y.npz", data=x, labels=np.arange(20))
    data = load(str(tmp_path / "y.npz"), test_fraction=0.1)
    torch.testing.assert_close(data.test, torch.from_numpy(x)[data.test_labels])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 4), "f4"), "is empty"),
        (np.zeros(4, "f4"), "expected"),
        (np.zeros((2, 2, 2, 2, 2), "f4"), "expected"),
        (np.zeros((4, 4), "i8"), "holds int64"),
        (np.zeros((4, 4), "c8"), "holds complex64"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), 1e300), "beyond float32"),
    ],
    ids=["empty", "1-d", "5-d", "int64", "complex", "nan", "huge"],
)
def test_arrays_that_cannot_be_used(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}, "holds a, b; expected an array called"),
        ({"train": np.zeros((4, 2)), "labels": np.zeros(3, int)}, "one label each"),
        ({"train": np.zeros((4, 2)), "test": np.zeros((4, 3))}, "expected the same"),
        ({"train": np.zeros((4, 2)), "test": np.zeros((4, 2), "u1")}, "expected the same"),
    ],
    ids=["names", "labels", "shapes", "dtypes"],
)
def test_npz_that_cannot_be_used(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "x.npz"))


def test_pickles_are_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it ran"),)

    np.save(tmp_path / "x.npy", np.array([Payload()], object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, which are never unpickled"):
        load(str(tmp_path / "x.npy"))
    np.savez(tmp_path / "x.npz", train=np.array([Payload()], object))
    with pytest.raises(DataError, match="Python objects, which are never unpickled"):
        load(str(tmp_path / "x.npz"))
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_that_are_something_else(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(DataError, match="there is no file"):
        load(str(path))
    for content in (b"", b"text", b"PK\3\4 half a zip"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            load(str(path))


def test_unknown_sources():
    with pytest.raises(DataError, match="no data called 'cifar'"):
        load("cifar")


def test_bernoulli_needs_intensities(tmp_path, digits):
    digits.require_kind("intensities")
    np.save(tmp_path / "x.npy", np.linspace(-1, 2, 40).reshape(10, 4))
    with pytest.raises(DataError, match=r"from -?\d.* to .*Bernoulli"):
        load(str(tmp_path / "x.npy")).require_kind("intensities")


# ---- images --------------------------------------------------------------------------------------


def save_image(path, mode="L", size=(6, 5), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2}[mode]
    pixels = np.full((size[1], size[0], channels), value, np.uint8)
    Image.fromarray(pixels.squeeze(), mode).save(path)


def test_a_folder_of_grey_images(tmp_path):
    for index in range(6):
        save_image(tmp_path / f"{index}.png", value=index)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load(str(tmp_path), test_fraction=0.5)
    assert data.shape == (1, 5, 6)
    assert sorted(torch.cat([data.train, data.test])[:, 0, 0, 0].tolist()) == list(range(6))
    assert data.train_labels is None


def test_folders_are_labels_and_colour_wins(tmp_path):
    for index in range(3):
        save_image(tmp_path / "cat" / f"{index}.png")
        save_image(tmp_path / "dog" / "young" / f"{index}.JPG", mode="RGB")
    data = load(str(tmp_path), test_fraction=0.5)
    assert data.shape == (3, 5, 6)
    labels = torch.cat([data.train_labels, data.test_labels])
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_images_of_different_sizes(tmp_path):
    for index in range(4):
        save_image(tmp_path / f"{index}.png", size=(6 + index, 9))
    with pytest.raises(DataError, match="--image-size"):
        load(str(tmp_path))
    assert load(str(tmp_path), image_size=4).shape == (1, 4, 4)


def test_images_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="there are no images"):
        load(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="cannot be read as an image"):
        load(str(tmp_path))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load(str(tmp_path))


# ---- MNIST ---------------------------------------------------------------------------------------


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + (
        array.astype(np.uint8).tobytes()
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0, 28, 28)])
def test_idx_files(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(parse_idx(idx(array), "x"), array)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\x89PNG....", b"\0\0\x0d\1\0\0\0\1....", idx(np.zeros((2, 3)))[:-1],
     idx(np.zeros((2, 3))) + b"\0", b"\0\0\x08\3\0\0\0\1"],
)  # fmt: skip
def test_damaged_idx_files(content):
    with pytest.raises(DataError, match="x is "):
        parse_idx(content, "x")


@pytest.fixture
def small_mnist(monkeypatch):
    """Four small files in MNIST's format, and the loader made to expect them."""
    random = np.random.default_rng(0)
    files, sums = {}, {}
    for part, count in (("train", 20), ("t10k", 8)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(random.integers(0, 10, (count,)))
    for name, content in files.items():
        packed = gzip.compress(content, mtime=0)
        sums[name] = tuple(hashlib.md5(c).hexdigest() for c in (content, packed))
    monkeypatch.setattr(mnist, "_SUMS", sums)
    monkeypatch.setattr(mnist, "_MIRRORS", ("http://127.0.0.1:9/",))  # nobody answers there
    monkeypatch.delenv("VAE_FAST_DATA", raising=False)
    return files


def write_files(folder, files, packed):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["argument", "variable", "subfolder"])
def test_mnist_from_files(tmp_path, small_mnist, monkeypatch, packed, place):
    write_files(tmp_path / "mnist" if place == "subfolder" else tmp_path, small_mnist, packed)
    if place == "variable":
        monkeypatch.setenv("VAE_FAST_DATA", str(tmp_path))
    data = load("mnist", data_dir=None if place == "variable" else tmp_path)
    assert data.train.shape == (20, 1, 28, 28)
    assert data.test_labels.shape == (8,)
    assert data.train.dtype == torch.uint8
    assert data.train.numpy().tobytes() == small_mnist["train-images-idx3-ubyte"][16:]


def test_mnist_that_is_damaged(tmp_path, small_mnist):
    write_files(tmp_path, small_mnist, packed=False)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0f")
    with pytest.raises(DataError, match=r"t10k-labels.* is damaged"):
        load("mnist", data_dir=tmp_path)
    path.write_bytes(gzip.compress(b"x" * 100)[:-12])
    with pytest.raises(DataError, match=r"t10k-labels.* cannot be read"):
        load("mnist", data_dir=tmp_path)


def test_mnist_without_a_network(tmp_path, small_mnist):
    with pytest.raises(DataError, match=r"could not be downloaded .*: put .* --data-dir") as caught:
        load("mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(tmp_path):
    """A web server with the files in a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_mnist_is_downloaded_once(tmp_path, small_mnist, mirror, monkeypatch):
    served, address = mirror
    write_files(served, small_mnist, packed=True)
    monkeypatch.setattr(mnist, "_MIRRORS", ("http://127.0.0.1:9/", address))
    monkeypatch.setenv("VAE_FAST_DATA", str(tmp_path / "new"))
    assert len(load("mnist").train) == 20
    for path in served.iterdir():
        path.unlink()
    assert len(load("mnist").train) == 20


def test_a_download_with_the_wrong_content_is_refused(tmp_path, small_mnist, mirror, monkeypatch):
    served, address = mirror
    write_files(served, {name: content + b"!" for name, content in small_mnist.items()}, True)
    monkeypatch.setattr(mnist, "_MIRRORS", (address,))
    with pytest.raises(DataError, match="could not be downloaded"):
        load("mnist", data_dir=tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


# Where the real set lies it is tested too; elsewhere there is nothing to skip.
if "VAE_FAST_DATA" in os.environ:

    def test_the_real_mnist():
        data = load("mnist")
        assert data.train.shape == (60_000, 1, 28, 28)
        assert data.test.shape == (10_000, 1, 28, 28)
        assert float(data.train.double().mean() / 255) == pytest.approx(0.1307, abs=1e-4)
        assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
