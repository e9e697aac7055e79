"""One random call, and whether it gave the right values and gradients.

The rule, by element: an error of 8 units of the arithmetic's precision (64 in float64, the oracle's
own), relative to the largest sum of absolute terms of the tensor; one rounding where the result is
stored in fewer bits, two for a gradient, which a backward scales; and, where terms are stored
before they are summed, two roundings of each, each of which may overflow. What exceeds that may do
so by as much as the result changes where the operands do in their last bit, and by the error of
PyTorch's own evaluation in the same arithmetic, both times four.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import vae_fast as vf
from tests.cases import REDUCTIONS, reduced
from tests.fuzz import functions
from tests.fuzz.draws import Draws
from tests.fuzz.functions import ELEMENTWISE, Elementwise
from vae_fast import reference


class Result(NamedTuple):
    """Of a call, and of its oracle.

    Attributes:
        ours: values, then the gradients that were asked for.
        exact: computes the same in a dtype, from operands that are changed by so much, relatively;
            and the sums of its absolute terms.
        names: of each.
        said: the call in words.
        arithmetic: the dtype that it computes in.
        stored: the dtype in which each result's terms lie in memory before they are summed.
        largest_upstream: what a gradient is multiplied with, at most.
        elements: of the largest operand.
        of_terms: the sums of absolute terms where they cancel within a formula.
    """

    ours: list[Tensor]
    exact: Callable[[torch.dtype, float], tuple[list[Tensor], list[Tensor]]]
    names: list[str]
    said: str
    arithmetic: torch.dtype
    stored: list[torch.dtype | None]
    largest_upstream: float
    elements: int
    of_terms: float = 0.0


def _ulp(x: Tensor, dtype: torch.dtype) -> Tensor:
    info = torch.finfo(dtype)
    size = x.abs().clamp(info.tiny, info.max).nan_to_num(nan=0.0)
    exponent = torch.frexp(size).exponent
    return info.eps * torch.exp2(exponent.double() - 1)


def _error(actual: Tensor, expected: Tensor) -> Tensor:
    """|actual - expected|; 0 for an infinity where the dtype holds no more, or expected ones."""
    info, actual = torch.finfo(actual.dtype), actual.detach().double()
    overflows = actual.isinf() & (actual.sign() * expected >= info.max * (1 - 4 * info.eps))
    same = overflows | (actual == expected) | (actual.isnan() & expected.isnan())
    return torch.where(same, 0, (actual - expected).abs()).nan_to_num(nan=math.inf)


def _largest(x: Tensor) -> float:
    finite = x[x.isfinite()].abs()
    return finite.max().item() if finite.numel() else 0.0


def verdict(result: Result) -> str | None:
    """None where everything is right; else what is not."""
    exact, sizes = result.exact(torch.float64, 0.0)
    eps = torch.finfo(result.arithmetic).eps
    # The oracle has no more digits: its sums, and its differences of exponentials.
    is_double = result.arithmetic == torch.float64
    of_the_oracle = 64 * eps * (1 + result.largest_upstream) if is_double else 0.0
    others: list[list[Tensor]] = []
    for k, (name, ours) in enumerate(zip(result.names, result.ours, strict=True)):
        if ours.shape != exact[k].shape:
            return f"{name} has shape {tuple(ours.shape)}, expected {tuple(exact[k].shape)}"
        error = _error(ours, exact[k])
        roundings = 1 if name.startswith("value") else 2
        size = max(_largest(sizes[k]), result.of_terms)
        allowed = (64 if is_double else 8) * eps * size + roundings * _ulp(exact[k], ours.dtype)
        allowed = allowed + of_the_oracle * max(1, result.elements // max(1, ours.numel()))
        stored = result.stored[k]
        if stored is not None:
            info = torch.finfo(stored)
            allowed = allowed + 2 * info.eps * sizes[k].nan_to_num()
            error = torch.where(~ours.isfinite() & (sizes[k] > info.max), 0, error)
        if (error <= allowed).all():
            continue
        if not others:
            others = [result.exact(result.arithmetic, 0.0)[0], result.exact(torch.float64, eps)[0]]
        slack = 4 * sum(_largest(other[k] - exact[k]) for other in others)
        wrong = error > allowed + slack
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            return (
                f"{name}{list(at)} is {ours[at].item()!r}, expected {exact[k][at].item()!r} "
                f"within {(allowed + slack)[at].item():.3g}"
            )
    return None


# ---- losses by element ---------------------------------------------------------------------------


def _operands(draws: Draws, f: Elementwise, least_dims: int) -> tuple[list[Any], int]:
    """Tensors and numbers, and the batch dimensions."""
    shape = draws.shape(least_dims)
    highest = len(shape) - (1 if f.target is None else 0)
    batch_dims = draws.rng.randint(0, highest)
    dtypes = draws.dtypes(len(f.names))
    scale = draws.scale()
    operands: list[Any] = []
    for k in range(len(f.names)):
        if k in f.numbers and draws.chance(0.2):
            operands.append(draws.rng.choice((0.0, -1.7, 0.3)))
            continue
        own = shape
        if k == f.target:
            own = shape[draws.rng.randint(0, batch_dims) if draws.chance(0.2) else 0 :]
        elif k > 0:
            own = draws.broadcasting(shape)
        if k == f.target and f.bytes_mean is not None and draws.chance(0.15):
            x = torch.randint(0, 256, own, dtype=torch.uint8)
            operands.append(draws.strided(x > 127 if draws.chance(0.3) else x))
            continue
        x = draws.values(own, k in f.is_probability, scale).to(dtypes[k])
        operands.append(draws.strided(x))
    return operands, batch_dims


def _leaves(draws: Draws, operands: Sequence[Any]) -> list[Any]:
    wanted = draws.subset(len(operands))
    return [
        x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() and w else x
        for x, w in zip(operands, wanted, strict=True)
    ]


def _gradients(
    values: Sequence[Tensor], operands: Sequence[Any], draws: Draws
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The leaves, what comes from upstream for each value, and the leaves' gradients."""
    leaves = [x for x in operands if isinstance(x, Tensor) and x.requires_grad]
    upstream = [draws.upstream(value) for value in values]
    reached = [(v, u) for v, u in zip(values, upstream, strict=True) if v.requires_grad]
    if not leaves:
        assert not reached, "a value requires a gradient of operands that do not"
        return leaves, upstream, []
    gradients = torch.autograd.grad(
        [v for v, _ in reached],
        leaves,
        [u for _, u in reached],
        allow_unused=True,
        materialize_grads=True,
    )
    for x, gradient in zip(leaves, gradients, strict=True):
        assert gradient.dtype == x.dtype, f"a gradient is {gradient.dtype} for {x.dtype}"
    return leaves, upstream, list(gradients)


