"""The decoder's last linear layer fused with its likelihood: its output is never all there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function

from vae_fast.engine import call, checks, extension
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.dtypes import is_autocast
from vae_fast.engine.reductions import Reduction, keep_and_mean
from vae_fast.engine.table import LIKELIHOODS, LOSSES

__all__ = ["linear_nll"]


def _op_of(likelihood: str) -> str:
    """What computes the likelihood from a layer's output; an error that :func:`_check` explains."""
    op = LIKELIHOODS[likelihood].op
    if op is None:
        raise KeyError(likelihood)
    return op


def _check_layer(function: str, h: Any, weight: Any, bias: Any, target: Any) -> None:
    """A linear layer's input and parameters, and a target for each of its outputs."""
    for name, value in (("h", h), ("weight", weight), ("target", target)):
        checks.check_tensor(function, name, value)
    if weight.dim() != 2 or h.dim() < 1 or h.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{function}: weight has shape {shown(weight.shape)}, expected (out, in) with in the "
            f"last size of h {shown(h.shape)}"
        )
    layer = [("h", h), ("weight", weight)]
    if bias is not None:
        checks.check_tensor(function, "bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{function}: bias has shape {shown(bias.shape)}, expected "
                f"{shown(weight.shape[:1])}"
            )
        layer.append(("bias", bias))
    for name, value in layer:
        if value.dtype not in FLOATS:
            raise TypeError(
                f"{function}: {name} has dtype {value.dtype}, expected {checks.names_of(FLOATS)}"
            )
    for name, value in layer:
        if value.dtype != weight.dtype:
            raise TypeError(f"{function}: {name} has dtype {value.dtype}, expected {weight.dtype}")
        if value.device != h.device:
            raise ValueError(f"{function}: {name} is on {value.device}, expected {h.device} like h")
    if target.device != h.device:
        raise ValueError(f"{function}: target is on {target.device}, expected {h.device} like h")
    if target.shape != (*h.shape[:-1], weight.shape[0]):
        raise ValueError(
            f"{function}: target has shape {shown(target.shape)}, expected "
            f"{shown((*h.shape[:-1], weight.shape[0]))}"
        )


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
    _check_layer(function, h, weight, bias, target)
    choices = [name for name, entry in LIKELIHOODS.items() if entry.op is not None]
    checks.check_likelihood(function, likelihood, choices)
    if mask is not None:
        checks.check_tensor(function, "mask", mask)
    checks.check_public_reduction(function, reduction, h.dim() - 1, (target, mask))
    if not checks.is_number(logvar):
        checks.check_tensor(function, "logvar", logvar)
        assert isinstance(logvar, Tensor)
        if logvar.shape not in ((), weight.shape[:1]):
            raise ValueError(
                f"{function}: logvar has shape {tuple(logvar.shape)}, expected () or "
                f"{tuple(weight.shape[:1])}"
            )
    entry = LIKELIHOODS[likelihood]
    entry.masked(function, likelihood, mask)
    assert entry.op is not None
    integers = LOSSES[entry.op].integers
    checks.check_operands(function, ("target",), (target,), mask, integers)
    checks.check_shapes(function, ("target",), (target,), mask, h.dim() - 1)


def _logvar_of(
    likelihood: str, op: str, logvar: Tensor | float, h: Tensor, target: Tensor
) -> Tensor | None:
    """As a tensor, in the dtype of the arithmetic; None for a likelihood that has none."""
    if len(LOSSES[op].operands) == 2:
        if not isinstance(logvar, float) or logvar != 0.0:
            raise ValueError(f"linear_nll: logvar is given, which {likelihood!r} does not have")
        return None
    if isinstance(logvar, Tensor) and logvar.dtype not in FLOATS:
        raise TypeError(
            f"linear_nll: logvar has dtype {logvar.dtype}, expected {checks.names_of(FLOATS)}"
        )
    return call.as_tensor(logvar, h, target)


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
    entry = LIKELIHOODS[likelihood]
    settings = entry.masked("linear_nll", likelihood, mask)
    settings |= {"batch_dims": h.dim() - 1, "reduction": reduction}
    return entry.function(output, target, *others, **settings)


def _as_autocast_has_it(x: Any) -> Any:
    """A linear layer's input or parameter, in the dtype that torch.autocast computes in."""
    if not isinstance(x, Tensor) or x.dtype == torch.float64:
        return x
    device = x.device.type
    if not is_autocast(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


def linear_nll(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    logvar: Tensor | float = 0.0,
    *,
    likelihood: str = "bernoulli",
    mask: Tensor | None = None,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a linear layer's output, in nats, without that output in memory.

    ``bernoulli_nll(h @ weight.T + bias, target)``, or another likelihood of it, in chunks of
    features that stay in the cache, or of rows of 10 MB where a row's elements hang together: the
    matrix products are the same, what is saved is the memory of (batch, out) outputs and gradients.
    It is as fast as the two steps, and faster where such an output is above 32 MB. Beside the
    gradients it keeps a few million bytes, whatever (batch, out) is: 4 MB, with the multinomial
    11.5, at 512 x (128 -> 20000) in float32.

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
        logvar: The likelihood's second parameter, where it has one, as a Gaussian has: a number, a
            tensor without dimensions, or (out,).
        likelihood: As in :func:`vae_fast.elbo_loss`, of those whose first parameter (logits, a
            mean) a linear layer gives.
        mask: bool, broadcasts with target; see the likelihood, which may take none.
        reduction: See :mod:`vae_fast`; all dimensions but the last are batch.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: Shapes or devices that do not fit, an unknown likelihood or reduction.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> h, weight, bias = torch.ones(2, 4), torch.zeros(6, 4), torch.zeros(6)
        >>> x = torch.rand(2, 6)
        >>> vf.linear_nll(h, weight, bias, x)  # 6 log 2
        tensor(4.1589)
        >>> vf.bernoulli_nll(torch.nn.functional.linear(h, weight, bias), x)
        tensor(4.1589)
    """
    h, weight, bias = (_as_autocast_has_it(x) for x in (h, weight, bias))
    try:
        is_compiling = torch.compiler.is_compiling()
        in_two_steps = is_compiling or reduction == "none" or extension.use_reference(h.device.type)
        if in_two_steps:
            _check(h, weight, bias, target, logvar, mask, likelihood, reduction)
        op = _op_of(likelihood)
        variance = _logvar_of(likelihood, op, logvar, h, target)
        if in_two_steps:
            return _in_two_steps(h, weight, bias, target, variance, mask, likelihood, reduction)
        keep, mean = keep_and_mean(reduction, h.dim() - 1, target)
        value: Tensor | None = extension.kernels.linear_nll(
            h, weight, bias, target, variance, mask, op, keep, mean
        )
        if value is None:  # a tensor's class or a mode is to be asked, which may leave it as it is
            value = handle_torch_function(
                linear_nll,
                (h, weight, bias, target, logvar, mask),
                h,
                weight,
                bias,
                target,
                logvar,
                likelihood=likelihood,
                mask=mask,
                reduction=reduction,
            )
        return value
    except Exception:
        _check(h, weight, bias, target, logvar, mask, likelihood, reduction)
        raise
