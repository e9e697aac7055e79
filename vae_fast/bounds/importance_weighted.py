"""The loss of K importance samples, by any estimator of the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vae_fast.bounds.checks import check_log_weights, check_parts, estimator_of, settings_of
from vae_fast.engine import checks
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.reductions import Reduction, keep_and_mean, reduce

_NAME = "importance_weighted_loss"
_MARK = "mark_path"
# A weight in the model below this changes no sum; but the path is told by how much more it weighs.
_LEAST = 2.0**-64


def importance_weighted_loss(
    log_weights: Tensor,
    *,
    estimator: str = "iwae",
    alpha: float | None = None,
    groups: int | None = None,
    baseline: Tensor | float | None = None,
    log_q: Tensor | None = None,
    path: Tensor | None = None,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Minus a bound of log p(x) from K samples, with the gradient of an estimator, in nats.

    The log weights are log p(x, z_k) - log q(z_k|x), for any likelihood and any q. Of the IWAE they
    are all it takes. Estimators that treat the parts of the gradient differently are given these:
    ``log_q`` is log q once more, of a z without gradient, and ``path`` what :func:`mark_path` gave
    beside the z that the log weights are made of.

    ===================== ============================================ ==========================
    estimator             bound                                        gradient
    ===================== ============================================ ==========================
    ``"elbo"``            mean of the log weights                      as it is
    ``"iwae"``            log of the mean weight (Burda et al. 2016)   as it is
    ``"miwae"``           mean of that over ``groups`` (Rainforth et   as it is
                          al. 2018)
    ``"piwae"``           IWAE of all samples (the same)               q's is MIWAE's; ``log_q``,
                                                                       ``path``
    ``"ciwae"``           ``alpha`` ELBO + (1 - ``alpha``) IWAE        as it is
                          (the same)
    ``"renyi"``           VR bound of order ``alpha`` (Li and Turner   as it is
                          2016): 1 is the ELBO, 0 the IWAE's
    ``"vr_max"``          the largest log weight (the same)            as it is
    ``"stl"``             ELBO                                         sticking the landing
                                                                       (Roeder et al. 2017):
                                                                       no score; ``log_q``
    ``"dreg"``            IWAE's; of order ``alpha``, over ``groups``  doubly reparameterized
                                                                       (Tucker et al. 2019): no
                                                                       score; ``log_q``, ``path``
    ``"reinforce"``       ELBO                                         score function, less
                                                                       ``baseline``; ``log_q``
    ``"reinforce_loo"``   ELBO                                         the same, less the mean of
                                                                       the other log weights
    ``"vimco"``           IWAE's                                       the same of this bound
                                                                       (Mnih and Rezende 2016)
    ===================== ============================================ ==========================

    All are unbiased for the gradient of their bound, but ``"piwae"``, which has two. Sticking the
    landing is the ELBO's alone: of the IWAE's bound it is biased, and DReG is what it should be.
    The samples of ``"dreg"``, ``"reinforce_loo"`` and ``"vimco"`` have to be independent, which
    antithetic ones are not. A gradient that is the bound's as it is has derivatives of any order;
    the weights of the others' parts are constants.

    Args:
        log_weights: (K, *batch), made of z and q with all their gradients. -infinity is a weight of
            zero: it has no gradient, but in the ELBO, which is -infinity then.
        estimator: A name of the table.
        alpha: The order of ``"renyi"`` and ``"dreg"`` (there 0 unless it is given), any finite
            number; the ELBO's share in ``"ciwae"``, from 0 to 1.
        groups: Into how many equal groups the samples are split, in order.
        baseline: What the log weights of ``"reinforce"`` are compared with, broadcasts to
            (K, *batch): a running mean of them, a network's guess. None is 0. It must not depend on
            the z_k that it is subtracted from, and gets no gradient.
        log_q: log q(z|x) of z.detach(), (K, *batch). Its gradient is used, its value is not: what
            has no gradient in q's parameters may be missing. Of a score function z itself has none.
        path: From :func:`mark_path`, (2, K, *batch).
        reduction: ``"none"`` and ``"sample"`` a value for each batch entry, ``"sum"`` their sum,
            ``"batchmean"`` and ``"mean"`` their mean.

    Returns:
        Minus the bound, reduced; at least float32.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: An unknown estimator, no sample, a setting or a tensor that it lacks or has no
            use for, an alpha out of its range, groups that do not divide K, fewer than two samples
            where one is left out, or shapes or devices that differ.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> log_weights = torch.tensor([[-1.0], [-3.0]])
        >>> vf.importance_weighted_loss(log_weights)
        tensor(1.5662)
        >>> vf.importance_weighted_loss(log_weights, estimator="renyi", alpha=1.0)  # the ELBO
        tensor(2.)

        Of any decoder and any q that has rsample and log_prob:

        >>> from torch.distributions import Gamma, Independent
        >>> concentration = torch.ones(4, 2, requires_grad=True)
        >>> q = Independent(Gamma(concentration, 1.0), 1)
        >>> z, path = vf.mark_path(q.rsample((8,)), batch_dims=2)
        >>> nll = vf.poisson_nll(z, torch.ones(4, 2), batch_dims=2, reduction="sample")
        >>> prior = Independent(Gamma(torch.ones(2), torch.ones(2)), 1)
        >>> log_weights = prior.log_prob(z) - nll - q.log_prob(z)
        >>> log_q = q.log_prob(z.detach())
        >>> loss = vf.importance_weighted_loss(
        ...     log_weights, estimator="dreg", log_q=log_q, path=path
        ... )
        >>> loss.backward()
        >>> concentration.grad.shape
        torch.Size([4, 2])
    """
    row = estimator_of(_NAME, estimator)
    check_log_weights(_NAME, log_weights, reduction)
    settings = settings_of(_NAME, estimator, log_weights, alpha, groups, baseline)
    check_parts(_NAME, estimator, log_weights, log_q, path)
    dtype = arithmetic_dtype((log_weights,))
    exact = log_weights.to(dtype)
    value, model, score, through = row.rule(row.bound, exact, settings)
    estimate = value
    if row.wants:
        if path is not None:
            model = torch.where(exact.detach() == -math.inf, 0, model.clamp(min=_LEAST))
        given = (x if x is None else x.to(dtype) for x in (log_q, path))
        # The log weights have the score already: -model of it.
        of_path = None if path is None else through
        estimate = _estimated(value, exact, *given, model, score + model, of_path)
    if reduction in ("none", "sample"):
        return -estimate
    return reduce(-estimate, *keep_and_mean(reduction, estimate.dim(), estimate))


