"""What the ops of the samplers need from Python: fake kernels and batch rules.

As :mod:`vae_fast.engine.fakes` and :mod:`vae_fast.engine.batching` have them for losses. The C++ of
the samplers names this module as the one that completes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

from vae_fast.engine import checks
from vae_fast.engine.batching import batch_operands, batched_gradients, front_expanded
from vae_fast.engine.dtypes import promoted_dtype
from vae_fast.engine.fakes import FAKES, fake_gradients, fake_nothing, fake_value, laid_out_like
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.engine.table import LOSSES
from vae_fast.latent.checks import check_seed
from vae_fast.latent.divergences import divergence

_ops = torch.ops.vae_fast
_OPERANDS = ("mu", "logvar", "prior_mu", "prior_logvar")
_LOGVAR = 1 << _OPERANDS.index("logvar")  # of a sampler's ``want``: the noise is its own


# ---- fakes ---------------------------------------------------------------------------------------


def _fake_draw_seed(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    return torch.empty_like(like)


def _fake_sample(
    name: str, operands: Sequence[Tensor], seed: Tensor, want: int
) -> tuple[Tensor, Tensor]:
    checks.check_operands(name, _OPERANDS[: len(operands)], operands)
    shape = broadcast_shape(operands)
    check_seed(name, seed, shape, operands[0].device)
    z = laid_out_like(operands[0], shape, promoted_dtype(operands))
    return z, torch.empty_like(z) if want & _LOGVAR else z.new_empty((0,))


def _fake_reparameterize(
    mu: Tensor, logvar: Tensor, seed: Tensor, want: int = 0
) -> tuple[Tensor, Tensor]:
    return _fake_sample("reparameterize", (mu, logvar), seed, want)


def _fake_reparameterize_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    seed: Tensor,
    keep: int,
    mean: int,
    want: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    name = "reparameterize_kl"
    _, operands = divergence(name, mu, logvar, prior_mu, prior_logvar)
    z, noise = _fake_sample(name, operands, seed, want)
    checks.check_reduction(name, keep, mean, z.dim())
    return z, fake_value(operands, z.shape, keep), noise


def _fake_reparameterize_kl_backward(
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    noise: Tensor | None,
    keep: int,
    mean: int,
    want: int,
) -> tuple[Tensor, ...]:
    name = "reparameterize_kl_backward"
    loss, operands = divergence(name, mu, logvar, prior_mu, prior_logvar)
    checks.check_operands(name, LOSSES[loss].operands, operands)
    shape = broadcast_shape(operands)
    checks.check_reduction(name, keep, mean, len(shape))
    if noise is not None:
        checks.check_gradient(name, "noise", noise, shape, mu.device)
    elif grad_z is not None and want & _LOGVAR:
        raise ValueError(
            f"{name}: noise is missing, expected where grad_z is given and the gradient in logvar "
            f"is wanted"
        )
    if grad_z is not None:
        checks.check_gradient(name, "grad_z", grad_z, shape, mu.device)
    if grad_kl is not None:
        checks.check_gradient(name, "grad_kl", grad_kl, shape[:keep], mu.device)
    absent = len(_OPERANDS) - len(operands)
    return *fake_gradients(operands, want), *(fake_nothing(mu) for _ in range(absent))


# ---- batch rules -------------------------------------------------------------------------------


def _batch_seed(info: Any, seed: Tensor, dim: int | None) -> Tensor:
    """One row after another for each batch entry, as its elements of z follow one another."""
    return front_expanded(seed, dim, 2, info.batch_size).reshape(-1, 2)


def _batch_reparameterize(
    info: Any,
    in_dims: Sequence[int | None],
    mu: Tensor,
    logvar: Tensor,
    seed: Tensor,
    want: int = 0,
) -> Any:
    operands = batch_operands(info, (mu, logvar), in_dims[:2])
    seed = _batch_seed(info, seed, in_dims[2])
    return _ops.reparameterize(*operands, seed, want), (0, 0 if want & _LOGVAR else None)


def _batch_reparameterize_kl(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
    tensors, seed, (keep, mean), want = args[:4], args[4], args[5:7], args[7:]
    operands = batch_operands(info, tensors, in_dims[:4])
    seed = _batch_seed(info, seed, in_dims[4])
    out = _ops.reparameterize_kl(*operands, seed, keep + 1, mean, *want)
    return out, (0, 0, 0 if sum(want) & _LOGVAR else None)


def _batch_reparameterize_kl_backward(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
    grad_z, grad_kl, *tensors, noise, keep, mean, want = args
    operands = batch_operands(info, tensors, in_dims[2:6])
    logical = next(x.dim() for x in operands if x is not None) - 1
    if grad_z is not None:
        grad_z = front_expanded(grad_z, in_dims[0], logical, info.batch_size)
    if grad_kl is not None:
        grad_kl = front_expanded(grad_kl, in_dims[1], keep, info.batch_size)
    if noise is not None:
        noise = front_expanded(noise, in_dims[6], logical, info.batch_size)
    gradients = _ops.reparameterize_kl_backward(
        grad_z, grad_kl, *operands, noise, keep + 1, mean, want
    )
    return batched_gradients(gradients, tensors, in_dims[2:6], want)


def _batch_draw_seed(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Keeps vmap's ``randomness``: a row for each batch entry, or one for all, or an error."""
    vmap: Any = retrieve_current_functorch_interpreter()
    here = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchVmapMode)
    with torch._C._ExcludeDispatchKeyGuard(here):
        randomness = vmap.randomness()
        if randomness == "error":
            raise RuntimeError(
                "vmap: called random operation vae_fast::draw_seed while in randomness error mode. "
                "Use the 'same' or 'different' randomness flag of vmap."
            )
        if randomness == "same":
            seed: Tensor = _ops.draw_seed(like, generator)
            return seed
        rows = _ops.draw_seed(like.new_empty((vmap.batch_size(), *like.shape)), generator)
        batched: Tensor = torch._C._functorch._add_batch_dim(rows, 0, vmap.level())
        return batched


# ---- registration --------------------------------------------------------------------------------

for _name, _fake, _rule in (
    ("reparameterize", _fake_reparameterize, _batch_reparameterize),
    ("reparameterize_kl", _fake_reparameterize_kl, _batch_reparameterize_kl),
    (
        "reparameterize_kl_backward",
        _fake_reparameterize_kl_backward,
        _batch_reparameterize_kl_backward,
    ),
):
    FAKES[_name] = _fake
    torch.library.register_fake(f"vae_fast::{_name}", _fake)
    torch.library.register_vmap(f"vae_fast::{_name}", _rule)

torch.library.register_fake("vae_fast::draw_seed", _fake_draw_seed)
# register_vmap runs for batched inputs alone, and a draw has none.
_library: Any = torch.library.Library("vae_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.impl("draw_seed", _batch_draw_seed, "FuncTorchVmapMode")
