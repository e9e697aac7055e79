"""Fused, exact losses and samplers for variational auto-encoders in PyTorch.

`import vae_fast as vf` imports torch and the compiled kernels, nothing else: the models, the
trainer and what they need are loaded when they are first asked for.

Conventions of all functions:

Reductions, of a loss of shape (*batch, *event), where ``batch_dims`` says how many dimensions are
batch: ``"none"`` every element; ``"sample"`` the sum over the event, one value per batch entry;
``"sum"`` the sum over everything; ``"batchmean"`` that sum divided by the number of batch entries
(the ELBO's term per datum); ``"mean"`` the mean over all elements. All values are in nats.

Dtypes: float32, float64, bfloat16 and float16. Arithmetic and sums are in float32, in float64 where
an operand is float64. Where something is summed the result is at least float32; elementwise results
and z have the dtype that the operands promote to. Gradients have their operand's dtype.

Shapes: the first argument (logits, a mean, mu) has the shape of the loss. A target has it too, but
for leading batch dimensions: samples of z, (K, B, D) against (B, D), with ``batch_dims=2``. Other
parameters, priors and masks broadcast to it, and never make it larger. Any of them may be a strided
view: nothing is copied. A parameter that is a number is used as it is, in the arithmetic's dtype.

Errors: a ValueError (shapes, devices, values) or TypeError (types, dtypes) that says which argument
is wrong, what was expected and what came, before anything is computed.

``vae_fast.__version__`` is the release.

Example:
    >>> import torch
    >>> import vae_fast as vf
    >>> logits, x = torch.zeros(2, 3), torch.rand(2, 3)
    >>> vf.bernoulli_nll(logits, x)  # 3 log 2, the sum over a datum
    tensor(2.0794)
    >>> vf.bernoulli_nll(logits, x, reduction="mean")  # over elements
    tensor(0.6931)
    >>> vf.__version__.count(".")
    2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_fast import distributions, likelihoods
from vae_fast._version import __version__
from vae_fast.bounds import (
    ELBO,
    ELBOLoss,
    KLDecomposition,
    capacity_loss,
    elbo_loss,
    importance_weighted_loss,
    kl_decomposition,
    mark_path,
)
from vae_fast.engine.linear import linear_nll
from vae_fast.engine.mixture import mixture_nll
from vae_fast.engine.sparse_linear import sparse_linear
from vae_fast.info import BuildInfo, build_info
from vae_fast.latent import (
    aggregated_posterior_log_prob,
    draw_seed,
    gaussian_kl,
    gaussian_log_ratio,
    gaussian_mixture_log_prob,
    hsic,
    mmd,
    nearest_code,
    reparameterize,
    reparameterize_kl,
)
from vae_fast.likelihoods import *  # noqa: F403  (all that the folder has)
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
    "ELBO",
    "VAE",
    "AutoEncoder",
    "BuildInfo",
    "ELBOLoss",
    "KLDecomposition",
    "Trainer",
    "TrainerConfig",
    "__version__",
    "aggregated_posterior_log_prob",
    "build_info",
    "capacity_loss",
    "distributions",
    "draw_seed",
    "elbo_loss",
    "empty_buffer_cache",
    "gaussian_kl",
    "gaussian_log_ratio",
    "gaussian_mixture_log_prob",
    "hsic",
    "importance_weighted_loss",
    "kl_decomposition",
    "linear_nll",
    "mark_path",
    "mixture_nll",
    "mmd",
    "nearest_code",
    "reparameterize",
    "reparameterize_kl",
    "set_buffer_cache_limit",
    "sparse_linear",
]
__all__ += likelihoods.__all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
