"""MultiVae beside the CPU build of PyTorch: its imports name torchvision, its models need none.

PyPI's torchvision is built for PyPI's CUDA build of PyTorch; beside another one its import ends in
"operator torchvision::nms does not exist".
"""

import sys
from contextlib import contextmanager
from types import ModuleType

NAMES = ("", ".transforms", ".datasets", ".datasets.utils", ".models", ".utils")


@contextmanager
def stand_in():
    """Modules that have every name, for as long as MultiVae is imported."""
    modules = {}
    for name in NAMES:
        modules[f"torchvision{name}"] = module = ModuleType(f"torchvision{name}")
        module.__path__ = []
        module.__getattr__ = lambda _: object
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
