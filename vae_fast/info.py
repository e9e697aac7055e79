"""What is compiled, and what will be used on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_fast._version import __version__
from vae_fast.engine import extension


@dataclass(frozen=True)
class BuildInfo:
    """What `build_info` tells; `str()` of it is a table for people.

    Attributes:
        version: of this package.
        backend: "compiled" or "reference" (plain PyTorch).
        binding: "fast" (C++, for one minor release of torch) or "stable" (Python over a library for
            every torch from 2.10 on), or None without the extension.
        no_fast_binding: why the stable one serves where nobody chose it, or None.
        built_for_torch: the torch release that the extension was compiled against, or None.
        torch: the torch release that is running.
        cpu_capability: the instruction set in use, or None without the extension.
        cpu_capabilities: the instruction sets that this machine can run, best last.
        matrix_products: who makes the large matrix products of this package's models and of
            `linear_nll` on the CPU: "oneDNN", or "torch" for whatever torch itself takes.
        threads: how many threads the CPU kernels use (`torch.get_num_threads()`).
        buffer_cache_limit: bytes of CPU memory that may be kept for later outputs
            (`set_buffer_cache_limit`).
        buffer_cache_bytes: bytes that are kept now.
        cuda_kernels: the CUDA release that the CUDA kernels are compiled with, or None where there
            are none.
        cuda_architectures: the compute capabilities that they are compiled for ("+PTX": and later
            ones), or None.
        torch_cuda: the CUDA release of the running torch, or None for a CPU build.
        device: "cuda" where the running torch sees a GPU, else "cpu".

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> vf.build_info().threads == torch.get_num_threads()
        True
    """

    version: str
    backend: str
    binding: str | None
    no_fast_binding: str | None
    built_for_torch: str | None
    torch: str
    cpu_capability: str | None
    cpu_capabilities: tuple[str, ...]
    matrix_products: str
    threads: int
    buffer_cache_limit: int
    buffer_cache_bytes: int
    cuda_kernels: str | None
    cuda_architectures: str | None
    torch_cuda: str | None
    device: str

    def __str__(self) -> str:
        kept, limit = self.buffer_cache_bytes >> 20, self.buffer_cache_limit >> 20
        rows = {
            "vae_fast": self.version,
            "backend": self.backend,
            "binding": self.binding or "none",
            "torch": self.torch,
            "built for torch": self.built_for_torch or "not built",
            "CPU instruction set": self.cpu_capability or "none",
            "available here": ", ".join(self.cpu_capabilities) or "none",
            "matrix products": self.matrix_products,
            "threads": str(self.threads),
            "buffer cache": f"{kept} of {limit} MiB",
            "CUDA kernels": f"CUDA {self.cuda_kernels}" if self.cuda_kernels else "not built",
            "compiled for": self.cuda_architectures or "none",
            "CUDA of torch": self.torch_cuda or "none (CPU build)",
            "device": self.device,
        }
        if self.no_fast_binding is not None:
            rows["binding"] += f" ({extension.COST_OF_STABLE} than with the fast one)"
            rows["no fast binding"] = self.no_fast_binding
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def build_info() -> BuildInfo:
    """What is compiled into this installation, and what will be used on this machine.

    Example:
        >>> import vae_fast as vf
        >>> info = vf.build_info()
        >>> info.backend in ("compiled", "reference"), info.version == vf.__version__
        (True, True)
    """
    kernels = extension.C
    limit, kept = kernels.buffer_cache_info() if kernels else (0, 0)
    return BuildInfo(
        version=__version__,
        backend=extension.BACKEND,
        binding=extension.BINDING,
        no_fast_binding=extension.NO_FAST_BINDING,
        built_for_torch=kernels.TORCH_VERSION if kernels else None,
        torch=torch.__version__,
        cpu_capability=kernels.cpu_capability() if kernels else None,
        cpu_capabilities=tuple(kernels.cpu_capabilities()) if kernels else (),
        matrix_products="oneDNN" if kernels and kernels.uses_onednn() else "torch",
        threads=torch.get_num_threads(),
        buffer_cache_limit=limit,
        buffer_cache_bytes=kept,
        cuda_kernels=extension.CUDA_RELEASE,
        cuda_architectures=extension.CUDA_ARCHITECTURES,
        torch_cuda=torch.version.cuda,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
