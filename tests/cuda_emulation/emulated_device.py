"""The device "emulated": the library of CUDA kernels, built by g++, and a device of PyTorch for it.

Built by CMake (tests/cuda_emulation); VAE_FAST_TEST_DEVICE=emulated runs the tests on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).resolve().parents[2]
_BUILD = ROOT / "build" / "cpp" / "tests" / "cuda_emulation" / "emulated_device.so"


def path() -> Path:
    """Of the library."""
    return Path(os.environ.get("VAE_FAST_EMULATED", _BUILD))


def load() -> None:
    """Makes the device, and gives its kernels to the package's binding."""
    if not path().exists():
        raise FileNotFoundError(f"{path()} is not there: make cuda-check builds it")
    torch.ops.load_library(path())
    torch._register_device_module("emulated", _device_module())

    # A build with CUDA would find the kernels of CUDA, and a process has one library of them.
    cuda, torch.version.cuda = torch.version.cuda, None
    from vae_fast.engine import extension

    torch.version.cuda = cuda
    extension.use_gpu(path(), "emulated")


def default_generator(device: int = 0) -> torch.Generator:
    """The generator that a device draws from where none is given."""
    return torch.ops.vae_fast_emulation.default_generator(device)


def _manual_seed_all(seed: int) -> None:
    for device in range(2):
        default_generator(device).manual_seed(seed)


def _device_module() -> ModuleType:
    """What torch looks for in torch.<device>."""
    module = ModuleType("torch.emulated")
    module._initialized = True
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: 2
    module.current_device = torch.accelerator.current_device_index
    module.device = lambda device: torch.accelerator.device_index(_index(device))
    module.synchronize = lambda device=None: None
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = _manual_seed_all
    module.default_generators = [default_generator(device) for device in range(2)]
    module.get_rng_state = lambda device=0: default_generator(_index(device)).get_state()
    module.set_rng_state = lambda state, device=0: default_generator(_index(device)).set_state(
        state
    )
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    return module


def _index(device: int | str | torch.device) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0
