"""Whether a build has CUDA, and what it says: build_tools.cuda before toolkits that are made up."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from build_tools import cuda  # noqa: E402

NVCC = """#!/bin/sh
case "$*" in
  *--version*) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
  *--list-gpu-arch*) printf 'compute_75\\ncompute_80\\ncompute_90\\n' ;;
  *--dryrun*) echo "#$ TOP={home}/bin/.." >&2 ;;
  *-E*) {preprocess} ;;
esac
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No toolkit but those that a test makes."""
    for variable in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST", "VAE_FAST_CUDA", "CC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cuda, "USUAL_HOME", tmp_path / "usual")


def make_toolkit(home: Path, release: str = "13.0", preprocess: str = ":") -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "lib64").mkdir()
    (home / "lib64" / "libcudart_static.a").touch()
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(NVCC.format(release=release, home=home, preprocess=preprocess))
    nvcc.chmod(0o755)
    return home


def choose(torch_cuda: str | None = "13.0") -> cuda.Toolkit | None:
    return cuda.choose("2.14.1", torch_cuda)


def test_the_usual_place(tmp_path, capsys):
    home = make_toolkit(tmp_path / "usual")
    assert choose() == cuda.Toolkit(home, "13.0", "7.5;8.0;9.0+PTX")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_variable_comes_first(tmp_path, monkeypatch):
    make_toolkit(tmp_path / "usual")
    home = make_toolkit(tmp_path / "own")
    monkeypatch.setenv("CUDA_HOME", str(home))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert choose() == cuda.Toolkit(home, "13.0", "9.0")


def test_the_nvcc_on_the_path_may_be_a_wrapper(tmp_path, monkeypatch):
    home = make_toolkit(tmp_path / "real")
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {home}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    toolkit = choose()
    assert toolkit is not None
    assert toolkit.home == home.resolve()


def test_export_is_what_torch_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "")  # so that it is put back
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "")
    cuda.Toolkit(tmp_path, "13.0", "9.0+PTX").export()
    assert os.environ["CUDA_HOME"] == str(tmp_path)
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0+PTX"


def no_toolkit(tmp_path, monkeypatch):
    pass


def wrong_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))


def other_release(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "old", release="12.8")))


def unsupported_compiler(tmp_path, monkeypatch):
    complaint = "echo 'host_config.h: error: unsupported GNU version' >&2; exit 1"
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "own", preprocess=complaint)))


MISSING = {
    no_toolkit: "set CUDA_HOME to the folder that has its bin/nvcc",
    wrong_variable: "set it to the folder of a CUDA 13.0 toolkit",
    other_release: "set CUDA_HOME to a toolkit of CUDA 13.0",
    unsupported_compiler: "unsupported GNU version",
}


@pytest.mark.parametrize(
    ("missing", "remedy"), MISSING.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_what_is_missing_is_said_in_one_line(missing, remedy, tmp_path, monkeypatch, capsys):
    missing(tmp_path, monkeypatch)
    assert choose() is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert remedy in said
    monkeypatch.setenv("VAE_FAST_CUDA", "1")
    with pytest.raises(SystemExit, match="VAE_FAST_CUDA is 1") as error:
        choose()
    assert remedy in str(error.value)


def test_a_cpu_build_of_torch(tmp_path, capsys):
    make_toolkit(tmp_path / "usual")
    assert choose(None) is None
    assert "torch 2.14.1 is a CPU build" in capsys.readouterr().err


def test_not_wanted(tmp_path, monkeypatch, capsys):
    make_toolkit(tmp_path / "usual")
    monkeypatch.setenv("VAE_FAST_CUDA", "0")
    assert choose() is None
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("VAE_FAST_CUDA", "yes")
    with pytest.raises(SystemExit, match="expected 0, 1 or auto"):
        choose()
