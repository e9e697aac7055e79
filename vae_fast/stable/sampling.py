"""Autograd, autocast and entries of the samplers' ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine.shapes import broadcast_shape, same_shape
from vae_fast.stable.nodes import (
    AUTOCAST,
    Node,
    WithoutAutocast,
    asked_of,
    autocast_key,
    call_below,
    has_kernels,
    is_ordinary,
    is_subclass,
    is_transformed,
    library,
    loss_tangent,
    masked_formula,
    may_have_tangents,
    recording_of,
    register_below_autograd,
    requiring_gradient,
    spread,
    wanted_of,
)

_ops = torch.ops.vae_fast
# torch.empty shows modes of dispatch an alias, too.
_empty = torch.ops.aten.empty.memory_format
_ONE_ROW = torch.empty((1, 2), dtype=torch.int64, device="cpu")

# Places among the operands, and in ``want``.
_MU, _LOGVAR = 0, 1

# The divergence that the kernels compute beside z, by the number of its operands.
_DIVERGENCES = {2: "standard_normal_kl", 4: "gaussian_kl"}


def _differentiable_noise(like: Tensor, logvar: Tensor, seed: Tensor) -> Tensor:
    """dz/dlogvar, drawn again from the seed: a differentiable expression of logvar."""
    drawn: Tensor = _ops.reparameterize.default(torch.zeros_like(like), logvar, seed)[0]
    return 0.5 * drawn


def _tangent_of_z(
    z: Tensor, logvar: Tensor, seed: Tensor, of_mu: Tensor | None, of_logvar: Tensor | None
) -> Tensor:
    tangent = torch.zeros_like(z) if of_mu is None else of_mu
    if of_logvar is not None:
        tangent = tangent + _differentiable_noise(z, logvar, seed) * of_logvar
    return tangent.to(z.dtype).expand(z.shape)


class _SampleNode(Node):
    """Of z alone. The one in mu is the upstream gradient, the one in logvar that times the noise.

    Where an operand broadcasts, the engine sums its gradient to its shape, and rounds it to its
    dtype behind that.
    """

    @staticmethod
    def forward(ctx: Any, call: Any, mu: Tensor, logvar: Tensor) -> Tensor:
        z, seed, noise = call
        ctx.set_materialize_grads(False)
        if noise is not None:
            ctx.is_summed = not same_shape(logvar.shape, noise.shape)
            ctx.save_for_backward(logvar, seed, noise)
        if may_have_tangents():
            ctx.save_for_forward(z, logvar, seed)
        result: Tensor = z
        return result

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None) -> Any:
        if grad_z is None or not ctx.needs_input_grad[1 + _LOGVAR]:
            return None, grad_z, None
        logvar, seed, noise = ctx.saved_tensors
        if not asked_of(ctx, (grad_z, logvar))[_LOGVAR]:
            return None, grad_z, None
        if torch.is_grad_enabled():
            noise = _differentiable_noise(grad_z, logvar, seed)
        is_half = grad_z.dtype in (torch.float16, torch.bfloat16)
        wide = grad_z.to(torch.float32) if ctx.is_summed and is_half else grad_z
        return None, grad_z, wide * noise

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        return _tangent_of_z(*ctx.saved_tensors, *tangents)


class _SampleKlNode(Node):
    """Of z and the divergence."""

    @staticmethod
    def forward(ctx: Any, call: Any, *operands: Tensor) -> tuple[Tensor, Tensor]:
        z, kl, seed, noise, keep, mean = call
        ctx.call = keep, mean
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, seed, noise)
        if may_have_tangents():
            ctx.save_for_forward(*operands, seed, z)
        return z, kl

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> Any:
        *operands, seed, noise = ctx.saved_tensors
        if grad_z is None and grad_kl is None:
            return (None,) * (1 + len(operands))
        asked = asked_of(ctx, operands)
        keep, mean = ctx.call
        if torch.is_grad_enabled():
            return None, *_differentiable(operands, seed, grad_z, grad_kl, keep, mean, asked)
        takes_noise = grad_z is not None and asked[_LOGVAR]
        args = (
            grad_z,
            grad_kl,
            *operands,
            *[None] * (4 - len(operands)),
            noise if takes_noise else None,
            keep,
            mean,
            wanted_of(asked),
        )
        op = "reparameterize_kl_backward"
        found = call_below(op, _ops.reparameterize_kl_backward.default, args)
        return None, *(found[k] if is_asked else None for k, is_asked in enumerate(asked))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Any:
        *operands, seed, z = ctx.saved_tensors
        keep, mean = ctx.call
        loss = _DIVERGENCES[len(operands)]
        return (
            _tangent_of_z(z, operands[_LOGVAR], seed, tangents[_MU], tangents[_LOGVAR]),
            loss_tangent(loss, operands, tangents, None, keep, mean),
        )


def _differentiable(
    operands: Sequence[Tensor],
    seed: Tensor,
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    keep: int,
    mean: int,
    asked: Sequence[bool],
) -> list[Tensor | None]:
    result: list[Tensor | None] = [None] * len(operands)
    if grad_kl is not None:
        each = spread(grad_kl, broadcast_shape(operands), keep, mean)
        gradients = masked_formula(_DIVERGENCES[len(operands)], operands, None)
        result = [
            each * gradient if is_asked else None
            for gradient, is_asked in zip(gradients, asked, strict=True)
        ]
    if grad_z is None:
        return result
    through_z = {_MU: grad_z}
    if asked[_LOGVAR]:
        through_z[_LOGVAR] = grad_z * _differentiable_noise(grad_z, operands[_LOGVAR], seed)
    for k, gradient in through_z.items():
        if asked[k]:
            own = result[k]
            result[k] = gradient if own is None else own + gradient
    return result


def reparameterize(mu: Tensor, logvar: Tensor, seed: Tensor, want: int = 0) -> Any:
    """The kernel of Autograd: z and its noise."""
    operands = mu, logvar
    needed = requiring_gradient(operands)
    args = mu, logvar, seed, want | needed
    z, noise = call_below("reparameterize", _ops.reparameterize.default, args)
    if needed or may_have_tangents():
        kept = noise if needed >> _LOGVAR & 1 else None
        z = _SampleNode.named("reparameterize").connect((z, seed, kept), operands)
    return z, noise


def reparameterize_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    seed: Tensor,
    keep: int,
    mean: int,
    want: int = 0,
) -> Any:
    """The kernel of Autograd: z, the divergence and the noise."""
    given = mu, logvar, prior_mu, prior_logvar
    operands = [x for x in given if x is not None]
    needed = requiring_gradient(operands)
    args = *given, seed, keep, mean, want | needed
    z, kl, noise = call_below("reparameterize_kl", _ops.reparameterize_kl.default, args)
    if needed or may_have_tangents():
        kept = noise if needed >> _LOGVAR & 1 else None
        node = _SampleKlNode.named("reparameterize_kl")
        z, kl = node.connect((z, kl, seed, kept, keep, mean), operands)
    return z, kl, noise


# ---- autocast: z in float32, as torch's own expression of it gives -------------------------------


def _in_float32(x: Any) -> Any:
    is_cast = isinstance(x, Tensor) and x.is_floating_point()
    return x.to(torch.float32) if is_cast and x.dtype is not torch.float64 else x


def _autocast(op: str) -> Callable[..., Any]:
    overload = getattr(_ops, op).default

    def kernel(*args: Any) -> Any:
        with WithoutAutocast(AUTOCAST):
            return overload(*map(_in_float32, args))

    return kernel


_LOWEST = -(2**63)
# Of the seed and the offset of a counter-based generator, the GPU's: fills rows at an address, and
# returns the next offset.
_draw_from_counter: Callable[[int, int, int, int], int] | None = None


def _draw_seed(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Two 64-bit words for each row, where ``like`` is: the stable ABI has no generators.

    What a graph records has to draw anew whenever it runs, which torch's own kernels do. Everything
    else is drawn on the host, as for a call that takes its seed by value.
    """
    if recording_of(like):
        return torch.empty_like(like).random_(_LOWEST, None, generator=generator)
    if generator is None and not like.is_cpu:
        generator = _default_generator(like.device)
    drawn: Tensor = _empty(like.shape, dtype=torch.int64, device="cpu")
    if generator is None or generator.device.type == "cpu":
        drawn.random_(_LOWEST, None, generator=generator)
    else:
        assert _draw_from_counter is not None
        state = generator.initial_seed(), generator.get_offset()
        generator.set_offset(_draw_from_counter(*state, drawn.numel() // 2, drawn.data_ptr()))
    return drawn if like.is_cpu else drawn.to(like.device, non_blocking=True)


def _default_generator(device: torch.device) -> torch.Generator:
    module = torch.get_device_module(device)
    index = module.current_device() if device.index is None else device.index
    generator: torch.Generator = module.default_generators[index]
    return generator


def define(draw_from_counter: Callable[[int, int, int, int], int]) -> None:
    """The one op of the samplers that is random."""
    global _draw_from_counter
    _draw_from_counter = draw_from_counter
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded)
    library.define("draw_seed(Tensor like, Generator? generator=None) -> Tensor", tags=tags)


def implement(device: str) -> None:
    """What is Python's of the samplers' ops on a device that has kernels."""
    library.impl("draw_seed", _draw_seed, torch._C._dispatch_key_for_device(device))
    for op in ("reparameterize", "reparameterize_kl"):
        library.impl(op, _autocast(op), autocast_key(device))


def register() -> None:
    """Completes the samplers' ops."""
    for op, kernel in (
        ("reparameterize", reparameterize),
        ("reparameterize_kl", reparameterize_kl),
    ):
        library.impl(op, kernel, "Autograd")
    register_below_autograd("reparameterize_kl_backward")


# ---- entries -------------------------------------------------------------------------------------


def _place_of_seed(mu: Tensor, generator: torch.Generator | None) -> torch.device | str:
    """Where a seed for noise on mu's device is drawn.

    Always right is on that device: what a graph records draws anew whenever it runs, a fake
    tensor's device need not exist, and a trace cannot name a generator. On the host it costs no
    launch, and the kernel takes the seed by value.
    """
    if mu.is_cpu or not has_kernels(mu):
        return "cpu"
    if generator is not None and (generator.device.type == "cpu" or torch._C._is_tracing()):
        return "cpu"
    is_there = (
        torch._C._is_tracing()
        or is_transformed()
        or torch._C._len_torch_dispatch_stack()
        or is_subclass(mu)
        or recording_of(mu)
    )
    return mu.device if is_there else "cpu"


def draw_seed(mu: Tensor, generator: torch.Generator | None) -> Tensor:
    """The seed of one call with ``mu``."""
    if generator is not None and generator.device.type not in ("cpu", mu.device.type):
        raise ValueError(f"generator is on {generator.device}, expected {mu.device.type}")
    place = _place_of_seed(mu, generator)
    if generator is None and place == "cpu" and not mu.is_cpu and has_kernels(mu):
        generator = _default_generator(mu.device)
    if is_ordinary() and place == "cpu":
        return _draw_seed(_ONE_ROW, generator)
    # A fresh tensor makes every call distinct: the compiler merges equal calls of custom random
    # ops. torch.jit.trace folds what depends on no input into a constant, and merges equal calls
    # too, but neither where a tensor is written in place.
    like = _empty((1, 2), dtype=torch.int64, device=place)
    if torch._C._is_tracing():
        like.zero_()
    seed: Tensor = _ops.draw_seed.default(like, generator)
    return seed
