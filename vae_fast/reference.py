"""The functions of this package in plain PyTorch: specification, oracle of the tests, fallback.

A loss is a row of :data:`LOSSES`: its value and its gradients, one element at a time. Everything
else (masks, reductions, dtypes, autograd to any order) is written once, around the table.

The functions here are the ops, with the same arguments as their compiled kernels. The public
functions of :mod:`vae_fast.functional` run on them where no kernel serves, or everywhere with
``VAE_FAST_BACKEND=reference``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vae_fast import checks

# ---- formulas: elementwise, in float32 or float64, in nats ---------------------------------------


@dataclass(frozen=True)
class Loss:
    """An elementwise loss: its operands' names, its value and its gradient in each operand.

    ``gradients`` is explicit, right at the extremes, and differentiable itself to any order; a
    plain derivative of ``value`` would be none of these. ``uint8_unit`` is what a uint8 target is
    divided by. An operand called ``target``, where there is one, comes last.
    """

    operands: tuple[str, ...]
    value: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, ...]]
    uint8_unit: float = 1.0


def _bernoulli_value(logits: Tensor, target: Tensor) -> Tensor:
    """softplus(l) - x l, written so that nothing cancels and an infinite logit may agree with x."""
    magnitude = logits.abs()
    weight = torch.where(logits > 0, 1 - target, target)
    linear = torch.where(weight == 0, 0, magnitude * weight)
    return linear + torch.log1p(torch.exp(-magnitude))


def _bernoulli_gradients(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(l) - x, without the cancellation of a confident logit that agrees with x; and -l."""
    positive = (1 - target) - torch.sigmoid(-logits)
    return torch.where(logits > 0, positive, torch.sigmoid(logits) - target), -logits


_LOG_FLOOR = -100.0  # as torch.nn.functional.binary_cross_entropy clamps its logarithms
_PROB_FLOOR = 1e-12  # of the gradient's denominators


def _floored_log(log: Callable[[Tensor], Tensor], at: Tensor, argument: Tensor) -> Tensor:
    """max(log(at), -100) with derivative 1 / max(argument, 1e-12): finite, and never zero."""
    is_small = argument <= _PROB_FLOOR
    regular = log(torch.where(is_small, 0.5, at))
    constant = log(at.detach()).clamp(min=_LOG_FLOOR)
    line = (argument - argument.detach()) / _PROB_FLOOR  # zero, with the wanted slope
    return torch.where(is_small, constant + line, regular)


def _log1p_of_minus(p: Tensor) -> Tensor:
    return torch.log1p(-p)


def _bernoulli_probs_value(probs: Tensor, target: Tensor) -> Tensor:
    log_p = torch.log(probs).clamp(min=_LOG_FLOOR)
    log_q = torch.log1p(-probs).clamp(min=_LOG_FLOOR)
    return -(target * log_p + (1 - target) * log_q)


def _bernoulli_probs_gradients(probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - x) / q - x / p with floored p and q = 1 - p; and log q - log p.

    On one denominator, over p q, nothing cancels: the numerator is p - x, from the smaller of p
    and q, which is the one that may have met the floor.
    """
    other = 1 - probs
    p, q = probs.clamp(min=_PROB_FLOOR), other.clamp(min=_PROB_FLOOR)
    in_probs = torch.where(probs < 0.5, p - target, (1 - target) - q) / (p * q)
    log_q = _floored_log(_log1p_of_minus, probs, other)
    return in_probs, log_q - _floored_log(torch.log, probs, probs)


# exp(x) - 1 - x = x^2 / 2 * (1 + x/3 (1 + x/4 (1 + ...))), enough terms for float64 at |x| < 1.
_SERIES_TERMS = 20
# Beyond this, x is nothing beside exp(x); and inf - inf is not a number.
_EXP_ALONE = 100.0
# Beyond this, 1 is nothing beside exp(x), which will soon be beyond float32.
_LARGE = 80.0


def _half_expm1(x: Tensor) -> Tensor:
    """(exp(x) - 1) / 2, finite where exp(x) is not: as exp(x - 1) e / 2, whose x - 1 is exact."""
    is_large = x > _LARGE
    half = 0.5 * torch.expm1(torch.where(is_large, x - 1, x))
    return torch.where(is_large, math.e * half, half)


def _half_expm1_minus(x: Tensor) -> Tensor:
    """(exp(x) - 1 - x) / 2 to full relative accuracy, never negative."""
    series = torch.ones_like(x)
    for k in range(_SERIES_TERMS, 2, -1):
        series = 1 + x / k * series
    direct = _half_expm1(x) - 0.5 * x.clamp(max=_EXP_ALONE)
    return torch.where(x.abs() < 1, 0.25 * x * x * series, direct)


def _standard_normal_kl_value(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)); Kingma and Welling 2014, appendix B."""
    return 0.5 * mu * mu + _half_expm1_minus(logvar)


