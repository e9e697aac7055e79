"""What loading takes: the memory of the data and little else, and no more than is allowed."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from vae_fast.data import DataError, load
from vae_fast.data.rows import npy_rows

_SIZE = 64 * 2**20  # bytes of the data in memory


def peak(tmp_path, source):
    """How far loading raises the peak of a process' memory, as a part of the data's own bytes."""
    script = f"""
        import pathlib, re, torch
        import vae_fast.data.arrays, vae_fast.data.folder
        from PIL import Image
        from vae_fast.data import load
        def now():  # not ru_maxrss: before its exec, a process is its parent's copy
            status = pathlib.Path("/proc/self/status").read_text()
            return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
        before = now()
        data = load({str(tmp_path / source)!r}, test_fraction=0.2)
        print((now() - before) / (data.train.nbytes + data.test.nbytes))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    part = float(ended.stdout)
    assert part > 0.9  # the data themselves: it measures something
    return part


def save(tmp_path, kind):
    array = np.zeros((_SIZE // 4096, 32, 32), np.float32)
    array[:] = np.linspace(0, 1, 32, dtype=np.float32)
    if kind == "uint8":
        array = np.full((_SIZE // 4096, 64, 64), 7, np.uint8)
    if kind == "float64":
        array = array.astype(np.float64)
    if kind == "in columns":
        array = np.asfortranarray(array)
    if kind == "npz":
        np.savez(tmp_path / "x.npz", train=array)
        return "x.npz"
    np.save(tmp_path / "x.npy", array)
    return "x.npy"


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64", "npz", "in columns"])
def test_the_memory_of_loading(tmp_path, kind):
    assert peak(tmp_path, save(tmp_path, kind)) < 1.2


def test_the_memory_of_a_folder(tmp_path):
    (tmp_path / "images").mkdir()
    image = Image.new("RGB", (1024, 1024), (1, 2, 3))
    for index in range(20):
        image.save(tmp_path / "images" / f"{index}.png", compress_level=0 if index else 1)
    # Beside the data one picture, decoded: its pixels in PIL, and their copy.
    assert peak(tmp_path, "images") < 1.2 + 3 * 4 / 60


def test_everything_has_its_limit(tmp_path):
    np.save(tmp_path / "x.npy", np.full((10, 100), 3, np.uint8))
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (20, 25)).save(tmp_path / "images" / name)
    for source in ("x.npy", "images"):
        assert load(str(tmp_path / source), test_fraction=0.5, max_bytes=1000).train.numel() == 500
        with pytest.raises(
            DataError, match=r"holds 1,000 bytes of data, and 999 are .*--max-bytes"
        ):
            load(str(tmp_path / source), test_fraction=0.5, max_bytes=999)


@pytest.mark.parametrize("shape", [(300, 5), (300, 4, 5), (300, 3, 8, 5), (300, 8, 5, 3)])
def test_an_array_in_columns(tmp_path, monkeypatch, shape):
    monkeypatch.setattr("vae_fast.data.rows._CHUNK", 7 * 300 * 4)  # several columns
    array = np.asfortranarray(np.random.default_rng(0).random(shape).astype("f4"))
    np.save(tmp_path / "x.npy", array)
    np.save(tmp_path / "y.npy", np.ascontiguousarray(array))
    one, two = (load(str(tmp_path / name)) for name in ("x.npy", "y.npy"))
    assert one.train.equal(two.train)
    assert one.test.equal(two.test)


def test_labels_in_columns(tmp_path):
    """A header may say so of any array, and numpy of what has several columns."""
    labels = np.asfortranarray(np.arange(24).reshape(12, 2))
    np.save(tmp_path / "x.npy", labels)
    with (tmp_path / "x.npy").open("rb") as file:
        assert np.array_equal(npy_rows(file, "x").array(), labels)