def _said(name: str, operands: Sequence[Any], **options: Any) -> str:
    def one(x: Any) -> str:
        if not isinstance(x, Tensor):
            return repr(x)
        grad = " grad" if x.requires_grad else ""
        return f"{str(x.dtype)[6:]}{tuple(x.shape)}/{x.stride()}{grad}"

    given = [one(x) for x in operands] + [f"{k}={one(v)}" for k, v in options.items()]
    return f"{name}({', '.join(given)})"


def _as_numbers(x: Any, dtype: torch.dtype, change: float, bytes_mean: float | None) -> Tensor:
    """An operand in another dtype, its numbers changed by so much relatively, up or down."""
    if not isinstance(x, Tensor):
        return torch.tensor(x, dtype=dtype)
    divided = bytes_mean if x.dtype == torch.uint8 and bytes_mean else 1.0
    wide = x.detach().to(dtype) / divided
    return wide if change == 0.0 else wide * (1 + change * torch.randn_like(wide).sign())


def _summed_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.sum_to_size(tuple(shape))


def elementwise(draws: Draws, f: Elementwise) -> Result:
    operands, batch_dims = _operands(draws, f, least_dims=1 if f.target is None else 0)
    operands = _leaves(draws, operands)
    reduction = draws.rng.choice(REDUCTIONS)
    options: dict[str, Any] = {"batch_dims": batch_dims, "reduction": reduction}
    shape = operands[0].shape
    if f.has_mask and draws.chance(0.25):
        options["mask"] = draws.mask(tuple(shape))
    value = f.call(*operands, **options)
    leaves, upstream, gradients = _gradients([value], operands, draws)
    tensors = [x for x in operands if isinstance(x, Tensor)]
    mask = options.get("mask")

    def exact(dtype: torch.dtype, change: float) -> tuple[list[Tensor], list[Tensor]]:
        wide = [_as_numbers(x, dtype, change, f.bytes_mean).expand(shape) for x in operands]
        own = [x.clone().requires_grad_() for x in wide]
        each = f.formula(*own)
        if mask is not None:
            each = torch.where(mask, each, 0)
        result = reduced(each, reduction, batch_dims)
        size = reduced(each.detach().abs(), reduction, batch_dims)
        found = torch.autograd.grad(result, own, upstream[0].to(dtype))
        pairs = [
            (g, x)
            for g, x in zip(found, operands, strict=True)
            if isinstance(x, Tensor) and x.requires_grad
        ]
        return (
            [result.detach().double(), *(_summed_to(g, x.shape).double() for g, x in pairs)],
            [size.double(), *(_summed_to(g.abs(), x.shape).double() for g, x in pairs)],
        )

    return Result(
        [value, *gradients],
        exact,
        ["value", *(f"gradient {k}" for k in range(len(gradients)))],
        _said(f.name, operands, **options),
        reference.arithmetic_dtype(tensors),
        [None, *(x.dtype if x.shape != shape else None for x in leaves)],
        _largest(upstream[0]),
        shape.numel(),
    )


