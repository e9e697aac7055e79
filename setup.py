"""Builds the compiled parts of the package; everything static is in pyproject.toml.

Environment variables:
    VAE_FAST_CUDA=0|1|auto   without the CUDA kernels, with them or an error, or (the default) with
                             them where nvcc and a CUDA build of PyTorch are there
    CUDA_HOME                the CUDA toolkit, where it is not found by itself
    TORCH_CUDA_ARCH_LIST     what to compile for: "8.0;9.0+PTX"; from Turing to Blackwell if not set
    VAE_FAST_EXTENSION=0     install without the compiled parts, which another command then builds
    VAE_FAST_WERROR=1        turn compiler warnings into errors (the project's own checks do)
    MAX_JOBS                 how many files are compiled at once
"""

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

sys.path.insert(0, str(Path(__file__).parent))  # an isolated build does not have it

from build_tools import stub


def compiled() -> dict[str, Any]:
    """What torch's own build tools need to know."""
    try:
        import torch

        from build_tools import cuda

        toolkit = cuda.choose(torch.__version__, torch.version.cuda)
        if toolkit is not None:
            toolkit.export()  # before the next line, which reads it
        from build_tools import extensions
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"vae_fast is compiled against PyTorch, and this environment has no '{error.name}': "
            f"install torch first, then run\n"
            f"    pip install --no-build-isolation ."
        ) from error
    return {
        "ext_modules": extensions.extensions(toolkit),
        "cmdclass": {"build_ext": extensions.Build, "bdist_wheel": Wheel},
    }


class Wheel(bdist_wheel):
    """For every Python: what is compiled for one alone is used by it alone."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


stub.write()
setup(**({} if os.environ.get("VAE_FAST_EXTENSION") == "0" else compiled()))
