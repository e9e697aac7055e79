"""Builds the compiled extension; everything static is in pyproject.toml.

Environment variables:
    VAE_FAST_WERROR=1   turn compiler warnings into errors (the project's own checks do)
    MAX_JOBS            how many files are compiled at once
"""

import os
from pathlib import Path

from setuptools import setup

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths
except ModuleNotFoundError as error:
    raise SystemExit(
        f"vae_fast is built against the PyTorch that it will run with, and this environment has no "
        f"'{error.name}': install torch first, then run\n"
        f"    pip install --no-build-isolation ."
    ) from error

ROOT = Path(__file__).parent
SOURCES = [*ROOT.glob("csrc/cpu/*.cpp"), *ROOT.glob("csrc/bindings/*.cpp")]
HEADERS = [*ROOT.glob("csrc/**/*.h")]

CXX_FLAGS = [
    "-std=c++20",
    "-O3",
    "-g0",
    # The kernels' contract with the compiler: no errno, no traps, a * b + c may be fused, SIMD
    # loops are marked. Nothing here allows it to forget NaN or infinity.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fopenmp-simd",
    # A select on the condition of the select before it must not become a branch again: gcc then
    # vectorises two to four times as many blends, half of the Bernoulli kernel.
    "-fno-thread-jumps",
    "-fopenmp",  # at::parallel_for is a template on torch's own OpenMP threads
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    # Warnings are for our own code: the same path given again as a system path.
    *(f"-isystem{path}" for path in include_paths()),
]
if os.environ.get("VAE_FAST_WERROR") == "1":
    CXX_FLAGS.append("-Werror")


def relative(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


setup(
    ext_modules=[
        CppExtension(
            "vae_fast._C",
            relative(SOURCES),
            include_dirs=[str(ROOT / "csrc")],
            depends=relative(HEADERS),
            extra_compile_args={"cxx": CXX_FLAGS},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
