"""The evidence lower bound: as a function, and as a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from vae_fast.engine import checks
from vae_fast.engine.checks import shown
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import same_shape
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.latent.checks import FreeBitsPer, check_free_bits
from vae_fast.latent.divergences import gaussian_kl


class ELBO(NamedTuple):
    """The negative evidence lower bound and its two terms, in nats.

    Attributes:
        loss: nll + beta * kl, to be minimised; of a model that was asked for another bound, minus
            that.
        nll: The reconstruction term, -E[log p(x|z)].
        kl: KL(q(z|x) || p(z)), not weighted.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> zero = torch.zeros(1, 1)
        >>> terms = vf.elbo_loss(zero, torch.ones(1, 1), mu=zero, logvar=zero)
        >>> loss, nll, kl = terms
        >>> terms.nll
        tensor(0.6931)
    """

    loss: Tensor
    nll: Tensor
    kl: Tensor


# An exported program that returns one can be stored.
_register_namedtuple(ELBO, serialized_type_name="vae_fast.ELBO")


def elbo_loss(
    params: Tensor | Sequence[Tensor],
    target: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    likelihood: str = "bernoulli",
    beta: float | Tensor = 1.0,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    free_bits: float = 0.0,
    free_bits_per: FreeBitsPer = "dimension",
    mask: Tensor | None = None,
    batch_dims: int = 1,
    sample_dims: int = 0,
    reduction: Reduction = "batchmean",
) -> ELBO:
    """The loss of a variational auto-encoder: -E[log p(x|z)] + beta KL(q(z|x) || p(z)), in nats.

    Kingma and Welling 2014, equation 7; with beta other than 1, Higgins et al. 2017. Bounds that
    several samples of z make tighter: :func:`importance_weighted_loss`.

    It is the likelihood's function and :func:`gaussian_kl`, and moves the bytes that these do: with
    Bernoulli logits in float32 12 per element of the data and 16 per element of the code, gradients
    included.

    Args:
        params: What the decoder gives: the likelihood's parameter, or a tuple of its parameters in
            the order of the likelihood's function (the target left out). The first one has the
            target's shape, behind ``sample_dims`` dimensions of samples of z.
        target: The data (*batch, *event); counts may be in CSR, (B, D).
        mu: Means of q(z|x), (*batch, *latent).
        logvar: Logarithms of its variances.
        likelihood: The name of its function without ``_nll``: ``"bernoulli"`` (logits),
            ``"gaussian"`` (mean, or mean and logvar), ``"multinomial"`` (logits; no mask),
            ``"categorical"`` (logits, with one dimension more for the classes), ``"ordinal"``
            (location and cutpoints), ...;
            ``"bernoulli_probs"`` is the Bernoulli's of probabilities.
        beta: Weight of the divergence in ``loss``; nothing else scales a term.
        prior_mu: Means of the prior; None: the standard normal.
        prior_logvar: Logarithms of the prior's variances.
        free_bits: As in :func:`gaussian_kl`.
        free_bits_per: As in :func:`gaussian_kl`.
        mask: Which elements of the data count; see the likelihood.
        batch_dims: How many leading dimensions (of target and mu) are batch.
        sample_dims: How many leading dimensions of ``params`` are samples of z, (K, *batch, *event)
            against (*batch, *event): the nll is averaged over them, under every reduction.
        reduction: Of each term. ``"mean"`` divides the nll by the number of data elements and the
            kl by that of latent elements, so it weighs them differently. ``"none"`` is refused:
            the terms' elements do not correspond.

    Returns:
        (loss, nll, kl), the terms not weighted.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: An unknown likelihood, ``reduction="none"``, params that are not as many as it
            has or not of the target's shape behind ``sample_dims``, mu of another batch than the
            target, or as in :func:`gaussian_kl` and the likelihood.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> logits, x = torch.zeros(2, 3), torch.ones(2, 3)
        >>> mu, logvar = torch.ones(2, 4), torch.zeros(2, 4)
        >>> vf.elbo_loss(logits, x, mu, logvar, beta=0.5)
        ELBO(loss=tensor(3.0794), nll=tensor(2.0794), kl=tensor(2.))
    """
    if likelihood not in LIKELIHOODS or not (isinstance(beta, Tensor) or checks.is_number(beta)):
        _refuse_elbo(likelihood, beta)
    if isinstance(params, (tuple, list)) and not params:
        raise ValueError("elbo_loss: params is empty, expected a tensor or a tuple of tensors")
    first, *others = params if isinstance(params, (tuple, list)) else (params,)
    checks.check_tensor("elbo_loss", "params", first)
    checks.check_tensor("elbo_loss", "target", target, sparse=True)
    checks.check_tensor("elbo_loss", "mu", mu)
    checks.check_public_reduction("elbo_loss", reduction, batch_dims, (target,))
    entry = LIKELIHOODS[likelihood]
    _check_shapes("elbo_loss", first, target, mu, batch_dims, sample_dims, entry.own_shape)
    if 1 + len(others) not in entry.parameter_counts:
        raise ValueError(
            f"elbo_loss: params has {1 + len(others)} tensors, expected "
            f"{' or '.join(map(str, entry.parameter_counts))} for {likelihood!r}"
        )
    masked = entry.masked("elbo_loss", likelihood, mask)
    nll = _sample_average_nll(
        partial(entry.function, first, target, *others, **masked),
        sample_dims,
        batch_dims,
        reduction,
    )
    kl = gaussian_kl(
        mu,
        logvar,
        prior_mu,
        prior_logvar,
        free_bits=free_bits,
        free_bits_per=free_bits_per,
        batch_dims=batch_dims,
        reduction=reduction,
    )
    weight = beta if isinstance(beta, Tensor) else float(beta)
    return ELBO(nll + weight * kl, nll, kl)


def _check_shapes(
    function: str,
    params: Tensor,
    target: Tensor,
    mu: Tensor,
    batch_dims: int,
    sample_dims: int,
    own_shape: bool,
) -> None:
    """The shapes that the terms of the bound must have in common.

    Raises:
        TypeError: ``sample_dims`` is no whole number.
        ValueError: ``params`` is not ``sample_dims`` dimensions and then the target's shape, or mu
            has another batch than the target.
    """
    if not checks.is_int(sample_dims):
        raise TypeError(
            f"{function}: sample_dims is of type {type(sample_dims).__name__}, expected int"
        )
    is_right = own_shape or same_shape(params.shape[sample_dims:], target.shape)
    if sample_dims < 0 or not is_right:
        expected = f"({'K, ' * sample_dims}*{shown(target.shape)})" if sample_dims > 0 else ""
        raise ValueError(
            f"{function}: params has shape {shown(params.shape)}, expected "
            f"{expected or shown(target.shape)} for a target {shown(target.shape)}: samples of z "
            f"in front of it are declared by sample_dims, which is {sample_dims}"
        )
    if mu.device != target.device:
        raise ValueError(f"{function}: mu is on {mu.device}, expected {target.device} like target")
    if not same_shape(mu.shape[:batch_dims], target.shape[:batch_dims]):
        raise ValueError(
            f"{function}: mu has shape {shown(mu.shape)}, expected the batch of target "
            f"{shown(target.shape)} in front (batch_dims is {batch_dims})"
        )


def _refuse_elbo(likelihood: Any, beta: Any) -> NoReturn:
    checks.check_likelihood("elbo_loss", likelihood, LIKELIHOODS)
    raise TypeError(f"elbo_loss: beta is of type {type(beta).__name__}, expected float or Tensor")


def _sample_average_nll(
    nll: Callable[..., Tensor], sample_dims: int, batch_dims: int, reduction: Reduction
) -> Tensor:
    """``nll`` reduced over batch and event, and averaged over the samples in front."""
    if reduction == "none":
        raise ValueError(
            "elbo_loss: reduction is 'none', expected 'sample', 'sum', 'batchmean' or 'mean'"
        )
    if reduction == "sum":  # over everything but the samples
        return nll(batch_dims=sample_dims, reduction="batchmean")
    value = nll(batch_dims=sample_dims + batch_dims, reduction=reduction)
    return value.mean(tuple(range(sample_dims))) if sample_dims and value.dim() else value


class ELBOLoss(nn.Module):
    """:func:`vae_fast.elbo_loss` as a module; its settings are plain attributes.

    Args:
        likelihood: Name of the likelihood.
        beta: Weight of the divergence; may be set between steps, for a warm-up.
        free_bits: Nats; see :func:`vae_fast.gaussian_kl`.
        free_bits_per: What they are counted per.
        batch_dims: How many leading dimensions are batch.
        sample_dims: How many leading dimensions of the parameters are samples of z.
        reduction: Of each term.

    Raises:
        TypeError: A setting has a wrong type.
        ValueError: An unknown likelihood, reduction or granularity, or negative free bits.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> criterion = vf.ELBOLoss("gaussian", beta=0.1)
        >>> mean, x = torch.zeros(2, 3), torch.zeros(2, 3)
        >>> mu, logvar = torch.ones(2, 4), torch.zeros(2, 4)
        >>> criterion(mean, x, mu, logvar).kl
        tensor(2.)
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        beta: float = 1.0,
        *,
        free_bits: float = 0.0,
        free_bits_per: FreeBitsPer = "dimension",
        batch_dims: int = 1,
        sample_dims: int = 0,
        reduction: Reduction = "batchmean",
    ) -> None:
        super().__init__()
        checks.check_likelihood("ELBOLoss", likelihood, LIKELIHOODS)
        checks.check_reduction_name("ELBOLoss", reduction)
        check_free_bits("ELBOLoss", free_bits, free_bits_per, reduction)
        self.likelihood = likelihood
        self.beta = beta
        self.free_bits = free_bits
        self.free_bits_per = free_bits_per
        self.batch_dims = batch_dims
        self.sample_dims = sample_dims
        self.reduction = reduction

    def forward(
        self,
        params: Tensor | Sequence[Tensor],
        target: Tensor,
        mu: Tensor,
        logvar: Tensor,
        prior_mu: Tensor | None = None,
        prior_logvar: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> ELBO:
        """The loss and its terms; arguments as in :func:`vae_fast.elbo_loss`."""
        return elbo_loss(
            params,
            target,
            mu,
            logvar,
            likelihood=self.likelihood,
            beta=self.beta,
            prior_mu=prior_mu,
            prior_logvar=prior_logvar,
            free_bits=self.free_bits,
            free_bits_per=self.free_bits_per,
            mask=mask,
            batch_dims=self.batch_dims,
            sample_dims=self.sample_dims,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """The settings, as print(module) shows them."""
        return (
            f"likelihood={self.likelihood!r}, beta={self.beta}, free_bits={self.free_bits}, "
            f"free_bits_per={self.free_bits_per!r}, batch_dims={self.batch_dims}, "
            f"sample_dims={self.sample_dims}, "
            f"reduction={self.reduction!r}"
        )