def _standard_normal_kl_gradients(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return mu, _half_expm1(logvar)


def _standardized(x: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """((x - mean) / sigma)^2 / 2, and its derivative in x.

    Half of the precision's logarithm at a time, finite so that 0 times it is 0: a small difference
    does not underflow, nor a large precision overflow, before they meet.
    """
    root = torch.exp(-0.5 * logvar).clamp(max=torch.finfo(x.dtype).max)
    distance = (x - mean) * root
    return 0.5 * distance * distance, distance * root


def _gaussian_kl_value(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar)))."""
    half_square, _ = _standardized(mu, prior_mu, prior_logvar)
    return half_square + _half_expm1_minus(logvar - prior_logvar)


def _gaussian_kl_gradients(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> tuple[Tensor, ...]:
    half_square, slope = _standardized(mu, prior_mu, prior_logvar)
    excess = _half_expm1(logvar - prior_logvar)
    return slope, excess, -slope, -(half_square + excess)


def _gaussian_value(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    """-log N(target; mean, exp(logvar))."""
    half_square, _ = _standardized(mean, target, logvar)
    return half_square + 0.5 * (math.log(2 * math.pi) + logvar)


def _gaussian_gradients(mean: Tensor, logvar: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    half_square, slope = _standardized(mean, target, logvar)
    return slope, 0.5 - half_square, -slope


LOSSES: dict[str, Loss] = {
    "bernoulli_nll": Loss(
        ("logits", "target"), _bernoulli_value, _bernoulli_gradients, uint8_unit=255.0
    ),
    "bernoulli_probs_nll": Loss(
        ("probs", "target"),
        _bernoulli_probs_value,
        _bernoulli_probs_gradients,
        uint8_unit=255.0,
    ),
    "gaussian_nll": Loss(("mean", "logvar", "target"), _gaussian_value, _gaussian_gradients),
    "standard_normal_kl": Loss(
        ("mu", "logvar"), _standard_normal_kl_value, _standard_normal_kl_gradients
    ),
    "gaussian_kl": Loss(
        ("mu", "logvar", "prior_mu", "prior_logvar"), _gaussian_kl_value, _gaussian_kl_gradients
    ),
}


# ---- around the table ----------------------------------------------------------------------------


class _Elementwise(torch.autograd.Function):
    """A row of the table as a differentiable function of operands of one shape and dtype."""

    generate_vmap_rule = True

    @staticmethod
    def forward(name: str, *operands: Tensor) -> Tensor:
        return LOSSES[name].value(*operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name, *operands = inputs
        ctx.save_for_backward(*operands)
        ctx.save_for_forward(*operands)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = LOSSES[ctx.name].gradients(*ctx.saved_tensors)
        return None, *(upstream * gradient for gradient in gradients)


class _ElementwiseForward(_Elementwise):
    """With forward-mode AD too: apart, because Dynamo refuses functions that have it."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        gradients = LOSSES[ctx.name].gradients(*ctx.saved_tensors)
        terms = [g * t for g, t in zip(gradients, tangents, strict=True) if t is not None]
        return functools.reduce(torch.add, terms)


def promoted_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """The floating dtype that the operands promote to.

    By torch's rule: one without dimensions does not raise that of others.
    """
    floating = [operand for operand in operands if operand.is_floating_point()]
    dimensioned = [operand for operand in floating if operand.dim() > 0]
    return functools.reduce(
        torch.promote_types, (operand.dtype for operand in dimensioned or floating)
    )


def arithmetic_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """float64 where any operand is, else float32."""
    return torch.float64 if torch.float64 in [x.dtype for x in operands] else torch.float32


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of arithmetic and of sums: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def broadcast_shape(tensors: Sequence[Tensor]) -> torch.Size:
    """The shape that the tensors broadcast to."""
    broadcast_shapes: Callable[..., torch.Size] = torch.broadcast_shapes
    return broadcast_shapes(*(tensor.shape for tensor in tensors))


def result_dtype(operands: Sequence[Tensor]) -> torch.dtype:
    """The dtype of elementwise results; under autocast, as the kernels have it, that of sums."""
    dtype, device = promoted_dtype(operands), operands[0].device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return sum_dtype(dtype) if is_autocast else dtype


def _compute_operands(loss: Loss, operands: Sequence[Tensor]) -> list[Tensor]:
    """The operands in the dtype of the arithmetic; a uint8 target scaled."""
    dtype = arithmetic_dtype(operands)
    return [
        x.to(dtype) / loss.uint8_unit if x.dtype == torch.uint8 else x.to(dtype) for x in operands
    ]


