"""Where the tests make their tensors: on the CPU, or where VAE_FAST_TEST_DEVICE says.

"cuda" is the GPU; "emulated" is a device of PyTorch on which the CUDA bindings and kernels are
emulated (tests/cuda_emulation).
"""

import os

import torch

DEVICE = os.environ.get("VAE_FAST_TEST_DEVICE") or "cpu"

if DEVICE == "emulated":
    from cuda_emulation import emulated_device

    emulated_device.load()


def default_generator(backend: str = "compiled") -> torch.Generator:
    """What a call without a generator draws from: plain PyTorch draws on the CPU everywhere."""
    if DEVICE == "cpu" or backend == "reference":
        return torch.default_generator
    if DEVICE == "emulated":
        return emulated_device.default_generator()
    torch.cuda.init()
    return torch.cuda.default_generators[torch.cuda.current_device()]
