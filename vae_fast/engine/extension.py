"""Finds the compiled extension, and decides who computes: its kernels or the plain reference."""

import ctypes
import os
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vae_fast._version import __version__

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


# The type of device that the CUDA kernels run on, the release of CUDA and the architectures that
# they are of; None where there are none.
GPU: str | None = None
CUDA_RELEASE: str | None = None
CUDA_ARCHITECTURES: str | None = None

# Those that run the ops: the kernels', and meta, which runs the fakes alone.
_compiled_devices = {"cpu", "meta"} if BACKEND == "compiled" else set()


class _Gpu(ctypes.Structure):
    """How `calls::Gpu` begins (csrc/calls/gpu.h)."""

    _fields_ = (
        ("version", ctypes.c_char_p),
        ("release", ctypes.c_char_p),
        ("architectures", ctypes.c_char_p),
    )


def use_gpu(path: Path, device: str) -> None:
    """Takes the CUDA kernels of a library into the binding, once, for the device of that name.

    Raises:
        ImportError: It does not load, or is of another release of this package.
    """
    global GPU, CUDA_RELEASE, CUDA_ARCHITECTURES
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(
            f"the CUDA kernels do not load into torch {torch.__version__}: {error}; without them "
            f"the package is the CPU's: remove {path}"
        ) from error
    library.vae_fast_gpu.restype = ctypes.POINTER(_Gpu)
    pointer = library.vae_fast_gpu()
    gpu = pointer.contents
    if gpu.version.decode() != __version__:
        raise ImportError(
            f"{path} is of vae_fast {gpu.version.decode()}, and this is {__version__}: install "
            f"both of one release"
        )
    if GPU is not None:
        raise ImportError(f"the device '{GPU}' has CUDA kernels already, so not those of {path}")
    C.use_gpu(ctypes.cast(pointer, ctypes.c_void_p).value, device)
    GPU, CUDA_RELEASE, CUDA_ARCHITECTURES = (
        device,
        gpu.release.decode(),
        gpu.architectures.decode(),
    )
    if BACKEND == "compiled":
        _compiled_devices.add(device)


# The package that has the CUDA kernels, and the major release of CUDA that it is for.
_CUDA_PACKAGE, _CUDA_MAJOR = "vae_fast_cuda13", "13"


def _cuda_of_torch() -> str | None:
    """The major release of CUDA that torch is built for."""
    return torch.version.cuda.split(".")[0] if torch.version.cuda else None


def _cuda_library() -> Path | None:
    """Of the CUDA kernels: beside the others, if they were built with them, or of the package."""
    if C is None or _cuda_of_torch() is None:
        return None
    own = _STABLE.with_name("_cuda.so")
    if own.exists():
        return own
    found = find_spec(_CUDA_PACKAGE) if _cuda_of_torch() == _CUDA_MAJOR else None
    return Path(found.origin).with_name("_cuda.so") if found and found.origin else None


if (_library := _cuda_library()) is not None:
    use_gpu(_library, "cuda")

_warned: set[str] = set()


def use_reference(device_type: str) -> bool:
    """Whether plain PyTorch computes on this device; says so, once, where nobody asked for it."""
    if device_type in _compiled_devices:
        return False
    asked_for = bool(os.environ.get(_BACKEND_VARIABLE))
    # Dynamo does not trace warnings; the call that it was compiled from has given it.
    if not asked_for and device_type not in _warned and not torch.compiler.is_compiling():
        _warned.add(device_type)
        reason = "the extension was not built"
        if C is not None:
            reason = f"there are no compiled kernels for device '{device_type}'"
            if device_type == "cuda" and _cuda_of_torch() == _CUDA_MAJOR:
                reason += f"; pip install {_CUDA_PACKAGE}=={__version__} brings them"
        warnings.warn(f"vae_fast runs in plain PyTorch, right but slow: {reason}", stacklevel=3)
    return True