# In the domain of every operand of every loss: what a masked-out element is computed on, so that
# no NaN in it reaches a derivative of any order.
_HARMLESS = 0.5


def evaluate(
    name: str, operands: Sequence[Tensor], mask: Tensor | None, keep: int, mean: int
) -> Tensor:
    """The loss ``name``, summed over the dimensions from ``keep`` on, in nats.

    Args:
        name: A key of :data:`LOSSES`.
        operands: Tensors that broadcast together; a target may be uint8 or bool.
        mask: Which elements count (bool, broadcasts with the operands); None: all of them.
        keep: How many leading dimensions of the broadcast shape the result keeps.
        mean: The sum is divided by the sizes of this many dimensions from ``keep`` on.

    Returns:
        A tensor of the broadcast shape's first ``keep`` sizes. Where something is summed it is at
        least float32, else of the operands' promoted dtype.
    """
    loss = LOSSES[name]
    checks.check_operands(name, loss.operands, operands, mask)
    dtype = result_dtype(operands)
    everything = _compute_operands(loss, operands)
    if mask is not None:
        everything = [torch.where(mask, operand, _HARMLESS) for operand in everything]
    shape = broadcast_shape(everything)
    everything = [operand.expand(shape) for operand in everything]
    checks.check_reduction(name, keep, mean, len(shape))
    function: Any = _Elementwise if torch.compiler.is_compiling() else _ElementwiseForward
    value: Tensor = function.apply(name, *everything)
    if mask is not None:
        value = torch.where(mask, value, 0)
    return value.to(dtype) if keep == len(shape) else reduce(value, keep, mean).to(sum_dtype(dtype))


def reduce(value: Tensor, keep: int, mean: int) -> Tensor:
    """``value`` summed over the dimensions from ``keep`` on, divided by ``mean`` of their sizes."""
    if keep == value.dim():
        return value
    total = value.sum(tuple(range(keep, value.dim())))
    return total / math.prod(value.shape[keep : keep + mean]) if mean else total


