"""Finds the compiled extension, and decides who computes: its kernels or the plain reference."""

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

_BACKEND_VARIABLE = "VAE_FAST_BACKEND"
_FAST = "vae_fast._fast_{}{}".format(*torch.__version__.split(".")[:2])


def _load() -> ModuleType | None:
    """The compiled module, or None where it was not built."""
    if find_spec(_FAST) is None:
        return None
    try:
        extension = import_module(_FAST)
    except ImportError as error:
        raise ImportError(
            f"vae_fast's compiled extension does not load into torch {torch.__version__}: {error}. "
            "It was built for another torch (its C++ interface changes with every release); "
            "build it again: pip install --no-build-isolation --force-reinstall --no-deps vae_fast"
        ) from error
    extension.cpu_capability()  # an unknown VAE_FAST_CPU_CAPABILITY is an error here and now
    return extension


C: ModuleType | None = _load()


def _chosen_backend() -> str:
    choice = os.environ.get(_BACKEND_VARIABLE, "") or ("compiled" if C else "reference")
    if choice not in ("compiled", "reference"):
        raise ValueError(f"{_BACKEND_VARIABLE} is {choice!r}, expected 'compiled' or 'reference'")
    if choice == "compiled" and C is None:
        raise ImportError(
            f"{_BACKEND_VARIABLE} is 'compiled', but the extension was not built; "
            "build it: pip install --no-build-isolation ."
        )
    return choice


BACKEND = _chosen_backend()

# The compiled entries of the functions, where they compute; None: plain PyTorch does, everywhere.
kernels: Any = C if BACKEND == "compiled" else None


def _compiled_devices() -> frozenset[str]:
    """Devices that run the ops: the kernels', and meta, which runs the fakes alone."""
    if BACKEND != "compiled":
        return frozenset()
    assert C is not None
    return frozenset(("cpu", "meta", C.GPU) if C.GPU else ("cpu", "meta"))


# The type of device that the CUDA kernels run on, or None where they were not built.
GPU: str | None = C.GPU if C else None
_COMPILED_DEVICES = _compiled_devices()
_warned: set[str] = set()


def use_reference(device_type: str) -> bool:
    """Whether plain PyTorch computes on this device; says so, once, where nobody asked for it."""
    if device_type in _COMPILED_DEVICES:
        return False
    asked_for = bool(os.environ.get(_BACKEND_VARIABLE))
    # Dynamo does not trace warnings; the call that it was compiled from has given it.
    if not asked_for and device_type not in _warned and not torch.compiler.is_compiling():
        _warned.add(device_type)
        reason = (
            f"there are no compiled kernels for device '{device_type}'"
            if C
            else "the extension was not built"
        )
        warnings.warn(f"vae_fast runs in plain PyTorch, right but slow: {reason}", stacklevel=3)
    return True
