"""Mixtures: the logarithm of a sum of components, each an elementwise likelihood.

One pass of the kernel where it may be; else the composition of the likelihood's op and torch's own
(:mod:`vae_fast.engine.composed` says where).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vae_fast.engine import call, checks, extension
from vae_fast.engine.composed import enter_composition
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.reductions import Reduction, keep_and_mean, reduce
from vae_fast.engine.shapes import fits_into, same_shape
from vae_fast.engine.table import LIKELIHOODS, LOSSES

__all__ = ["mixture_nll"]

Dtypes: TypeAlias = tuple[torch.dtype, ...]


def mixture_nll(
    logits: Tensor,
    target: Tensor,
    *params: Tensor | float,
    likelihood: str = "gaussian",
    event_dims: int = 0,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a mixture of K components, in nats.

    -log sum_k softmax(logits)_k exp(-nll_k), where nll_k is that of component k, summed over the
    target's last ``event_dims`` dimensions: they have one component in common, as in a mixture
    density network (Bishop 1994). The components are the dimension behind the batch's:

        mixture_nll(logits, x, mean, logvar, event_dims=1)       # (B, K), (B, D), (B, K, D)
        mixture_nll(logits, x, log_rate, likelihood="poisson")   # (B, K, G), (B, G), (B, K, G)

    In one pass: it reads logits, parameters and target once and, where gradients are wanted, writes
    them once, in the forward, scaled by the components' shares while they are in the cache: 8 bytes
    for each logit and each element of a parameter in float32, 4 without gradients, and the
    target's. On CUDA parameters are read twice, the second time mostly from the cache. A parameter
    that broadcasts has its gradient written whole, then summed. Under ``torch.compile`` and
    ``torch.func``, for derivatives of derivatives and for a gradient in the target it is a
    composition: the likelihood's op twice, for values and then for
    gradients, and torch's log-sum-exp.

    A component whose logit is -infinity or whose nll is infinite has no share, and gradients of 0.
    Where no component is possible, the value is infinite and there is no gradient.

    Args:
        logits: (*batch, K, *rest), not normalised.
        target: (*batch, *rest, *event), but for leading batch dimensions; see the likelihood.
        *params: The likelihood's parameters in the order of its function; each broadcasts to
            (*batch, K, *rest, *event), or is a number. The function's defaults stand for those
            that are not given.
        likelihood: The name of its function without ``_nll``, of those whose elements are
            independent.
        event_dims: How many of the target's last dimensions share a component.
        mask: bool, broadcasts to the target's whole shape; where it is false an element counts for
            no component.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`; the elements of ``"none"`` and ``"mean"`` are the mixtures,
            (*batch, *rest).

    Returns:
        The negative log-likelihood, reduced, in float32, or in float64 where an argument is.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: Shapes or devices that do not fit, an unknown likelihood or reduction, another
            number of parameters than the likelihood has, or no component.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> x = torch.tensor([[3.0]])
        >>> logits, mean = torch.zeros(1, 2, 1), torch.tensor([[[-3.0], [3.0]]])  # two components
        >>> vf.mixture_nll(logits, x, mean)
        tensor(1.6121)
        >>> vf.gaussian_nll(mean[:, 1], x) + torch.tensor(2.0).log()  # the other is far away
        tensor(1.6121)
    """
    op = _op(likelihood)
    parameters = tuple(call.as_tensor(x, logits, target) for x in _filled(likelihood, params))
    _check_mixture(op, logits, target, parameters, event_dims, mask, batch_dims, reduction)
    keep, mean = keep_and_mean_of(reduction, batch_dims, logits)
    if not (torch.compiler.is_compiling() or extension.use_reference(logits.device.type)):
        _enter_elementwise(op)
        value: Tensor | None = extension.kernels.mixture_nll(
            op, logits, target, parameters, mask, batch_dims, event_dims, keep, mean
        )
        if value is not None:
            return value
    numbers = (batch_dims, event_dims, keep, mean)
    return _elementwise(op, (logits, *parameters, target), mask, numbers)


def has_components(likelihood: str) -> bool:
    """Whether its op has the function's parameters, the target behind them, each for itself."""
    loss = LOSSES.get(f"{likelihood}_nll")
    return loss is not None and not loss.rowwise and loss.operands[-1] == "target"