def gradient_formula(name: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """The elementwise gradients of a loss as differentiable expressions, for the C++ nodes.

    They call it where the gradient itself must be differentiable: double backward, forward-mode
    AD and functorch. Those of the multinomial are a row's.
    """
    if name == "multinomial_nll":
        return list(multinomial_gradient(*operands))
    loss = LOSSES[name]
    return list(loss.gradients(*_compute_operands(loss, operands)))


# ---- the multinomial: a row's elements hang together by its softmax ------------------------------


def _log_softmax(logits: Tensor) -> Tensor:
    """-infinity all along a row where every logit is: without a softmax, but for its gradient."""
    is_void = (logits == -math.inf).all(-1, keepdim=True)
    log_p = torch.log_softmax(torch.where(is_void, 0, logits), -1)
    return torch.where(is_void, logits, log_p)


def _costs(logits: Tensor, target: Tensor) -> Tensor:
    """-log softmax(l), but 0 where it is infinite and nothing is counted."""
    log_p = _log_softmax(logits)
    return -torch.where((target == 0) & (log_p == -math.inf), 0, log_p)


def multinomial_nll(logits: Tensor, target: Tensor, keep: int, mean: int) -> Tensor:
    """-t_k log softmax(l)_k, reduced as by :func:`evaluate`. Differentiable to any order.

    Logits and target have one shape; the softmax is over its last dimension.
    """
    dtype = sum_dtype(promoted_dtype((logits, target)))
    counts = target.to(dtype)
    value = counts * _costs(logits.to(dtype), counts)
    if keep == value.dim():
        return value.to(result_dtype((logits, target)))
    return reduce(value, keep, mean)


def multinomial_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a row's sum: count softmax(l) - t, and -log softmax(l)."""
    dtype = sum_dtype(promoted_dtype((logits, target)))
    wide, counts = logits.to(dtype), target.to(dtype)
    softmax = torch.exp(_log_softmax(wide))
    return counts.sum(-1, keepdim=True) * softmax - counts, _costs(wide, counts)


# ---- noise: Philox4x32-10 (Salmon et al. 2011) and Box-Muller ------------------------------------
#
# The element i of z, in row-major order, belongs to block b = i // 64; within its block its place
# is 16 * component + lane. The counter of (b, lane) is 16 b + lane, and gives four components.

_LANES = 16
_COMPONENTS = 4
_BLOCK = _LANES * _COMPONENTS

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of 32-bit words held in int64 tensors, which broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The products wrap around in int64: their 64 bits are right, only the sign is not.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32 & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            (p0 >> 32 & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _box_muller(a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two independent standard normals from two 32-bit words."""
    # A float32 in every dtype: near 1 the radius hangs on its last bits.
    uniform = (a >> 1).to(torch.float32) * 2.0**-31 + 2.0**-32
    radius = torch.sqrt(-2 * torch.log(uniform.to(dtype)))
    # The angle is (q + f) quarter turns, f in [-1/2, 1/2), where sine and cosine are best.
    quarter = b >> 30
    fraction = ((b & 0x3FFFFFFF) ^ 0x20000000) - 0x20000000
    angle = fraction.to(dtype) * (2.0**-30 * (math.pi / 2))
    sine, cosine = torch.sin(angle), torch.cos(angle)
    is_odd = (quarter & 1) == 1
    sine, cosine = torch.where(is_odd, cosine, sine), torch.where(is_odd, -sine, cosine)
    sign = 1 - (quarter & 2).to(dtype)
    return radius * sign * sine, radius * sign * cosine


def normal_noise(seed: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Standard normal noise, a function of the seed alone.

    Args:
        seed: (rows, 2) int64: key and offset; row q drives the q-th equal share of the elements.
        shape: Of the result.
        dtype: float32 or float64: of the arithmetic too.
    """
    rows = seed.shape[0]
    share = math.prod(shape) // rows
    blocks = (share + _BLOCK - 1) // _BLOCK
    index = torch.arange(blocks * _LANES, device=seed.device)
    key, offset = seed[:, :1], seed[:, 1:]
    words = philox4x32(
        (index & _WORD, index >> 32, offset & _WORD, offset >> 32 & _WORD),
        (key & _WORD, key >> 32 & _WORD),
    )
    normals = (*_box_muller(words[0], words[1], dtype), *_box_muller(words[2], words[3], dtype))
    lanes = torch.stack([n.reshape(rows, blocks, _LANES) for n in normals], dim=2)
    return lanes.reshape(rows, blocks * _BLOCK)[:, :share].reshape(shape)


def draw_seed(
    generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Key and offset of the noise, (1, 2) int64 on ``device``: two 64-bit draws from a generator.

    From the CPU's the same two words as the compiled op draws (but for one value in 2^64), by way
    of randint, which knows torch.func.vmap's modes of randomness.
    """
    lowest = -(2**63)
    device = torch.device("cpu") if device is None else device
    source = device if generator is None else generator.device
    seed = torch.randint(lowest, 2**63 - 1, (1, 2), generator=generator, device=source) ^ lowest
    return seed.to(device)


# ---- sampling ------------------------------------------------------------------------------------


def _sample(operands: Sequence[Tensor], seed: Tensor) -> Tensor:
    """Samples z = mu + exp(logvar / 2) eps in the operands' broadcast shape."""
    dtype = sum_dtype(promoted_dtype(operands))
    seed = seed.to(operands[0].device)
    return moved(operands, normal_noise(seed, broadcast_shape(operands), dtype))


def moved(operands: Sequence[Tensor], noise: Tensor) -> Tensor:
    """Of mu, logvar and what else z has its dtype from: z = mu + exp(logvar / 2) noise."""
    mu, logvar = operands[:2]
    dtype = sum_dtype(promoted_dtype(operands))
    z = mu.to(dtype) + torch.exp(0.5 * logvar.to(dtype)) * noise.to(dtype)
    return z.to(result_dtype(operands))


def reparameterize(mu: Tensor, logvar: Tensor, seed: Tensor) -> Tensor:
    """Samples z = mu + exp(logvar / 2) eps, eps ~ N(0, I) from ``seed``."""
    checks.check_operands("reparameterize", ("mu", "logvar"), (mu, logvar))
    operands = (mu, logvar)
    checks.check_seed("reparameterize", seed, broadcast_shape(operands), mu.device)
    return _sample(operands, seed)


def reparameterize_kl(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    seed: Tensor,
    keep: int,
    mean: int,
) -> tuple[Tensor, Tensor]:
    """Samples z, with the divergence from the prior reduced as in :func:`evaluate`.

    Both have the shape that mu, logvar and the prior's parameters broadcast to.
    """
    name, operands = divergence("reparameterize_kl", mu, logvar, prior_mu, prior_logvar)
    checks.check_operands("reparameterize_kl", LOSSES[name].operands, operands)
    checks.check_seed("reparameterize_kl", seed, broadcast_shape(operands), mu.device)
    return _sample(operands, seed), evaluate(name, operands, None, keep, mean)


def divergence(
    function: str,
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
) -> tuple[str, tuple[Tensor, ...]]:
    """Which divergence these arguments ask for, and its operands."""
    if prior_mu is None and prior_logvar is None:
        return "standard_normal_kl", (mu, logvar)
    checks.check_prior(function, prior_mu, prior_logvar)
    return "gaussian_kl", (mu, logvar, cast(Tensor, prior_mu), cast(Tensor, prior_logvar))
