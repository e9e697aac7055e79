"""Finds the compiled extension, and decides who computes: its kernels or the plain reference."""

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_BACKEND_VARIABLE = "VAE_FAST_BACKEND"
_BINDING_VARIABLE = "VAE_FAST_BINDING"


# The compiled code comes in two bindings, of the same ops and kernels. The fast one is C++
# throughout (pybind11, nodes of autograd) and holds for the one minor release of torch that it was
# built for; the stable one is a library on LibTorch's stable ABI, which holds for all from 2.10 on,
# and Python above it (vae_fast.stable). Both register the same ops: a process has one of them.
_FAST = "vae_fast._fast_{}{}".format(*torch.__version__.split(".")[:2])
_STABLE = Path(__file__).parents[1] / "_ops.so"

# What the stable binding costs beside the fast one, as `vae-fast info` says it.
COST_OF_STABLE = "a call takes 6 microseconds longer, with its backward 36"


def _load_fast() -> ModuleType:
    """The module of the fast binding.

    Raises:
        ImportError: It was not built, or for another torch.
    """
    if find_spec(_FAST) is None:
        others = sorted({x.name.split(".")[0] for x in _STABLE.parent.glob("_fast_*.so")})
        raise ImportError(f"there is no {_FAST}" + (f", but {', '.join(others)}" if others else ""))
    try:
        return import_module(_FAST)
    except ImportError as error:
        raise ImportError(
            f"it was built for another torch, whose C++ interface changes with every release: "
            f"{error}"
        ) from error


def _load_stable() -> Any:
    """The stable binding.

    Raises:
        ImportError: It was not built.
    """
    if not _STABLE.exists():
        raise ImportError(f"there is no {_STABLE.name}")
    # By name, as the fast one, because it stands on this package's engine.
    return import_module("vae_fast.stable.binding").Binding(_STABLE)


_LOADERS: dict[str, Callable[[], Any]] = {"fast": _load_fast, "stable": _load_stable}


def _load() -> tuple[str | None, Any, str | None]:
    """The binding's name, the binding, and why it is not the fast one, where nobody chose."""
    choice = os.environ.get(_BINDING_VARIABLE, "")
    if choice and choice not in _LOADERS:
        raise ValueError(f"{_BINDING_VARIABLE} is {choice!r}, expected 'fast' or 'stable'")
    try:
        name = choice or "fast"
        return name, _LOADERS[name](), None
    except ImportError as error:
        if not choice and _STABLE.exists():
            return "stable", _LOADERS["stable"](), str(error)
        if not choice and find_spec(_FAST) is None:
            return None, None, None
        raise ImportError(
            f"vae_fast's {choice or 'compiled'} binding does not load into torch "
            f"{torch.__version__}: {error}; build it again: "
            "pip install --no-build-isolation --force-reinstall --no-deps vae_fast"
        ) from error


# C: what the functions ask of the binding, or None where none was built.
BINDING, C, NO_FAST_BINDING = _load()
if C is not None:
    C.cpu_capability()  # an unknown VAE_FAST_CPU_CAPABILITY is an error here and now


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
