"""What the ops need from Python: fake kernels, batch rules, and their gradients' formulas.

Fake kernels give the shapes of results to the compiler, to export and to meta tensors; batch rules
are torch.func.vmap. Both are written once for all losses, from the list that the extension exports.
Schemas, kernels, autograd and autocast are C++ (csrc/bindings), which names this module as the one
that completes them. Sizes may be symbolic here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

from vae_fast import checks, reference
from vae_fast._extension import C

assert C is not None, "imported only where the extension is"

_ops = torch.ops.vae_fast
_DIVERGENCE_OPERANDS = ("mu", "logvar", "prior_mu", "prior_logvar")
_LOGVAR = 1 << _DIVERGENCE_OPERANDS.index("logvar")  # of a sampler's ``want``: the noise is its own

C.set_gradient_formula(reference.gradient_formula)


# ---- fakes: the results' shapes, dtypes and strides ----------------------------------------------


def _value(operands: Sequence[Tensor], shape: Sequence[int], keep: int) -> Tensor:
    dtype = reference.promoted_dtype(operands)
    if keep < len(shape):
        dtype = reference.sum_dtype(dtype)
    return operands[0].new_empty(shape[:keep], dtype=dtype)


def _nothing(like: Tensor) -> Tensor:
    """What an op returns for a result that was not asked for."""
    return like.new_empty((0,), dtype=like.dtype if like.is_floating_point() else torch.float32)


def _gradient(operand: Tensor, shape: Sequence[int], keep: int) -> Tensor:
    """Of the kept sizes, then the operand's own; laid out like it where it has that shape."""
    missing = len(shape) - operand.dim()
    own = (1,) * missing + tuple(operand.shape)
    sizes = (*shape[:keep], *own[keep:])
    return _laid_out_like(operand, sizes, operand.dtype)


