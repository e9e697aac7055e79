"""The decoder's last linear layer fused with its likelihood: its output is never all there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast import checks
from vae_fast._extension import use_reference
from vae_fast.functional import LIKELIHOODS, Reduction

__all__ = ["linear_nll"]

# Of a chunk of the layer's output, which then stays in the cache with its gradient.
_CHUNK_BYTES = 2 << 20
# Below these, matrix products are slow.
_LEAST_FEATURES = 256
# The op of each likelihood whose first parameter a linear layer gives.
_OPS = {"bernoulli": "bernoulli_nll", "gaussian": "gaussian_nll"}


def _features_of_chunk(h: Tensor) -> int:
    row_bytes = h.element_size() * max(1, len(h))
    return max(_LEAST_FEATURES, _CHUNK_BYTES // row_bytes // 64 * 64)


class _Problem(NamedTuple):
    """What the loss is of. The linear layer's inputs, then what else the likelihood takes."""

    h: Tensor  # (rows, in)
    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)
    logvar: Tensor | None  # () or (out,)
    target: Tensor  # (rows, out)
    mask: Tensor | None  # (rows or 1, out or 1)

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        return self[:4]

    @property
    def op(self) -> Any:
        name = "bernoulli_nll" if self.logvar is None else "gaussian_nll"
        return getattr(torch.ops.vae_fast, name)

    def chunks(self) -> Iterator[tuple[slice, _Problem]]:
        """The problem in parts of neighbouring features."""
        features = len(self.weight)
        width = _features_of_chunk(self.h)
        for start in range(0, features, width):
            own = slice(start, min(features, start + width))
            logvar, mask = self.logvar, self.mask
            yield (
                own,
                _Problem(
                    self.h,
                    self.weight[own],
                    None if self.bias is None else self.bias[own],
                    logvar[own] if logvar is not None and logvar.dim() else logvar,
                    self.target[:, own],
                    mask[:, own] if mask is not None and mask.shape[1] > 1 else mask,
                ),
            )

    def evaluate(self, keep: int, mean: int, want: int) -> tuple[Tensor, ...]:
        """The op on the layer's output: the value summed over all dimensions from ``keep`` on.

        It is divided by the number of rows where ``mean`` is 1.
        """
        output = functional.linear(self.h, self.weight, self.bias)
        others = () if self.logvar is None else (self.logvar,)
        results: tuple[Tensor, ...] = self.op(
            output, *others, self.target, self.mask, keep, mean, want
        )
        return results

    def values(self) -> Tensor:
        """The sum of each row."""
        total = torch.zeros((), device=self.h.device)
        for _, part in self.chunks():
            total = total + part.evaluate(1, 0, 0)[0]
        return total

    def sum_and_gradients(
        self, wanted: tuple[bool, ...], of_rows: Tensor | None = None, *, mean: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The sum over everything (nothing else, with ``of_rows``), and gradients.

        Args:
            wanted: of which of the differentiable ones.
            of_rows: (rows, 1), what each row's sum is weighed with.
            mean: whether the sum is divided by the number of rows.
        """
        gradients = [
            torch.empty_like(x) if x is not None and want else None
            for x, want in zip(self.differentiable, wanted, strict=True)
        ]
        in_h, in_weight, in_bias, in_logvar = gradients
        # What every chunk adds to; each of the others writes its own part.
        for shared in (in_h, in_logvar):
            if shared is not None:
                shared.zero_()
        total = torch.zeros((), device=self.h.device)
        want = 1 | (in_logvar is not None) << 1
        for own, part in self.chunks():
            keep = 0 if of_rows is None else 1
            value, in_output, *others = part.evaluate(keep, int(mean), want)
            if of_rows is None:
                total = total + value
            if of_rows is not None:
                in_output.mul_(of_rows)
            if in_h is not None:
                in_h.addmm_(in_output, part.weight)
            if in_weight is not None:
                torch.mm(in_output.t(), self.h, out=in_weight[own])
            if in_bias is not None:
                torch.sum(in_output, 0, out=in_bias[own])
            if in_logvar is not None:
                in_part = others[0] if of_rows is None else (others[0] * of_rows).sum(0)
                if in_logvar.dim():
                    in_logvar[own] = in_part.view(-1)
                else:
                    in_logvar.add_(in_part.sum())
        return total, gradients


def _plain(problem: _Problem, likelihood: str, reduction: Reduction, mask: Tensor | None) -> Tensor:
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
    def forward(ctx: Any, reduction: Reduction, *inputs: Tensor | None) -> Tensor:
        problem = _Problem(*inputs)  # type: ignore[arg-type]
        ctx.save_for_backward(*inputs)
        ctx.reduction, ctx.gradients = reduction, None
        wanted, mean = ctx.needs_input_grad[1:5], reduction == "batchmean"
        if reduction == "sample":
            return problem.values()
        if not any(wanted):
            return problem.values().sum() / (len(problem.h) if mean else 1)
        value, ctx.gradients = problem.sum_and_gradients(wanted, mean=mean)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        problem = _Problem(*ctx.saved_tensors)
        wanted = ctx.needs_input_grad[1:5]
        # Handed out once, and forgotten: the engine may add to them. A second backward makes them
        # anew.
        gradients, ctx.gradients = ctx.gradients, None
        if torch.is_grad_enabled():
            gradients = _differentiable_gradients(problem, ctx.reduction, wanted, upstream)
        elif gradients is None:
            rows = len(problem.h)
            of_rows = upstream / rows if ctx.reduction == "batchmean" else upstream
            _, gradients = problem.sum_and_gradients(wanted, of_rows.expand(rows).unsqueeze(1))
        # On the CPU a look at it waits for nobody.
        elif upstream.device.type != "cpu" or upstream != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(upstream)
        return (None, *gradients, None, None)


# Some releases of torch say nothing of its type.
_fused = cast(Callable[..., Tensor], _LinearNll.apply)


def _differentiable_gradients(
    problem: _Problem, reduction: Reduction, wanted: tuple[bool, ...], upstream: Tensor
) -> list[Tensor | None]:
    likelihood = "bernoulli" if problem.logvar is None else "gaussian"
    value = _plain(problem, likelihood, reduction, problem.mask)
    pairs = list(zip(problem.differentiable, wanted, strict=True))
    inputs = [x for x, want in pairs if want and x is not None]
    found = iter(torch.autograd.grad(value, inputs, upstream, create_graph=True))
    return [next(found) if want else None for _, want in pairs]


def linear_nll(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    logvar: Tensor | float = 0.0,
    *,
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    mask: Tensor | None = None,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a linear layer's output, in nats, without that output in memory.

    ``bernoulli_nll(h @ weight.T + bias, target)``, or ``gaussian_nll`` of it, in chunks of features
    that stay in the cache: the matrix products are the same, what is saved is the memory of
    (batch, out) outputs and gradients. It is as fast as the two steps, and faster where such an
    output is above 32 MB.
    Where everything is summed the gradients are made in the forward; ``"sample"`` makes each chunk
    again in the backward.

    Under ``torch.compile``, on devices without kernels, for ``reduction="none"`` and where the
    output is a single chunk (2 MB, 256 features at least), it is computed in two steps.

    Args:
        h: (*batch, in), the last hidden layer.
        weight: (out, in), as in ``torch.nn.Linear``.
        bias: (out,), or None.
        target: (*batch, out); see the likelihood.
        logvar: Of the gaussian likelihood: a number, a tensor without dimensions, or (out,).
        likelihood: ``"bernoulli"`` (the output are logits) or ``"gaussian"`` (means).
        mask: bool, broadcasts with target; see :func:`vae_fast.bernoulli_nll`.
        reduction: See :mod:`vae_fast.functional`; all dimensions but the last are batch.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: Shapes or devices that do not fit, an unknown likelihood or reduction.
    """
    checks.check_linear("linear_nll", h, weight, bias, target)
    checks.check_likelihood("linear_nll", likelihood, _OPS)
    checks.check_public_reduction("linear_nll", reduction, h.dim() - 1, (target, mask))
    variance = _logvar_of(likelihood, logvar, h, weight)
    if torch.is_autocast_enabled(h.device.type):
        dtype = torch.get_autocast_dtype(h.device.type)
        h, weight = h.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    batch, features = h.shape[:-1], len(weight)
    rows = h.reshape(-1, h.shape[-1])
    flat_mask = None
    if mask is not None:
        checks.check_operands("linear_nll", ("target",), (target,), mask)
        flat_mask = mask.expand(*batch, features).reshape(-1, features)
    problem = _Problem(rows, weight, bias, variance, target.reshape(-1, features), flat_mask)
    in_two_steps = (
        reduction == "none"
        or target.requires_grad
        or torch.compiler.is_compiling()
        or use_reference(h.device.type)
        or features <= _features_of_chunk(rows)
    )
    if in_two_steps:
        value = _plain(problem, likelihood, reduction, flat_mask)
    else:
        value = _fused("batchmean" if reduction == "mean" else reduction, *problem)
        value = value / features if reduction == "mean" else value
    shapes = {"none": target.shape, "sample": batch}
    return value.view(shapes.get(reduction, ()))
