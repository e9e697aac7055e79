"""What build_tools/wheel.py says of what it cannot merge."""

import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from build_tools import wheel  # noqa: E402


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

    monkeypatch.setattr(wheel, "_run", unpack)
    with pytest.raises(ValueError, match=r"differs from .*: vae_fast/_kernels\.so$"):
        wheel.merge([made("one", "a"), made("two", "b")], tmp_path)
