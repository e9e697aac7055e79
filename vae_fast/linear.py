"""The decoder's last linear layer fused with its likelihood: its output is never all there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast import checks
from vae_fast._extension import use_reference
from vae_fast.chunked import ByFeatures, ByRows, Problem
from vae_fast.functional import LIKELIHOODS, Reduction
from vae_fast.upstream import scaled

__all__ = ["linear_nll"]

# How each likelihood is divided whose first parameter a linear layer gives.
_CHUNKED: dict[str, type[ByFeatures] | type[ByRows]] = {
    "bernoulli": ByFeatures,
    "gaussian": ByFeatures,
    "multinomial": ByRows,
}


def _plain(problem: Problem, likelihood: str, reduction: Reduction, mask: Tensor | None) -> Tensor:
    """The same in two steps, through all of the layer's output."""
    output = functional.linear(problem.h, problem.weight, problem.bias)
    others = () if problem.logvar is None else (problem.logvar,)
    return LIKELIHOODS[likelihood](output, problem.target, *others, mask=mask, reduction=reduction)


def _logvar_of(likelihood: str, logvar: Tensor | float, h: Tensor, weight: Tensor) -> Tensor | None:
    """As a tensor, for the likelihood that has one."""
    if likelihood != "gaussian":
        if not isinstance(logvar, float) or logvar != 0.0:
            raise ValueError(f"linear_nll: logvar is given, which {likelihood!r} does not have")
        return None
    if isinstance(logvar, (int, float)):
        return torch.full((), logvar, dtype=h.dtype, device=h.device)
    checks.check_tensor("linear_nll", "logvar", logvar)
    if logvar.shape not in ((), weight.shape[:1]):
        raise ValueError(
            f"linear_nll: logvar has shape {tuple(logvar.shape)}, expected () or "
            f"{tuple(weight.shape[:1])}"
        )
    return logvar


class _LinearNll(torch.autograd.Function):
    """The sum over everything makes its gradients in the forward, to be scaled in the backward.

    Over the batch it is divided first, so that the upstream gradient is mostly one, and there is
    nothing to scale.

    The sums of rows have an upstream gradient each, which cannot be applied to what was summed
    over rows: their backward makes the chunks again.
    """

    @staticmethod
    def forward(ctx: Any, likelihood: str, reduction: Reduction, *inputs: Tensor | None) -> Tensor:
        problem = _CHUNKED[likelihood](*inputs)  # type: ignore[arg-type]
        ctx.save_for_backward(*inputs)
        ctx.likelihood, ctx.reduction, ctx.gradients = likelihood, reduction, None
        wanted, mean = ctx.needs_input_grad[2:6], reduction == "batchmean"
        if reduction == "sample":
            return problem.values()
        if not any(wanted):
            return problem.values().sum() / (len(problem.h) if mean else 1)
        value, ctx.gradients = problem.sum_and_gradients(wanted, mean=mean)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        problem = _CHUNKED[ctx.likelihood](*ctx.saved_tensors)
        wanted = ctx.needs_input_grad[2:6]
        # Handed out once, and forgotten: the engine may add to them. A second backward makes them
        # anew.
        gradients, ctx.gradients = ctx.gradients, None
        if torch.is_grad_enabled():
            value = _plain(problem, ctx.likelihood, ctx.reduction, problem.mask)
            gradients = _differentiable_gradients(value, problem, wanted, upstream)
        elif gradients is None:
            rows = len(problem.h)
            of_rows = upstream / rows if ctx.reduction == "batchmean" else upstream
            _, gradients = problem.sum_and_gradients(wanted, of_rows.expand(rows).unsqueeze(1))
        else:
            gradients = [None if x is None else scaled(x, upstream) for x in gradients]
        return (None, None, *gradients, None, None)


# Some releases of torch say nothing of its type.
_fused = cast(Callable[..., Tensor], _LinearNll.apply)


def _differentiable_gradients(
    value: Tensor, problem: Problem, wanted: tuple[bool, ...], upstream: Tensor
) -> list[Tensor | None]:
    pairs = list(zip(problem.differentiable, wanted, strict=True))
    inputs = [x for x, want in pairs if want and x is not None]
    found = iter(torch.autograd.grad(value, inputs, upstream, create_graph=True))
    return [next(found) if want else None for _, want in pairs]


def _as_autocast_has_it(x: Any) -> Any:
    """A linear layer's input or parameter, in the dtype that torch.autocast computes in."""
    if not isinstance(x, Tensor) or not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def linear_nll(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    logvar: Tensor | float = 0.0,
    *,
    likelihood: Literal["bernoulli", "gaussian", "multinomial"] = "bernoulli",
    mask: Tensor | None = None,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a linear layer's output, in nats, without that output in memory.

    ``bernoulli_nll(h @ weight.T + bias, target)``, or ``gaussian_nll`` of it, in chunks of features
    that stay in the cache, or ``multinomial_nll``, in chunks of rows of 10 MB: the matrix products
    are the same, what is saved is the memory of (batch, out) outputs and gradients. It is as fast
    as the two steps, and faster where such an output is above 32 MB.

    Where everything is summed the gradients are made in the forward; ``"sample"`` makes each chunk
    again in the backward.

    Under ``torch.compile``, on devices without kernels, for ``reduction="none"`` and where the
    output is a single chunk (1.5 MB and 256 features at least, or 10 MB and 32 rows; on a GPU
    256 MB), it is computed in two steps.

    Args:
        h: (*batch, in), the last hidden layer.
        weight: (out, in), as in ``torch.nn.Linear``.
        bias: (out,), or None.
        target: (*batch, out); see the likelihood.
        logvar: Of the gaussian likelihood: a number, a tensor without dimensions, or (out,).
        likelihood: ``"bernoulli"`` (the output are logits), ``"gaussian"`` (means) or
            ``"multinomial"`` (logits).
        mask: bool, broadcasts with target; see :func:`vae_fast.bernoulli_nll`. Not of the
            multinomial likelihood.
        reduction: See :mod:`vae_fast.functional`; all dimensions but the last are batch.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: Shapes or devices that do not fit, an unknown likelihood or reduction.
    """
    h, weight, bias = (_as_autocast_has_it(x) for x in (h, weight, bias))
    checks.check_linear("linear_nll", h, weight, bias, target)
    checks.check_likelihood("linear_nll", likelihood, _CHUNKED)
    checks.check_public_reduction("linear_nll", reduction, h.dim() - 1, (target, mask))
    variance = _logvar_of(likelihood, logvar, h, weight)
    batch, features = h.shape[:-1], len(weight)
    rows = h.reshape(-1, h.shape[-1])
    flat_mask = None
    if mask is not None and likelihood == "multinomial":
        raise ValueError("linear_nll: mask is given, which 'multinomial' does not have")
    if mask is not None:
        checks.check_operands("linear_nll", ("target",), (target,), mask)
        flat_mask = mask.expand(*batch, features).reshape(-1, features)
    problem = _CHUNKED[likelihood](
        rows, weight, bias, variance, target.reshape(-1, features), flat_mask
    )
    in_two_steps = (
        reduction == "none"
        or target.requires_grad
        or torch.compiler.is_compiling()
        or use_reference(h.device.type)
        or problem.is_one_chunk
    )
    if in_two_steps:
        value = _plain(problem, likelihood, reduction, flat_mask)
    else:
        value = _fused(likelihood, "batchmean" if reduction == "mean" else reduction, *problem)
        value = value / features if reduction == "mean" else value
    shapes = {"none": target.shape, "sample": batch}
    return value.view(shapes.get(reduction, ()))
