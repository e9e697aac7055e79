"""The decoder's last linear layer fused with its likelihood: its output is never all there."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast import checks, reference
from vae_fast._extension import C, use_reference
from vae_fast.functional import LIKELIHOODS, Reduction, keep_and_mean

__all__ = ["linear_nll"]

_kernels: Any = C
# The likelihoods whose first parameter a linear layer gives, with their ops.
_OPS = {
    "bernoulli": "bernoulli_nll",
    "gaussian": "gaussian_nll",
    "multinomial": "multinomial_nll",
}


def _check(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    logvar: Tensor | float,
    mask: Tensor | None,
    likelihood: str,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is."""
    function = "linear_nll"
    checks.check_linear(function, h, weight, bias, target)
    checks.check_likelihood(function, likelihood, _OPS)
    checks.check_public_reduction(function, reduction, h.dim() - 1, (target, mask))
    if not checks.is_number(logvar):
        checks.check_tensor(function, "logvar", logvar)
        assert isinstance(logvar, Tensor)
        if logvar.shape not in ((), weight.shape[:1]):
            raise ValueError(
                f"{function}: logvar has shape {tuple(logvar.shape)}, expected () or "
                f"{tuple(weight.shape[:1])}"
            )
    if mask is not None and likelihood == "multinomial":
        raise ValueError(f"{function}: mask is given, which 'multinomial' does not have")
    checks.check_operands(function, ("target",), (target,), mask)


def _logvar_of(likelihood: str, logvar: Tensor | float, h: Tensor, target: Tensor) -> Tensor | None:
    """As a tensor, in the dtype of the arithmetic; None for a likelihood that has none."""
    if likelihood != "gaussian":
        if not isinstance(logvar, float) or logvar != 0.0:
            raise ValueError(f"linear_nll: logvar is given, which {likelihood!r} does not have")
        return None
    if isinstance(logvar, Tensor):
        return logvar
    dtype = reference.arithmetic_dtype((h, target))
    return torch.full((), float(logvar), dtype=dtype, device=h.device)


def _in_two_steps(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    logvar: Tensor | None,
    mask: Tensor | None,
    likelihood: str,
    reduction: Reduction,
) -> Tensor:
    """Through all of the layer's output."""
    output = functional.linear(h, weight, bias)
    others = () if logvar is None else (logvar,)
    settings: dict[str, Any] = {"batch_dims": h.dim() - 1, "reduction": reduction}
    return LIKELIHOODS[likelihood](output, target, *others, mask=mask, **settings)


def _as_autocast_has_it(x: Any) -> Any:
    """A linear layer's input or parameter, in the dtype that torch.autocast computes in."""
    if not isinstance(x, Tensor) or x.dtype == torch.float64:
        return x
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


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
    again in the backward. In half precision the chunks are computed, summed and scaled in float32,
    and rounded once, to the gradients.

    It is computed in two steps under ``torch.compile``, ``torch.func`` and forward-mode AD, for
    tensor subclasses and a target that requires a gradient, on devices without kernels, for
    ``reduction="none"`` and where the output is a single chunk (1.5 MB and 256 features at least,
    or 10 MB and 32 rows); on a GPU where it has less than 256 MB, or half precision.

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
    try:
        is_compiling = torch.compiler.is_compiling()
        if is_compiling or reduction == "none" or use_reference(h.device.type):
            _check(h, weight, bias, target, logvar, mask, likelihood, reduction)
            variance = _logvar_of(likelihood, logvar, h, target)
            return _in_two_steps(h, weight, bias, target, variance, mask, likelihood, reduction)
        variance = _logvar_of(likelihood, logvar, h, target)
        keep, mean = keep_and_mean(reduction, h.dim() - 1, target)
        op = _OPS[likelihood]
        value: Tensor = _kernels.linear_nll(h, weight, bias, target, variance, mask, op, keep, mean)
        return value
    except Exception:
        _check(h, weight, bias, target, logvar, mask, likelihood, reduction)
        raise