def _op(likelihood: str) -> str:
    """What computes a component."""
    choices = tuple(filter(has_components, LIKELIHOODS))
    if likelihood not in choices:
        checks.check_likelihood("mixture_nll", likelihood, choices)
    return f"{likelihood}_nll"


def _filled(likelihood: str, params: tuple[Any, ...]) -> tuple[Any, ...]:
    """With the function's defaults behind them."""
    entry = LIKELIHOODS[likelihood]
    if len(params) not in entry.parameter_counts:
        counts = checks.one_of([str(n) for n in entry.parameter_counts])
        raise ValueError(
            f"mixture_nll: params are {len(params)}, expected {counts} for {likelihood!r}"
        )
    return params + entry.defaults[len(params) :]


def _check_mixture(
    op: str,
    logits: Tensor,
    target: Tensor,
    parameters: tuple[Tensor, ...],
    event_dims: int,
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is."""
    function, (*names, _) = "mixture_nll", LOSSES[op].operands
    tensors = (logits, *parameters, target)
    check(function, ("logits", *names, "target"), tensors, LOSSES[op].integers, mask)
    check_reduction(function, reduction, batch_dims, "logits", logits)
    if not checks.is_int(event_dims):
        raise TypeError(
            f"{function}: event_dims is of type {type(event_dims).__name__}, expected int"
        )
    if not 0 <= event_dims <= target.dim():
        raise ValueError(
            f"{function}: event_dims is {event_dims}, expected 0 to {target.dim()}, the number of "
            f"dimensions of target"
        )
    if logits.shape[batch_dims] == 0:
        raise ValueError(
            f"{function}: logits has shape {checks.shown(logits.shape)}, expected at least one "
            f"component along dimension {batch_dims}"
        )
    event = tuple(target.shape[target.dim() - event_dims :])
    positions = (*logits.shape[:batch_dims], *logits.shape[batch_dims + 1 :])
    check_target(function, target, positions + event, batch_dims)
    for name, parameter in zip(names, parameters, strict=True):
        check_fits(function, name, parameter, (*logits.shape, *event))
    if mask is not None:
        check_fits(function, "mask", mask, positions + event)


# ---- what every mixture asks of its arguments ----------------------------------------------------


def keep_and_mean_of(reduction: str, batch_dims: int, logits: Tensor) -> tuple[int, int]:
    """As an op has them: a mixture's value has the dimensions of its logits but the components'."""
    keep, mean = keep_and_mean(reduction, batch_dims, logits)
    dims = logits.dim() - 1
    return min(keep, dims), min(mean, dims)


def check(
    function: str, names: Sequence[str], tensors: Sequence[Tensor], integers: Dtypes, mask: Any
) -> None:
    """Types, dtypes and devices of a mixture's tensors, of which the last is the target.

    Raises:
        TypeError: An argument is no tensor, or has a dtype that it must not have.
        ValueError: It lies on another device than the first one.
    """
    for name, tensor in zip(names, tensors, strict=True):
        dtypes = (*checks.FLOATS, *integers) if name == "target" else checks.FLOATS
        _check_tensor(function, name, tensor, dtypes, names[0], tensors[0])
    if mask is not None:
        _check_tensor(function, "mask", mask, (torch.bool,), names[0], tensors[0])


def _check_tensor(
    function: str, name: str, tensor: Tensor, dtypes: Dtypes, first_name: str, first: Tensor
) -> None:
    checks.check_tensor(function, name, tensor)
    checks.check_kind(function, name, tensor, dtypes, first_name, first)


def check_reduction(function: str, reduction: Any, batch_dims: Any, name: str, x: Tensor) -> None:
    """``reduction`` and ``batch_dims`` of a tensor with a dimension behind the batch's.

    Raises:
        TypeError: One of them has a wrong type.
        ValueError: An unknown reduction, or no dimension is left.
    """
    checks.check_public_reduction(function, reduction, batch_dims, (x,))
    if batch_dims >= x.dim():
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected less than {x.dim()}, the number of "
            f"dimensions of {name}: the next one are the components"
        )


def check_target(function: str, target: Tensor, whole: Sequence[int], batch_dims: int) -> None:
    """Raises ValueError unless it has that shape, but for leading batch dimensions."""
    leading = len(whole) - target.dim()
    if not (0 <= leading <= batch_dims and same_shape(target.shape, whole[leading:])):
        raise ValueError(
            f"{function}: target has shape {checks.shown(target.shape)}, expected "
            f"{checks.shown(whole)}; only leading batch dimensions may be missing "
            f"(batch_dims is {batch_dims})"
        )


def check_fits(function: str, name: str, x: Tensor, whole: Sequence[int]) -> None:
    """Raises ValueError unless it broadcasts to that shape, and no further."""
    if not fits_into(x.shape, whole):
        raise ValueError(
            f"{function}: {name} has shape {checks.shown(x.shape)}, expected one that broadcasts "
            f"to {checks.shown(whole)}"
        )


# ---- in plain PyTorch ----------------------------------------------------------------------------


def mix(logits: Tensor, costs: Callable[[Tensor | None], Tensor], dim: int) -> Tensor:
    """-log sum_k softmax(logits)_k exp(-cost_k) along a dimension, in plain PyTorch.

    A component that is excluded (a logit of -infinity) or impossible (an infinite cost) has no
    share and no gradient; where all are, the value is infinite and has none.

    Args:
        logits: (*batch, K, *rest), in the arithmetic's dtype.
        costs: Of the components that a mask of that shape selects, 0 of the others, whose
            gradients are 0; None: of all of them.
        dim: Of the components.
    """
    is_excluded = logits.detach() == -math.inf
    with torch.no_grad():
        is_void = is_excluded | (costs(None) == math.inf)
    each = costs(~is_void)
    nobody = is_excluded.all(dim, keepdim=True)
    prior = torch.log_softmax(torch.where(nobody, 0, logits), dim)
    scores = torch.where(is_void, -math.inf, prior - each)
    is_impossible = is_void.all(dim)
    scores = torch.where(is_impossible.unsqueeze(dim), 0, scores)
    return torch.where(is_impossible, math.inf, -torch.logsumexp(scores, dim))


def _elementwise(
    op: str,
    operands: Sequence[Tensor],
    mask: Tensor | None,
    numbers: Sequence[int],
) -> Tensor:
    """The mixture of the likelihood ``op``, composed.

    Args:
        op: Of its function.
        operands: The logits, the parameters, the target: see :func:`vae_fast.mixture_nll`.
        mask: Which elements of the target count.
        numbers: Batch dimensions, event dimensions, keep and mean.
    """
    batch_dims, event_dims, keep, mean = numbers
    logits, *parameters, target = operands
    dtype = arithmetic_dtype(operands)
    shape = logits.shape + target.shape[target.dim() - event_dims :]
    elements = shape[:batch_dims] + shape[batch_dims + 1 :]
    first, *others = (x.to(dtype) for x in parameters)
    logits, counted, own = logits.to(dtype), None, None
    if mask is not None:
        own = mask.expand(elements)
        counted = own.flatten(own.dim() - event_dims).any(-1) if event_dims else own
        logits = torch.where(counted.unsqueeze(batch_dims), logits, 0)  # which may be NaN

    def of_components(x: Tensor) -> Tensor:
        return x.expand(elements).unsqueeze(batch_dims).expand(shape)

    def costs(selected: Tensor | None) -> Tensor:
        every = None if own is None else of_components(own)
        if selected is not None:
            chosen = selected[(..., *[None] * event_dims)].expand(shape)
            every = chosen if every is None else every & chosen
        each = (first.expand(shape), *others, of_components(target))
        value = call.loss(op, op, each, every, 0, "none")
        return value.sum(tuple(range(-event_dims, 0))) if event_dims else value

    value = mix(logits, costs, batch_dims)
    return reduce(value if counted is None else torch.where(counted, value, 0), keep, mean)


@cache
def _enter_elementwise(op: str) -> None:
    """Makes the composition of a mixture of the likelihood ``op`` known."""

    def compose(tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor:
        *operands, mask = tensors
        _, *others = numbers  # how many components, the logits say
        return _elementwise(op, [x for x in operands if x is not None], mask, others)

    enter_composition(f"mixture_nll of {op}", compose)
