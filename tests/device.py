"""Where the tests make their tensors: on the CPU, or with VAE_FAST_TEST_DEVICE=cuda on the GPU."""

import os

import torch

DEVICE = os.environ.get("VAE_FAST_TEST_DEVICE") or "cpu"


def default_generator(backend: str = "compiled") -> torch.Generator:
    """What a call without a generator draws from: plain PyTorch draws on the CPU everywhere."""
    if DEVICE != "cuda" or backend == "reference":
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[torch.cuda.current_device()]
