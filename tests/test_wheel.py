"""The tools that make wheels: what they refuse, and what the one of the CUDA kernels has in it."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

import vae_fast as vf

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from build_tools import cuda_wheel, wheel  # noqa: E402


def test_a_file_that_is_not_there_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["wheel", str(tmp_path / "none.whl")])
    with pytest.raises(SystemExit):
        wheel.main()
    assert f"there is no file {tmp_path / 'none.whl'}" in capsys.readouterr().err


def test_what_differs_is_named(monkeypatch, tmp_path):
    def made(name, kernels):
        path = tmp_path / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("vae_fast/_kernels.so", kernels)
            archive.writestr(f"vae_fast/_fast_{name}.so", name)
        return path

    def unpack(_module, _command, _dest, folder, _wheel):
        (Path(folder) / "root").mkdir()

    monkeypatch.setattr(wheel, "run", unpack)
    with pytest.raises(ValueError, match=r"differs from .*: vae_fast/_kernels\.so$"):
        wheel.merge([made("one", "a"), made("two", "b")], tmp_path)


def test_kernels_that_were_not_built_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["cuda_wheel", "--cuda", "13", str(tmp_path / "_cuda.so")])
    with pytest.raises(SystemExit):
        cuda_wheel.main()
    assert f"there is no {tmp_path / '_cuda.so'}" in capsys.readouterr().err


def test_the_cuda_kernels_ask_for_the_package_of_their_release(monkeypatch, tmp_path):
    def packed(_module, _command, _to, folder, root):
        shutil.copytree(root, Path(folder) / "packed")

    library = tmp_path / "_cuda.so"
    library.write_bytes(b"kernels")
    monkeypatch.setattr(cuda_wheel, "run", packed)
    name = f"vae_fast_cuda13-{vf.__version__}"
    assert cuda_wheel.pack(library, 13, tmp_path).name == f"{name}-py3-none-linux_x86_64.whl"
    files = tmp_path / "packed"
    assert (files / "vae_fast_cuda13" / "_cuda.so").read_bytes() == b"kernels"
    asked = (files / f"{name}.dist-info" / "METADATA").read_text()
    assert f"Requires-Dist: vae_fast=={vf.__version__}\n" in asked
