"""The CUDA kernels as a wheel of their own: ``vae_fast_cuda13``, for every torch of CUDA 13.

    python -m build_tools.cuda_wheel --cuda 13 vae_fast/_cuda.so

It has the library that setup.py built (:mod:`build_tools.extensions`) and nothing else, asks for
the package of the same release, and is found by it where torch has that CUDA. It runs in an
environment of its own, as :mod:`build_tools.wheel`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from build_tools.version import ROOT, VERSION
from build_tools.wheel import PLATFORM, repair, run

METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
Summary: The CUDA {cuda} kernels of vae_fast
License-Expression: BSD-3-Clause
License-File: LICENSE
Requires-Python: >=3.11
Requires-Dist: vae_fast=={version}
Description-Content-Type: text/markdown

The CUDA kernels of [vae_fast](https://pypi.org/project/vae_fast/), which finds them by itself where
PyTorch is built for CUDA {cuda}.
"""

WHEEL = """\
Wheel-Version: 1.0
Generator: vae_fast
Root-Is-Purelib: false
Tag: py3-none-linux_x86_64
"""

MODULE = '"""The CUDA {cuda} kernels of vae_fast {version}, which finds them by itself."""\n'


def pack(library: Path, cuda: int, folder: Path) -> Path:
    """Writes the wheel with the library in it to ``folder``.

    Args:
        library: What setup.py built.
        cuda: The major release of CUDA that it is of.
        folder: Where the wheel goes.
    """
    names = {"name": f"vae_fast_cuda{cuda}", "version": VERSION, "cuda": cuda}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary, "{name}-{version}".format(**names))
        package, information = root / names["name"], root / f"{root.name}.dist-info"
        (information / "licenses").mkdir(parents=True)
        package.mkdir()
        shutil.copy(library, package)
        (package / "__init__.py").write_text(MODULE.format(**names))
        shutil.copy(ROOT / "LICENSE", information / "licenses")
        (information / "METADATA").write_text(METADATA.format(**names))
        (information / "WHEEL").write_text(WHEEL)
        run("wheel", "pack", "--dest-dir", str(folder), str(root))
    return folder / f"{root.name}-py3-none-linux_x86_64.whl"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path, metavar="LIBRARY")
    parser.add_argument("--cuda", type=int, required=True, metavar="MAJOR")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    parser.add_argument("--platform", default=PLATFORM)
    options = parser.parse_args()
    if not options.library.exists():
        parser.error(f"there is no {options.library}: setup.py builds it where it finds CUDA")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packed:
        repair(pack(options.library, options.cuda, Path(packed)), options.out, options.platform)


if __name__ == "__main__":
    main()