# ---- the others ----------------------------------------------------------------------------------


def _compared(
    draws: Draws,
    values: Sequence[Tensor],
    operands: Sequence[Tensor],
    formula: Callable[..., Sequence[Tensor]],
    said: str,
    shape: Sequence[int] | None = None,
    stored: torch.dtype | None = None,
    arithmetic: torch.dtype | None = None,
    of_terms: float = 0.0,
) -> Result:
    """Against a formula of the operands, expanded to a shape that they broadcast to."""
    leaves, upstream, gradients = _gradients(values, operands, draws)

    def exact(dtype: torch.dtype, change: float) -> tuple[list[Tensor], list[Tensor]]:
        wide = [_as_numbers(x, dtype, change, None) for x in operands]
        own = [(x if shape is None else x.expand(shape)).clone().requires_grad_() for x in wide]
        results = list(formula(*own))
        found, sizes = [torch.zeros_like(x) for x in own], [torch.zeros_like(x) for x in own]
        for result, factor in zip(results, upstream, strict=True):
            terms = torch.autograd.grad(
                result,
                own,
                factor.to(dtype),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for k, term in enumerate(terms):
                found[k] += term
                sizes[k] += term.abs()
        wanted = [k for k, x in enumerate(operands) if x.requires_grad]
        values_of_it = [x.detach().double() for x in results]

        def summed(gradients: Sequence[Tensor]) -> list[Tensor]:
            return [_summed_to(gradients[k], operands[k].shape).double() for k in wanted]

        return [*values_of_it, *summed(found)], [*(x.abs() for x in values_of_it), *summed(sizes)]

    def stored_in(x: Tensor) -> torch.dtype | None:
        summed = [x.dtype] if shape is not None and x.shape != shape else []
        dtypes = summed if stored is None else [*summed, stored]
        return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=None)

    return Result(
        [*values, *gradients],
        exact,
        [
            *(f"value {k}" for k in range(len(values))),
            *(f"gradient {k}" for k in range(len(gradients))),
        ],
        said,
        arithmetic or reference.arithmetic_dtype(operands),
        [None] * len(values) + [stored_in(x) for x in leaves],
        (largest := max((_largest(x) for x in upstream), default=0.0)),
        max(x.numel() for x in operands),
        of_terms * largest,
    )


