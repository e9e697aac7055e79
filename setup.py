"""Builds the compiled extension; everything static is in pyproject.toml.

Environment variables:
    VAE_FAST_CUDA=0|1|auto   without the CUDA kernels, with them or an error, or (the default) with
                             them where nvcc and a CUDA build of PyTorch are there
    CUDA_HOME                the CUDA toolkit, where it is not found by itself
    TORCH_CUDA_ARCH_LIST     what to compile for: "8.0;9.0+PTX"; from Turing to Blackwell if not set
    VAE_FAST_EXTENSION=0     install without the extension, which another command then builds
    VAE_FAST_WERROR=1        turn compiler warnings into errors (the project's own checks do)
    MAX_JOBS                 how many files are compiled at once
"""

import os
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # an isolated build does not have it

from build_tools import cuda, stub  # noqa: E402

try:
    import torch

    toolkit = cuda.choose(torch.__version__, torch.version.cuda)
    if toolkit is not None:
        toolkit.export()  # before the next line, which reads it
    from torch.utils.cpp_extension import (
        BuildExtension,
        CppExtension,
        CUDAExtension,
        include_paths,
    )
except ModuleNotFoundError as error:
    raise SystemExit(
        f"vae_fast is built against the PyTorch that it will run with, and this environment has no "
        f"'{error.name}': install torch first, then run\n"
        f"    pip install --no-build-isolation ."
    ) from error

sources = [*ROOT.glob("csrc/cpu/*.cpp"), *ROOT.glob("csrc/bindings/*.cpp")]
if toolkit is None:
    sources.remove(ROOT / "csrc/bindings/cuda.cpp")
else:
    sources += [*ROOT.glob("csrc/cuda/*.cpp"), *ROOT.glob("csrc/cuda/*.cu")]
HEADERS = [*ROOT.glob("csrc/**/*.h"), *ROOT.glob("csrc/**/*.cuh")]

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
    # Warnings are for our own code: the same path given again as a system path. The toolkit's own
    # headers first, since the NVIDIA packages beside torch have some of other releases.
    *([f"-isystem{toolkit.home / 'include'}"] if toolkit else []),
    *(f"-isystem{path}" for path in include_paths()),
]
NVCC_FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-fvisibility=hidden"]
MACROS: list[tuple[str, str | None]] = []
if toolkit is not None:
    MACROS = [
        ("VAE_FAST_CUDA_RELEASE", f'"{toolkit.release}"'),
        ("VAE_FAST_CUDA_ARCHITECTURES", f'"{toolkit.architectures}"'),
    ]
if os.environ.get("VAE_FAST_WERROR") == "1":
    CXX_FLAGS.append("-Werror")
    NVCC_FLAGS.append("-Werror=all-warnings")


def relative(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in paths)


stub.write()
extension = (CUDAExtension if toolkit else CppExtension)(
    "vae_fast._C",
    relative(sources),
    include_dirs=[str(ROOT / "csrc")],
    depends=relative(HEADERS),
    define_macros=MACROS,
    extra_compile_args={"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS},
)
setup(
    ext_modules=[] if os.environ.get("VAE_FAST_EXTENSION") == "0" else [extension],
    cmdclass={"build_ext": BuildExtension},
)
