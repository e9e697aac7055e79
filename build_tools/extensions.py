"""The compiled parts of the package, and how they are built.

``vae_fast/_kernels.so``      the kernels and what checks their calls: neither torch nor Python
``vae_fast/_ops.so``          the stable binding: LibTorch's stable ABI, any Python
``vae_fast/_fast_2xx...so``   the fast binding, for one release of torch and one of Python
``vae_fast/_cuda.so``         the CUDA kernels, for either binding: any torch that has CUDA

Both bindings load the kernels from beside them; the last is built where there is a toolkit.
"""

from __future__ import annotations

import os
import shlex
import sysconfig
from copy import copy
from pathlib import Path
from typing import Any

import torch
from setuptools import Extension
from torch.utils.cpp_extension import (
    BuildExtension,
    CppExtension,
    include_paths,
    library_paths,
)

from build_tools.cuda import Toolkit
from build_tools.version import ROOT, VERSION

KERNELS, OPS, CUDA = "vae_fast._kernels", "vae_fast._ops", "vae_fast._cuda"
FAST = "vae_fast._fast_{}{}".format(*torch.__version__.split(".")[:2])

# In each library of the wheel.
OLD_SYSTEMS = "csrc/old_systems.cpp"

# The oldest release whose stable ABI has what the stable binding uses.
STABLE_SINCE = "0x020a000000000000"  # 2.10

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
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
# gcc's code for strided reads is half as slow again where a signed overflow is undefined.
KERNEL_FLAGS = ["-fwrapv"]
NVCC_FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-fvisibility=hidden"]
# What a library needs it names, and no more; the kernels stand beside it.
LINK_FLAGS = ["-Wl,--as-needed", "-Wl,-z,defs"]
BESIDE_KERNELS = ["-l:_kernels.so", "-Wl,-rpath,$ORIGIN"]


def _sources(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for p in patterns for path in ROOT.glob(p))


def extensions(toolkit: Toolkit | None) -> list[Extension]:
    """The package's, in the order in which they are built.

    Args:
        toolkit: What the CUDA kernels are compiled with; None: without them.
    """
    warnings = ["-Werror"] if os.environ.get("VAE_FAST_WERROR") == "1" else []
    cxx = [*CXX_FLAGS, *warnings]
    # Warnings are for our own code.
    of_torch = [*cxx, *(f"-isystem{path}" for path in include_paths())]
    kernels = Extension(
        KERNELS,
        _sources("csrc/cpu/*.cpp", "csrc/calls/*.cpp", OLD_SYSTEMS),
        extra_compile_args={"cxx": [*cxx, *KERNEL_FLAGS]},
        extra_link_args=[*LINK_FLAGS, "-Wl,-soname,_kernels.so"],
        **_common(),
    )
    ops = Extension(
        OPS,
        _sources("csrc/bindings/stable/*.cpp", OLD_SYSTEMS),
        define_macros=[("TORCH_TARGET_VERSION", STABLE_SINCE)],
        extra_compile_args={"cxx": of_torch},
        library_dirs=library_paths(),
        libraries=["torch_cpu"],
        extra_link_args=[*LINK_FLAGS, *BESIDE_KERNELS],
        **_common(),
    )
    fast = CppExtension(
        FAST,
        _sources("csrc/bindings/*.cpp", OLD_SYSTEMS),
        extra_compile_args={"cxx": [*of_torch, "-fopenmp"]},  # at::parallel_for is a template
        extra_link_args=BESIDE_KERNELS,
        **_common(),
    )
    return [kernels, ops, fast] + ([_cuda(toolkit, cxx)] if toolkit else [])


def _common() -> dict[str, Any]:
    """Lists of its own for each: torch's build tools write into them."""
    return {
        "include_dirs": [str(ROOT / "csrc")],
        "depends": _sources("csrc/**/*.h", "csrc/**/*.cuh"),
    }


def _cuda(toolkit: Toolkit, cxx: list[str]) -> Extension:
    # The toolkit's own headers first, since the NVIDIA packages beside torch have some of other
    # releases. Its runtime is linked statically: torch's may be of another release.
    system = (f"-isystem{path}" for path in (toolkit.home / "include", *include_paths()))
    warnings = ["-Werror=all-warnings"] if "-Werror" in cxx else []
    smallest = ["--compress-mode=size"] if toolkit.is_since(12, 8) else []
    return Extension(
        CUDA,
        _sources("csrc/bindings/cuda/*.cpp", "csrc/cuda/*.cpp", "csrc/cuda/*.cu", OLD_SYSTEMS),
        define_macros=[
            ("TORCH_TARGET_VERSION", STABLE_SINCE),
            ("USE_CUDA", None),
            ("VAE_FAST_VERSION", f'"{VERSION}"'),
            ("VAE_FAST_CUDA_RELEASE", f'"{toolkit.release}"'),
            ("VAE_FAST_CUDA_ARCHITECTURES", f'"{toolkit.architectures}"'),
        ],
        extra_compile_args={"cxx": [*cxx, *system], "nvcc": [*NVCC_FLAGS, *smallest, *warnings]},
        library_dirs=library_paths(device_type="cuda"),
        libraries=["torch_cpu", "torch_cuda", "cudart_static", "dl", "pthread", "rt"],
        extra_link_args=[*LINK_FLAGS, "-Wl,--exclude-libs,libcudart_static.a"],
        **_common(),
    )


def _without_flags_of_python(compiler: Any) -> Any:
    """For what is to be the same for every Python, to the byte: each has flags of its own."""
    own = shlex.split(sysconfig.get_config_var("CFLAGS"))
    result = copy(compiler)
    for name in ("compiler_so", "compiler_so_cxx"):
        setattr(result, name, [flag for flag in getattr(compiler, name) if flag not in own])
    return result


class Build(BuildExtension):  # type: ignore[misc]
    """Builds them; what has nothing of Python in it has no tag of a Python in its name."""

    def get_ext_filename(self, ext_name: str) -> str:
        """Of the file, below the package's root."""
        if ext_name.split(".")[-1] in ("_kernels", "_ops", "_cuda"):
            return ext_name.replace(".", os.sep) + ".so"
        return str(super().get_ext_filename(ext_name))

    def build_extension(self, ext: Extension) -> None:
        """One of them; the bindings find the kernels where they were built.

        What knows nothing of Python is not told where Python is, nor with which flags it was built,
        and so is not compiled again for another environment.
        """
        compiler, of_python = self.compiler, self.include_dirs
        if ext.name in (KERNELS, CUDA):
            self.compiler, self.include_dirs = _without_flags_of_python(compiler), []
        else:
            ext.library_dirs.append(str(Path(self.get_ext_fullpath(KERNELS)).parent))
        super().build_extension(ext)
        self.compiler, self.include_dirs = compiler, of_python

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None: those without Python have no PyInit function."""
        return []