def multinomial(draws: Draws) -> Result:
    shape = draws.shape(1)
    if shape[-1] == 0:
        shape = (*shape[:-1], 3)
    dtype = draws.dtypes(1)[0]
    logits = draws.strided(draws.values(shape, False, 3.0).to(dtype))
    target = torch.poisson(torch.full(shape, 0.7)).to(draws.rng.choice((dtype, torch.uint8)))
    if draws.chance(0.15):
        excluded = (torch.rand(shape) < 0.3) & (target == 0)
        excluded[..., 0] = False
        logits = logits.masked_fill(excluded, -math.inf)
    operands = [logits.detach().requires_grad_(draws.chance(0.8)), draws.strided(target)]
    batch_dims = draws.rng.randint(0, len(shape) - 1)
    reduction = draws.rng.choice(REDUCTIONS)
    options: dict[str, Any] = {"batch_dims": batch_dims, "reduction": reduction}
    value = vf.multinomial_nll(*operands, **options)

    def formula(x: Tensor, t: Tensor) -> list[Tensor]:
        return [reduced(functions.log_softmax_nll(x, t), reduction, batch_dims)]

    # A gradient is a row's count times a softmax, less a count.
    divisor = max(1, functions.divisor(shape, reduction, batch_dims))
    terms = _largest(target.double().sum(-1)) / divisor
    said = _said("multinomial_nll", operands, **options)
    return _compared(draws, [value], operands, formula, said, of_terms=terms)


def layer(draws: Draws) -> Result:
    batch = tuple(draws.rng.choice((1, 2, 5, 40)) for _ in range(draws.rng.randint(1, 2)))
    inner, outer = draws.rng.choice((1, 3, 16)), draws.rng.choice((1, 5, 300))
    dtype = draws.rng.choice((torch.float32, torch.float64))
    likelihood = draws.rng.choice(tuple(functions.OF_A_LAYER))
    target = torch.rand((*batch, outer), dtype=torch.float64)
    if likelihood == "multinomial":
        target = torch.poisson(target)
    operands = [
        draws.strided(draws.values((*batch, inner), False, 1.0).to(dtype)),
        draws.strided(draws.values((outer, inner), False, 0.5).to(dtype)),
        draws.strided(draws.values((outer,), False, 0.5).to(dtype)),
        draws.strided(target.to(dtype)),
    ]
    operands = [*_leaves(draws, operands[:3]), operands[3]]
    reduction = draws.rng.choice(REDUCTIONS)
    extra: dict[str, Any] = {}
    if likelihood == "gaussian":
        operands.append(
            draws.values(draws.rng.choice(((), (outer,))), False, 0.5)
            .to(dtype)
            .requires_grad_(draws.chance(0.7))
        )
        extra["logvar"] = operands[4]
    value = vf.linear_nll(*operands[:4], likelihood=likelihood, reduction=reduction, **extra)

    def formula(*own: Tensor) -> list[Tensor]:
        return [functions.layer_nll(own, likelihood, reduction, len(batch))]

    said = _said("linear_nll", operands, likelihood=likelihood, reduction=reduction)
    # Parameters are shared by all elements: each is one term, at least.
    terms = target.numel() / functions.divisor(target.shape, reduction, len(batch))
    return _compared(draws, [value], operands, formula, said, of_terms=terms)


