"""Fused, exact losses and samplers for variational auto-encoders in PyTorch.

`import vae_fast as vf` imports torch and the compiled kernels, nothing else: the models, the
trainer and what they need are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_fast import functional
from vae_fast._version import __version__
from vae_fast.functional import *  # noqa: F403  (its __all__ is the list of public functions)
from vae_fast.info import BuildInfo, build_info
from vae_fast.linear import linear_nll
from vae_fast.losses import ELBOLoss
from vae_fast.memory import empty_buffer_cache, set_buffer_cache_limit

if TYPE_CHECKING:
    from vae_fast.models import VAE, AutoEncoder
    from vae_fast.training import Trainer, TrainerConfig

_LAZY = {
    "AutoEncoder": "vae_fast.models",
    "VAE": "vae_fast.models",
    "Trainer": "vae_fast.training",
    "TrainerConfig": "vae_fast.training",
}

__all__ = [
    "VAE",
    "AutoEncoder",
    "BuildInfo",
    "ELBOLoss",
    "Trainer",
    "TrainerConfig",
    "__version__",
    "build_info",
    "empty_buffer_cache",
    "linear_nll",
    "set_buffer_cache_limit",
]
__all__ += functional.__all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
