"""The right values in float64, and how far from them a result may be.

A result's tolerance follows from the size of the terms that it is made of. What a formula does
between reading its operands and storing its result is at most four roundings of at most two units
each (docs/accuracy.md), so that it may be wrong by eight units of its terms in the arithmetic's
dtype. To that come the roundings of what is stored: half a unit, or one with the upstream gradient.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.cases import CASE_OF_OP
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype, sum_dtype
from vae_fast.engine.table import LOSSES
from vae_fast.latent.noise import normal_noise

_UNITS = {torch.float32: 8.0, torch.float64: 16.0}  # float64's reference has its own roundings


def wide(x: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    """On the CPU in float64, by way of the arithmetic's dtype."""
    if isinstance(x, Tensor):
        return x.detach().cpu().resolve_neg().to(dtype).double()
    return torch.tensor(float(x), dtype=dtype, device="cpu").double()


def ulp(x: Tensor, dtype: torch.dtype) -> Tensor:
    """One unit in the last place of ``x`` were it of ``dtype``; of the least normal near zero."""
    info = torch.finfo(dtype)
    magnitude = x.abs().nan_to_num(info.max, posinf=info.max).clamp(info.tiny, info.max)
    _, exponent = torch.frexp(magnitude)
    return torch.ldexp(torch.full_like(magnitude, info.eps), exponent - 1)