def mark_path(z: Tensor, *, batch_dims: int = 1) -> tuple[Tensor, Tensor]:
    """A z whose gradient on its way back is weighed by :func:`importance_weighted_loss`.

    Of an estimator that weighs what log p(x, z) tells the decoder differently from what it tells
    q by way of z. In one backward pass: the decoder's is not run twice.

    Args:
        z: Samples (K, *batch, *latent).
        batch_dims: How many leading dimensions are samples and batch.

    Returns:
        (z, path): the same z, of which the log weights and nothing else are made, and the
        argument ``path``, (2, K, *batch) zeros, which tells it the weights in the backward.

    Raises:
        TypeError: z is no tensor of floats, or batch_dims no whole number.
        ValueError: z has no more than batch_dims dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> z, path = vf.mark_path(torch.zeros(5, 3, 2), batch_dims=2)
        >>> path.shape
        torch.Size([2, 5, 3])
    """
    checks.check_tensor(_MARK, "z", z)
    checks.check_kind(_MARK, "z", z, FLOATS, "z", z)
    if not checks.is_int(batch_dims):
        raise TypeError(f"{_MARK}: batch_dims is of type {type(batch_dims).__name__}, expected int")
    if not 0 < batch_dims <= z.dim():
        raise ValueError(
            f"{_MARK}: batch_dims is {batch_dims}, expected 1 to {z.dim()}, the number of "
            f"dimensions of z {shown(z.shape)}: samples, then batch"
        )
    return _marked(z, batch_dims)


# ---- the mechanism -------------------------------------------------------------------------------


class _Estimate(torch.autograd.Function):
    """A bound's value, whose gradient in what it is made of is what an estimator says."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor,
        log_weights: Tensor,
        log_q: Tensor,
        path: Tensor | None,
        of_weights: Tensor,
        of_log_q: Tensor,
        of_path: Tensor | None,
    ) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[4:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_weights, of_log_q, of_path = ctx.saved_tensors
        has = upstream * of_weights
        path = None if of_path is None else torch.stack((has, upstream * of_path))
        return None, has, upstream * of_log_q, path, None, None, None


class _Mark(torch.autograd.Function):
    """z, and zeros whose gradient are the weights that z's has and that it should have."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, batch_dims: int) -> tuple[Tensor, Tensor]:
        return z.clone(), z.new_zeros((2, *z.shape[:batch_dims]), dtype=arithmetic_dtype((z,)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.latent_dims = inputs[0].dim() - inputs[1]

    @staticmethod
    def backward(ctx: Any, of_z: Tensor, of_path: Tensor) -> tuple[Tensor, None]:
        has, wants = of_path
        factor = torch.where(has == 0, 1, wants / torch.where(has == 0, 1, has))
        factor = factor.reshape(*factor.shape, *(1,) * ctx.latent_dims)
        return (of_z * factor).to(of_z.dtype), None


# Typed here, as torch has it without types.
_estimated: Callable[..., Tensor] = _Estimate.apply
_marked: Callable[[Tensor, int], tuple[Tensor, Tensor]] = _Mark.apply
