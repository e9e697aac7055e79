"""Decides whether the CUDA kernels are built, and with which toolkit.

They are built when nvcc and a CUDA build of PyTorch are there, never by whether a GPU is visible: a
wheel is made on one machine and runs on another.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "VAE_FAST_CUDA"
USUAL_HOME = Path("/usr/local/cuda")

# Turing to Blackwell. Code for one runs on later ones of the same major number (8.6 on Ada's 8.9,
# 12.0 on 12.1), and the last one's PTX on whatever comes after.
ARCHITECTURES = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")


class MissingError(Exception):
    """A piece that building for CUDA needs; the message names it and the remedy."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can compile for the PyTorch of this environment.

    Attributes:
        home: What CUDA_HOME must be; bin/nvcc is in it.
        release: Of nvcc, as "13.0".
        architectures: What to compile for, as TORCH_CUDA_ARCH_LIST has it: "8.0;9.0+PTX".
    """

    home: Path
    release: str
    architectures: str

    def is_since(self, *release: int) -> bool:
        """Whether it is of that release or a later one."""
        return tuple(map(int, self.release.split("."))) >= release

    def export(self) -> None:
        """Tells torch.utils.cpp_extension, which reads the environment when it is imported."""
        os.environ["CUDA_HOME"] = str(self.home)
        os.environ["TORCH_CUDA_ARCH_LIST"] = self.architectures


def choose(torch_version: str, torch_cuda: str | None) -> Toolkit | None:
    """The toolkit to build with, or None for a package without CUDA.

    `VAE_FAST_CUDA` is 0 (never), 1 (a missing piece is an error) or auto (it is a line of output).

    Args:
        torch_version: `torch.__version__`.
        torch_cuda: `torch.version.cuda`, None in a CPU build.

    Raises:
        SystemExit: VAE_FAST_CUDA is 1 and a piece is missing, or it is none of the three.
    """
    wanted = os.environ.get(VARIABLE, "") or "auto"
    if wanted not in ("0", "1", "auto"):
        raise SystemExit(f"vae_fast: {VARIABLE} is {wanted!r}, expected 0, 1 or auto")
    if wanted == "0":
        return None
    try:
        toolkit = _find(torch_version, torch_cuda)
    except MissingError as missing:
        if wanted == "1":
            raise SystemExit(f"vae_fast: {VARIABLE} is 1, but {missing}") from None
        _say(f"built without CUDA, because {missing}")
        return None
    _say(f"CUDA {toolkit.release} in {toolkit.home}, for {toolkit.architectures}")
    return toolkit


def _say(line: str) -> None:
    print(f"vae_fast: {line}", file=sys.stderr)


def _find(torch_version: str, torch_cuda: str | None) -> Toolkit:
    if torch_cuda is None:
        raise MissingError(
            f"torch {torch_version} is a CPU build: install a CUDA build of PyTorch to have it"
        )
    home = _home(torch_cuda)
    release = _release(home)
    if release.split(".")[0] != torch_cuda.split(".")[0]:
        raise MissingError(
            f"the nvcc in {home} is of CUDA {release} and torch {torch_version} of CUDA "
            f"{torch_cuda}: set CUDA_HOME to a toolkit of CUDA {torch_cuda}, or install a torch "
            f"built for CUDA {release}"
        )
    _check_compiles(home)
    return Toolkit(home, release, os.environ.get("TORCH_CUDA_ARCH_LIST") or _architectures(home))


def _home(torch_cuda: str) -> Path:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if value := os.environ.get(variable):
            if not _is_home(Path(value)):
                raise MissingError(
                    f"{variable} is {value}, where there is no bin/nvcc with libcudart_static.a "
                    f"beside it: set it to the folder of a CUDA {torch_cuda} toolkit"
                )
            return Path(value)
    for home in _candidates():
        if _is_home(home):
            return home
    raise MissingError(
        f"there is no CUDA toolkit behind the nvcc on the PATH or in {USUAL_HOME}: install CUDA "
        f"{torch_cuda}, or set CUDA_HOME to the folder that has its bin/nvcc"
    )


def _candidates() -> Iterator[Path]:
    if nvcc := shutil.which("nvcc"):
        # A wrapper's own folder says nothing; the nvcc behind it knows where it is.
        dry_run = _output(nvcc, "--dryrun", "-x", "cu", "-c", "-o", os.devnull, os.devnull)
        if top := re.search(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE):
            yield Path(top[1].strip()).resolve()
        yield Path(nvcc).resolve().parent.parent
    yield USUAL_HOME.resolve()


def _is_home(path: Path) -> bool:
    libraries = ("lib64", "lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")
    return (path / "bin" / "nvcc").is_file() and any(
        (path / folder / "libcudart_static.a").exists() for folder in libraries
    )


def _release(home: Path) -> str:
    version = _output(str(home / "bin" / "nvcc"), "--version")
    found = re.search(r"release (\d+\.\d+)", version)
    if found is None:
        raise MissingError(f"{home}/bin/nvcc --version names no release: is that toolkit whole?")
    return found[1]


def _check_compiles(home: Path) -> None:
    """Runs the preprocessor: nvcc refuses a C++ compiler that it does not know."""
    compiler = ["-ccbin", os.environ["CC"]] if os.environ.get("CC") else []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.cu"
        source.touch()
        command = [str(home / "bin" / "nvcc"), *compiler, "-std=c++20", "-E", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise MissingError(
            f"{home}/bin/nvcc cannot compile here ({lines[0].strip()}): install what it asks for, "
            "or set CC to a compiler that it takes"
        )


def _architectures(home: Path) -> str:
    """Those of the default ones that this nvcc knows, the last with its PTX."""
    names = _output(str(home / "bin" / "nvcc"), "--list-gpu-arch").split()
    known = [a for a in ARCHITECTURES if f"compute_{a.replace('.', '')}" in names]
    return ";".join(known) + "+PTX"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