def held(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Infinite where ``dtype`` cannot hold it."""
    return torch.where(x.abs() > torch.finfo(dtype).max, torch.copysign(_INFINITY, x), x)


_INFINITY = torch.tensor(math.inf, dtype=torch.float64, device="cpu")


def sum_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.sum_to_size(tuple(shape)) if x.shape != torch.Size(shape) else x


_NOWHERE = torch.zeros((), dtype=torch.bool, device="cpu")


@dataclass
class Result:
    """A right value, and how far away from it one may be.

    ``is_overflow``: where it is a sum of numbers at the end of the dtype's range, or beyond; then
    any that is not finite will do, infinity or, of two of them, none.
    """

    value: Tensor
    tolerance: Tensor
    is_overflow: Tensor = _NOWHERE

    def __add__(self, other: Result) -> Result:
        return Result(
            self.value + other.value,
            self.tolerance + other.tolerance,
            self.is_overflow | other.is_overflow,
        )

    def stored(self, dtype: torch.dtype) -> Result:
        tolerance = self.tolerance + ulp(self.value, dtype)
        return Result(held(self.value, dtype), tolerance, self.is_overflow)

    def times(self, factor: float) -> Result:
        return Result(self.value * factor, self.tolerance * abs(factor), self.is_overflow)

    def complaint(self, actual: Tensor) -> str | None:
        """What is wrong with ``actual``, if anything is."""
        if actual.shape != self.value.shape:
            return f"shape {tuple(actual.shape)}, expected {tuple(self.value.shape)}"
        dtype, got = actual.dtype, wide(actual)
        expected = held(self.value, dtype)
        most = torch.finfo(dtype).max
        off = (got.clamp(-most, most) - self.value.clamp(-most, most)).abs()
        tolerance = self.tolerance + ulp(self.value, dtype)
        # At the edge of the dtype's range, infinity and its largest number are neighbours.
        near = (off <= tolerance) & self.value.isfinite() & ~got.isnan()
        same = (got == expected) | (got.isnan() & expected.isnan())
        same |= self.is_overflow & ~got.isfinite()
        wrong = ~(near | same)
        if not wrong.any():
            return None
        at = tuple(int(i) for i in wrong.nonzero()[0])
        return (
            f"{int(wrong.sum())} of {wrong.numel()} wrong, at {at} {got[at].item():.9g} for "
            f"{self.value[at].item():.9g} (tolerance {tolerance[at].item():.3g})"
        )


@dataclass
class Term:
    """Numbers for each element: a value, and gradients for an upstream one of each element.

    ``pull(u, k)`` gives the gradient's terms in operand k, and their sizes, in the whole shape.
    """

    value: Tensor
    size: Tensor
    operands: list[Any]
    arithmetic: torch.dtype
    pull: Callable[[Tensor, int], tuple[Tensor, Tensor]]
    stored: Callable[[Any], torch.dtype | None]  # in which a gradient waits for its upstream one

    @property
    def error(self) -> float:
        return _UNITS[self.arithmetic] * torch.finfo(self.arithmetic).eps

    @property
    def _sums(self) -> torch.dtype:
        return sum_dtype(promoted_dtype(_tensors(self.operands)))

    def reduced(
        self, reduction: str, batch_dims: int, sample_dims: int = 0, floor: Floor | None = None
    ) -> Result:
        each, size = (
            x.mean(tuple(range(sample_dims))) if sample_dims else x
            for x in (held(self.value, self.arithmetic), self.size)
        )
        if floor is not None:
            each, size = floor.apply(each, size, batch_dims)
        keep, count = _reduction(reduction, batch_dims, each.shape)
        dims = tuple(range(keep, each.dim()))
        if dims:
            each, size = each.sum(dims), size.sum(dims)
        value = each / count
        return Result(value, self.error * size / count + ulp(value, self._sums))

    def gradients(
        self,
        upstream: Sequence[Tensor],
        reduction: str,
        batch_dims: int,
        sample_dims: int = 0,
        floor: Floor | None = None,
    ) -> list[Result | None]:
        """Those that are wanted, from the upstream gradients of the value, which add up."""
        shape = self.value.shape
        inner = shape[sample_dims:]
        _, count = _reduction(reduction, batch_dims, inner)
        total, most = sum(upstream), sum(x.abs() for x in upstream)
        of_each, largest = (
            x.reshape((*x.shape, *(1,) * (len(inner) - x.dim()))).expand(inner).expand(shape)
            for x in (total, most)
        )
        divisor = count * math.prod(shape[:sample_dims])
        each = of_each / divisor
        if floor is not None:
            each = each * floor.is_above(self.value, batch_dims)
        results: list[Result | None] = []
        for k, operand in enumerate(self.operands):
            if not (isinstance(operand, Tensor) and operand.requires_grad):
                results.append(None)
                continue
            exactly = self.pull(each, k)[0]
            gradient = held(exactly, self.arithmetic)
            is_large = exactly.abs() > 0.5 * torch.finfo(self.arithmetic).max
            at_most, size = self.pull(largest / divisor, k)
            # The upstream gradient comes in the dtype of the sums.
            tolerance = self.error * size + torch.finfo(self._sums).eps * at_most.abs()
            # With free bits the divergence is made by element, of operands that are not float16.
            dtype = self.stored(operand) if floor is None else operand.dtype
            if dtype is not None:
                info = torch.finfo(dtype)
                tolerance = tolerance + largest * info.tiny * info.eps
                if dtype != self.arithmetic:
                    tolerance = tolerance + 2 * info.eps * at_most.abs()
            if floor is not None:
                is_near = floor.is_near(self, batch_dims)
                tolerance = torch.where(is_near, 2 * at_most.abs(), tolerance)
            of = operand.shape
            is_overflow = sum_to(is_large.double(), of) > 0 if of != gradient.shape else _NOWHERE
            results.append(Result(sum_to(gradient, of), sum_to(tolerance, of), is_overflow))
        return results


@dataclass
class Floor:
    """Free bits."""

    nats: float
    per: str

    def _counted(self, each: Tensor, batch_dims: int) -> Tensor:
        if self.per == "sample":
            return each
        each = each.mean(tuple(range(batch_dims)), keepdim=True) if batch_dims else each
        inner = tuple(range(batch_dims + 1, each.dim())) if self.per == "group" else ()
        return each.sum(inner, keepdim=True) if inner else each

    def apply(self, each: Tensor, size: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        """Their mean and sum are plain PyTorch's, which adds one after the other."""
        counted = self._counted(each, batch_dims).clamp(min=self.nats)
        sizes = (1 + each.numel() / 8) * (self._counted(size, batch_dims) + self.nats)
        # Each dimension of a group has its part.
        dims = each.shape[batch_dims + 1 :] if self.per == "group" else ()
        part = 1 / (math.prod(dims) or 1)
        return (part * counted).expand(each.shape), (part * sizes).expand(each.shape)

    def is_near(self, term: Term, batch_dims: int) -> Tensor:
        """Where rounding decides on which side of it a divergence is."""
        counted = self._counted(term.value, batch_dims)
        dtype = promoted_dtype(_tensors(term.operands))
        error = (1 + term.value.numel() / 8) * term.error * self._counted(term.size, batch_dims)
        is_near = (counted - self.nats).abs() <= error + 2 * torch.finfo(dtype).eps * self.nats
        return is_near.expand(term.value.shape)

    def is_above(self, each: Tensor, batch_dims: int) -> Tensor:
        return (self._counted(each, batch_dims) > self.nats).double().expand(each.shape)


def _reduction(reduction: str, batch_dims: int, shape: Sequence[int]) -> tuple[int, int]:
    """Dimensions kept, and what the sum of the others is divided by."""
    if reduction == "none":
        return len(shape), 1
    if reduction == "sample":
        return batch_dims, 1
    counted = {"sum": (), "batchmean": shape[:batch_dims], "mean": shape}[reduction]
    return 0, math.prod(counted)


# ---- losses ------------------------------------------------------------------------------------


def _tensors(operands: Sequence[Any]) -> list[Tensor]:
    return [x for x in operands if isinstance(x, Tensor)]


def _stored_by_losses(operands: Sequence[Any]) -> Callable[[Any], torch.dtype | None]:
    """float16 has its gradients made in the backward: nothing waits."""
    has_float16 = any(x.dtype == torch.float16 for x in _tensors(operands))
    return lambda x: (
        None
        if has_float16 or not isinstance(x, Tensor)
        else (x.dtype if x.is_floating_point() else None)
    )


def elementwise(op: str, operands: Sequence[Any], mask: Tensor | None = None) -> Term:
    """A loss of :data:`vae_fast.engine.table.LOSSES`, its operands in the op's order."""
    loss, arithmetic = LOSSES[op], arithmetic_dtype(_tensors(operands))
    values = []
    for x in operands:
        unit = loss.uint8_unit if isinstance(x, Tensor) and x.dtype == torch.uint8 else 1.0
        x = x.detach().cpu().to(arithmetic) / unit if unit != 1.0 else x
        values.append(wide(x, arithmetic))
    shape = values[0].shape
    counts = torch.ones(shape, dtype=torch.bool, device="cpu")
    if mask is not None:
        counts = mask.cpu().expand(shape)
        values = [torch.where(counts, x, 0.5) for x in values]
    values = [x.expand(shape) for x in values]
    value, slopes = loss.value(*values), loss.gradients(*values)
    size, sizes = CASE_OF_OP[op].sizes(value, slopes, *values)

    def pull(upstream: Tensor, k: int) -> tuple[Tensor, Tensor]:
        gradient, size = upstream * held(slopes[k], arithmetic), upstream.abs() * sizes[k]
        if mask is None:
            return gradient, size
        return torch.where(counts, gradient, 0), torch.where(counts, size, 0)

    return Term(
        torch.where(counts, value, 0),
        torch.where(counts, size, 0),
        list(operands),
        arithmetic,
        pull,
        _stored_by_losses(operands),
    )


def multinomial(logits: Tensor, target: Tensor) -> Term:
    """The classes that are excluded and not counted cost nothing, and have no gradient."""
    arithmetic = arithmetic_dtype((logits, target))
    x, t = wide(logits, arithmetic), wide(target, arithmetic).expand(logits.shape)
    largest = x.amax(-1, keepdim=True) if x.shape[-1] else x.new_zeros((*x.shape[:-1], 1))
    is_void = largest == -math.inf  # no class is left, and no softmax
    largest = torch.where(is_void, 0, largest)
    below = torch.where(x == -math.inf, 0, (x - largest).abs())
    log_p = torch.log_softmax(torch.where(is_void, 0, x), -1)
    softmax = torch.where(is_void, 0, torch.exp(log_p))
    log_p = torch.where((x == -math.inf) & (t == 0), 0, torch.where(is_void, -math.inf, log_p))
    value = -t * log_p
    size = t * (2 * below + 1 + log_p.abs())

    def pull(upstream: Tensor, k: int) -> tuple[Tensor, Tensor]:
        most = upstream.abs()
        if k == 1:
            return -upstream * log_p, most * (2 * below + 1 + log_p.abs())
        of_row = (upstream * t).sum(-1, keepdim=True)
        size = (most * t).sum(-1, keepdim=True) * softmax * (2 + below) + most * t
        return of_row * softmax - upstream * t, size

    # Its own in float16 is made in the backward, but plain PyTorch's in the target is not.
    of_logits = _stored_by_losses([logits])(logits)
    of_target = target.dtype if target.is_floating_point() else None
    return Term(
        value,
        size,
        [logits, target],
        arithmetic,
        pull,
        lambda x: of_logits if x is logits else of_target,
    )


def sample(operands: Sequence[Any], shape: Sequence[int], seed: Tensor) -> Term:
    """z of mu and logvar, and of a prior that has no part in it but its dtype."""
    arithmetic = arithmetic_dtype(_tensors(operands))
    dtype = promoted_dtype(_tensors(operands))
    mu, logvar = (wide(x, arithmetic).expand(tuple(shape)) for x in operands[:2])
    noise = normal_noise(seed.cpu(), tuple(shape), torch.float64)
    spread = torch.exp(0.5 * logvar) * noise
    slope = held(0.5 * spread, dtype)

    def pull(upstream: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k == 0:
            return upstream, upstream.abs()
        # dz/dlogvar waits in z's dtype, and may be next to nothing there.
        unit = ulp(slope, dtype) / (_UNITS[arithmetic] * torch.finfo(arithmetic).eps)
        return upstream * slope, upstream.abs() * (slope.abs() + unit)

    return Term(
        mu + spread, mu.abs() + spread.abs(), list(operands[:2]), arithmetic, pull, lambda x: dtype
    )


# ---- through a linear layer ----------------------------------------------------------------------


@dataclass
class Linear:
    """A layer's output in float64, and how wrong it may be in the layer's dtype."""

    output: Tensor
    size: Tensor
    dtype: torch.dtype


def linear(h: Tensor, weight: Tensor, bias: Tensor | None) -> Linear:
    x, w = wide(h), wide(weight)
    b = w.new_zeros(len(w)) if bias is None else wide(bias)
    return Linear(x @ w.T + b, x.abs() @ w.abs().T + b.abs(), h.dtype)


def of_linear(likelihood: str, layer: Linear, arguments: dict[str, Any]) -> Term:
    """The likelihood of the output, whose errors are among the sizes.

    How much an error of the output does is the second derivative in it, at most.
    """
    output, target, mask = layer.output.clone().requires_grad_(), arguments["target"], None
    if likelihood == "multinomial":
        term = multinomial(output, target)
        bent = 0.5 * wide(target).sum(-1, keepdim=True)
        in_target = 2 * layer.size
    else:
        logvar, mask = arguments.get("logvar"), arguments["mask"]
        operands = (output, target) if logvar is None else (output, logvar, target)
        term = elementwise(f"{likelihood}_nll", operands, mask)
        bent = torch.tensor(0.25, dtype=torch.float64, device="cpu")
        if logvar is not None:
            bent = torch.exp(-wide(logvar))
        in_target = layer.size if logvar is None else bent * layer.size
    counts = 1 if mask is None else mask.cpu().double()
    slope = term.pull(torch.ones_like(layer.output), 0)[0].abs()
    in_value = counts * (slope + bent * layer.size) * layer.size
    errors = [counts * bent * layer.size, in_value, counts * in_target]
    if len(term.operands) == 2:
        errors.pop(1)  # no log-variance
    pull = term.pull

    arithmetic = arithmetic_dtype((torch.empty((), dtype=layer.dtype, device="cpu"), target))

    def pull_with_errors(upstream: Tensor, k: int) -> tuple[Tensor, Tensor]:
        gradient, size = pull(upstream, k)
        slope = held(pull(torch.ones_like(upstream), k)[0], arithmetic)
        gradient = torch.where(slope.isinf(), upstream * slope, gradient)
        return gradient, size + upstream.abs() * errors[k]

    return dataclasses.replace(
        term, size=term.size + in_value, arithmetic=arithmetic, pull=pull_with_errors
    )


def through_linear(
    h: Tensor, weight: Tensor, bias: Tensor | None, gradients: list[Result | None]
) -> dict[str, Result | None]:
    """From the gradient in the output to those in the layer's input and parameters."""
    x, w, of = wide(h), wide(weight), gradients[0]
    assert of is not None
    error = of.tolerance + _UNITS[h.dtype] * torch.finfo(h.dtype).eps * of.value.abs()
    rows, value_rows, error_rows = (y.reshape(-1, y.shape[-1]) for y in (x, of.value, error))
    results: dict[str, Result | None] = {
        "h": Result(of.value @ w, error @ w.abs()),
        "weight": Result(value_rows.T @ rows, error_rows.T @ rows.abs()),
        "target": gradients[-1],
        "logvar": gradients[1],
    }
    if bias is not None:
        results["bias"] = Result(value_rows.sum(0), error_rows.sum(0))
    return results