def sampling(draws: Draws) -> Result:
    """z alone, or with its divergence; with a prior, or several samples, at times."""
    shape = draws.shape(1)
    batch_dims = draws.rng.randint(0, len(shape) - 1)
    has_prior = draws.chance(0.4)
    count = 4 if has_prior else 2
    dtypes = draws.dtypes(count)
    shapes = [shape, *(draws.broadcasting(shape) for _ in range(count - 1))]
    operands = _leaves(
        draws,
        [
            draws.strided(draws.values(s, False, 1.0).to(dtype))
            for s, dtype in zip(shapes, dtypes, strict=True)
        ],
    )
    seed = draws.rng.getrandbits(40)
    reduction = draws.rng.choice(REDUCTIONS)
    with_kl = has_prior or draws.chance(0.5)
    samples = draws.rng.choice((None, None, 3))
    # Several samples are a call of their own, which the prior has no part in.
    dtype = reference.arithmetic_dtype(operands if samples is None else operands[:2])
    of_z = shape if samples is None else (samples, *shape)
    eps = functions.standard_noise(of_z, seed, dtype)
    if not with_kl:
        values = [vf.reparameterize(*operands, seed=seed, num_samples=samples)]
    else:
        values = list(
            vf.reparameterize_kl(
                *operands,
                seed=seed,
                num_samples=samples,
                batch_dims=batch_dims,
                reduction=reduction,
            )
        )

    def formula(mu: Tensor, logvar: Tensor, *prior: Tensor) -> list[Tensor]:
        z = functions.sampled(mu, logvar, eps.to(mu.dtype))
        if not with_kl:
            return [z]
        each = functions.divergence(mu, logvar, *prior)
        return [z, reduced(each if samples is None else each[0], reduction, batch_dims)]

    said = _said(
        "reparameterize_kl" if with_kl else "reparameterize",
        operands,
        seed=seed,
        num_samples=samples,
        batch_dims=batch_dims,
        reduction=reduction,
    )
    # The noise is kept for the backward in the dtype of z.
    return _compared(draws, values, operands, formula, said, of_z, values[0].dtype, dtype)


def bound(draws: Draws) -> Result:
    """elbo_loss, with declared samples of z."""
    batch = tuple(draws.rng.choice((1, 2, 5)) for _ in range(draws.rng.randint(1, 2)))
    samples = tuple(draws.rng.choice((1, 3)) for _ in range(draws.rng.randint(0, 2)))
    event, latent = draws.rng.choice(((7,), (2, 3, 4), (130,))), draws.rng.choice((1, 4, 20))
    dtype = draws.rng.choice((torch.float32, torch.float64))
    operands = [
        draws.strided(draws.values((*samples, *batch, *event), False, 2.0).to(dtype)),
        draws.strided(torch.rand((*batch, *event), dtype=torch.float64).to(dtype)),
        draws.strided(draws.values((*batch, latent), False, 1.0).to(dtype)),
        draws.strided(draws.values((*batch, latent), False, 1.0).to(dtype)),
    ]
    operands = _leaves(draws, operands)
    beta = draws.rng.choice((1.0, 0.5, 4.0))
    reduction = draws.rng.choice(REDUCTIONS[1:])
    dims = len(batch)
    values = list(
        vf.elbo_loss(
            *operands, beta=beta, batch_dims=dims, sample_dims=len(samples), reduction=reduction
        )
    )

    def formula(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> list[Tensor]:
        each = ELEMENTWISE[0].formula(logits, x.expand(logits.shape))
        mean = each.mean(tuple(range(len(samples)))) if samples else each
        nll = reduced(mean, reduction, dims)
        kl = reduced(functions.divergence(mu, logvar), reduction, dims)
        return [nll + beta * kl, nll, kl]

    said = _said("elbo_loss", operands, beta=beta, sample_dims=len(samples), reduction=reduction)
    return _compared(draws, values, operands, formula, said)


KINDS: tuple[Callable[[Draws], Result], ...] = (
    *(lambda draws, f=f: elementwise(draws, f) for f in ELEMENTWISE for _ in range(2)),
    multinomial,
    layer,
    sampling,
    sampling,
    bound,
)


def valid(seed: int, index: int) -> str | None:
    """The call of this index; None, or what is wrong with it."""
    draws = Draws(seed, index)
    result = draws.rng.choice(KINDS)(draws)
    wrong = verdict(result)
    return None if wrong is None else f"{result.said}: {wrong}"
