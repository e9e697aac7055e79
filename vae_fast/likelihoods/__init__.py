"""The likelihoods: one file each, which enters itself into the engine's tables.

What a file's ``__all__`` names is public. Type checkers, which cannot look into a folder, read the
stub that build_tools/stub.py writes beside this file wherever the package is built or checked.
"""

from importlib import import_module
from pkgutil import iter_modules

__all__ = []

for _file in iter_modules(__path__):
    _module = import_module(f"{__name__}.{_file.name}")
    __all__ += _module.__all__
    globals().update({name: getattr(_module, name) for name in _module.__all__})