def _laid_out_like(operand: Tensor, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Dense, in the operand's order of dimensions where it has these sizes."""
    if tuple(operand.shape) == tuple(sizes) and not operand.is_contiguous():
        return torch.empty_like(operand, dtype=dtype)
    return operand.new_empty(sizes, dtype=dtype)


def _fake_loss(name: str, names: tuple[str, ...]) -> Callable[..., tuple[Tensor, ...]]:
    count = len(names)

    def fake(*args: Any) -> tuple[Tensor, ...]:
        operands, (mask, keep, mean), want = (
            args[:count],
            args[count : count + 3],
            args[count + 3 :],
        )
        checks.check_operands(name, names, operands, mask)
        tensors = operands if mask is None else (*operands, mask)
        shape = reference.broadcast_shape(tensors)
        checks.check_reduction(name, keep, mean, len(shape))
        gradients = (
            _gradient(operand, shape, keep) if sum(want) >> k & 1 else _nothing(operand)
            for k, operand in enumerate(operands)
        )
        return _value(operands, shape, keep), *gradients

    return fake


def _fake_loss_backward(name: str, names: tuple[str, ...]) -> Callable[..., tuple[Tensor, ...]]:
    def fake(upstream: Tensor, *args: Any) -> tuple[Tensor, ...]:
        *operands, mask, keep, mean, want = args
        checks.check_operands(name, names, operands, mask)
        shape = reference.broadcast_shape(operands if mask is None else (*operands, mask))
        checks.check_reduction(name, keep, mean, len(shape))
        checks.check_gradient(name, "upstream", upstream, shape[:keep], operands[0].device)
        return _gradients(operands, want)

    return fake


def _gradients(operands: Sequence[Tensor], want: int) -> tuple[Tensor, ...]:
    """In the operands' own shapes, those that ``want`` has a bit for."""
    return tuple(
        _gradient(operand, operand.shape, 0) if want >> k & 1 else _nothing(operand)
        for k, operand in enumerate(operands)
    )


def _fake_draw_seed(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    return torch.empty_like(like)


def _fake_sample(
    name: str, operands: Sequence[Tensor], seed: Tensor, want: int
) -> tuple[Tensor, Tensor]:
    checks.check_operands(name, _DIVERGENCE_OPERANDS[: len(operands)], operands)
    shape = reference.broadcast_shape(operands)
    checks.check_seed(name, seed, shape, operands[0].device)
    z = _laid_out_like(operands[0], shape, reference.promoted_dtype(operands))
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
    _, operands = reference.divergence(name, mu, logvar, prior_mu, prior_logvar)
    z, noise = _fake_sample(name, operands, seed, want)
    checks.check_reduction(name, keep, mean, z.dim())
    return z, _value(operands, z.shape, keep), noise


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
    loss, operands = reference.divergence(name, mu, logvar, prior_mu, prior_logvar)
    checks.check_operands(name, reference.LOSSES[loss].operands, operands)
    shape = reference.broadcast_shape(operands)
    checks.check_reduction(name, keep, mean, len(shape))
    if noise is not None:
        checks.check_gradient(name, "noise", noise, shape, mu.device)
    if grad_z is not None:
        checks.check_gradient(name, "grad_z", grad_z, shape, mu.device)
    if grad_kl is not None:
        checks.check_gradient(name, "grad_kl", grad_kl, shape[:keep], mu.device)
    absent = len(_DIVERGENCE_OPERANDS) - len(operands)
    return *_gradients(operands, want), *(_nothing(mu) for _ in range(absent))


def _check_multinomial(logits: Tensor, target: Tensor, keep: int, mean: int) -> None:
    name = "multinomial_nll"
    checks.check_operands(name, ("logits", "target"), (logits, target))
    checks.check_reduction(name, keep, mean, logits.dim())


def _fake_multinomial(
    logits: Tensor, target: Tensor, keep: int, mean: int, want: int = 0
) -> tuple[Tensor, Tensor]:
    _check_multinomial(logits, target, keep, mean)
    value = _value((logits, target), logits.shape, keep)
    return value, _gradients((logits,), want)[0]


def _fake_multinomial_backward(
    upstream: Tensor, logits: Tensor, target: Tensor, keep: int, mean: int
) -> Tensor:
    _check_multinomial(logits, target, keep, mean)
    shape = logits.shape[:keep]
    checks.check_gradient("multinomial_nll", "upstream", upstream, shape, logits.device)
    return _gradient(logits, logits.shape, 0)


# ---- batch rules: the batch becomes one more leading dimension -----------------------------------


def _front(x: Tensor, dim: int | None, dims: int) -> Tensor:
    """The batch in front of ``dims`` logical dimensions; without one, x as it is: it broadcasts."""
    if dim is None:
        return x
    x = x.movedim(dim, 0)
    return x[(slice(None), *[None] * (dims - x.dim() + 1))]


def _front_expanded(x: Tensor, dim: int | None, dims: int, size: int) -> Tensor:
    if dim is None:
        x, dim = x.expand(size, *x.shape), 0
    return _front(x, dim, dims)


def _logical_dims(tensors: Sequence[Tensor | None], dims: Sequence[int | None]) -> int:
    """How many dimensions the tensors broadcast to, not counting the batch."""
    return max(
        x.dim() - (dim is not None) for x, dim in zip(tensors, dims, strict=True) if x is not None
    )


def _batch_loss(name: str, names: tuple[str, ...]) -> Callable[..., Any]:
    op, count = getattr(_ops, name), len(names)

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        tensors, (keep, mean), want = (
            args[: count + 1],
            args[count + 1 : count + 3],
            args[count + 3 :],
        )
        tensor_dims = in_dims[: count + 1]
        logical = _logical_dims(tensors, tensor_dims)
        fronted = (
            None if x is None else _front(x, dim, logical)
            for x, dim in zip(tensors, tensor_dims, strict=True)
        )
        gradient_dims = (0 if sum(want) >> k & 1 else None for k in range(count))
        return op(*fronted, keep + 1, mean, *want), (0, *gradient_dims)

    return rule


def _batch_loss_backward(name: str) -> Callable[..., Any]:
    op = getattr(_ops, f"{name}_backward")

    def rule(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
        upstream, *tensors, keep, mean, want = args
        tensor_dims = in_dims[1 : 1 + len(tensors)]
        fronted = _batch_operands(info, tensors, tensor_dims)
        upstream = _front_expanded(upstream, in_dims[0], keep, info.batch_size)
        gradients = op(upstream, *fronted, keep + 1, mean, want)
        return _batched_gradients(gradients, tensors[:-1], tensor_dims[:-1], want)

    return rule


def _batch_operands(
    info: Any, tensors: Sequence[Tensor | None], dims: Sequence[int | None]
) -> list[Tensor | None]:
    """With the batch in front: all of them expanded, so that results have it too."""
    logical = _logical_dims(tensors, dims)
    return [
        None if x is None else _front_expanded(x, dim, logical, info.batch_size)
        for x, dim in zip(tensors, dims, strict=True)
    ]


def _batch_seed(info: Any, seed: Tensor, dim: int | None) -> Tensor:
    """One row after another for each batch entry, as its elements of z follow one another."""
    return _front_expanded(seed, dim, 2, info.batch_size).reshape(-1, 2)


def _batch_reparameterize(
    info: Any,
    in_dims: Sequence[int | None],
    mu: Tensor,
    logvar: Tensor,
    seed: Tensor,
    want: int = 0,
) -> Any:
    operands = _batch_operands(info, (mu, logvar), in_dims[:2])
    seed = _batch_seed(info, seed, in_dims[2])
    return _ops.reparameterize(*operands, seed, want), (0, 0 if want & _LOGVAR else None)


def _batch_reparameterize_kl(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
    tensors, seed, (keep, mean), want = args[:4], args[4], args[5:7], args[7:]
    operands = _batch_operands(info, tensors, in_dims[:4])
    seed = _batch_seed(info, seed, in_dims[4])
    out = _ops.reparameterize_kl(*operands, seed, keep + 1, mean, *want)
    return out, (0, 0, 0 if sum(want) & _LOGVAR else None)


def _batch_reparameterize_kl_backward(info: Any, in_dims: Sequence[int | None], *args: Any) -> Any:
    grad_z, grad_kl, *tensors, noise, keep, mean, want = args
    operands = _batch_operands(info, tensors, in_dims[2:6])
    logical = next(x.dim() for x in operands if x is not None) - 1
    if grad_z is not None:
        grad_z = _front_expanded(grad_z, in_dims[0], logical, info.batch_size)
    if grad_kl is not None:
        grad_kl = _front_expanded(grad_kl, in_dims[1], keep, info.batch_size)
    if noise is not None:
        noise = _front_expanded(noise, in_dims[6], logical, info.batch_size)
    gradients = _ops.reparameterize_kl_backward(
        grad_z, grad_kl, *operands, noise, keep + 1, mean, want
    )
    return _batched_gradients(gradients, tensors, in_dims[2:6], want)


def _batched_gradients(
    gradients: Sequence[Tensor],
    operands: Sequence[Tensor | None],
    dims: Sequence[int | None],
    want: int,
) -> Any:
    """A backward's results and their batch dimensions; those not wanted are empty, without one."""
    wanted = [want >> k & 1 and x is not None for k, x in enumerate(operands)]
    results = (
        _without_padding(gradient, x, dim) if is_wanted and x is not None else gradient
        for gradient, x, dim, is_wanted in zip(gradients, operands, dims, wanted, strict=True)
    )
    return tuple(results), tuple(0 if is_wanted else None for is_wanted in wanted)


def _without_padding(gradient: Tensor, operand: Tensor, dim: int | None) -> Tensor:
    """Of the operand's own dimensions, without those that only the broadcasting has."""
    sizes = operand.shape if dim is None else operand.movedim(dim, 0).shape[1:]
    return gradient.reshape(gradient.shape[0], *sizes)


def _batch_multinomial(
    info: Any,
    in_dims: Sequence[int | None],
    logits: Tensor,
    target: Tensor,
    keep: int,
    mean: int,
    *want: int,
) -> Any:
    operands = _batch_operands(info, (logits, target), in_dims[:2])
    out = _ops.multinomial_nll(*operands, keep + 1, mean, *want)
    return out, (0, 0 if sum(want) & 1 else None)


def _batch_multinomial_backward(
    info: Any,
    in_dims: Sequence[int | None],
    upstream: Tensor,
    logits: Tensor,
    target: Tensor,
    keep: int,
    mean: int,
) -> Any:
    operands = _batch_operands(info, (logits, target), in_dims[1:3])
    upstream = _front_expanded(upstream, in_dims[0], keep, info.batch_size)
    return _ops.multinomial_nll_backward(upstream, *operands, keep + 1, mean), 0


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

for _name, _names in C.LOSSES.items():
    torch.library.register_fake(f"vae_fast::{_name}", _fake_loss(_name, _names))
    torch.library.register_vmap(f"vae_fast::{_name}", _batch_loss(_name, _names))
    _backward = f"vae_fast::{_name}_backward"
    torch.library.register_fake(_backward, _fake_loss_backward(_name, _names))
    torch.library.register_vmap(_backward, _batch_loss_backward(_name))

for _name, _fake, _rule in (
    ("reparameterize", _fake_reparameterize, _batch_reparameterize),
    ("reparameterize_kl", _fake_reparameterize_kl, _batch_reparameterize_kl),
    ("multinomial_nll", _fake_multinomial, _batch_multinomial),
    ("multinomial_nll_backward", _fake_multinomial_backward, _batch_multinomial_backward),
    (
        "reparameterize_kl_backward",
        _fake_reparameterize_kl_backward,
        _batch_reparameterize_kl_backward,
    ),
):
    torch.library.register_fake(f"vae_fast::{_name}", _fake)
    torch.library.register_vmap(f"vae_fast::{_name}", _rule)

torch.library.register_fake("vae_fast::draw_seed", _fake_draw_seed)
# register_vmap runs for batched inputs alone, and a draw has none.
_library: Any = torch.library.Library("vae_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.impl("draw_seed", _batch_draw_seed, "FuncTorchVmapMode")
