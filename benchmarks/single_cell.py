"""Counts as single cells have them: nine of ten are zero, and each gene has a dispersion."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

import vae_fast as vf
from tests.cases import CASES
from tests.likelihoods.poisson import torch_poisson_nll
from vae_fast.bench.cases import Case, Draw, likelihood

_EPS = 1e-8
_SIZES = ((128, 4000), (512, 3072))


def scvi_negative_binomial_nll(mu: Tensor, theta: Tensor, x: Tensor) -> Tensor:
    """`log_nb_positive` of scvi-tools 1.4, negated."""
    log_theta_mu = torch.log(theta + mu + _EPS)
    of_theta = theta * (torch.log(theta + _EPS) - log_theta_mu)
    of_x = x * (torch.log(mu + _EPS) - log_theta_mu)
    rest = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return -(of_theta + of_x + rest)


def scvi_zero_inflated_negative_binomial_nll(
    mu: Tensor, theta: Tensor, zero_logits: Tensor, x: Tensor
) -> Tensor:
    """`log_zinb_positive` of scvi-tools 1.4, negated."""
    softplus = functional.softplus(-zero_logits)
    log_theta_mu = torch.log(theta + mu + _EPS)
    of_theta = -zero_logits + theta * (torch.log(theta + _EPS) - log_theta_mu)
    zero = functional.softplus(of_theta) - softplus
    of_x = x * (torch.log(mu + _EPS) - log_theta_mu)
    rest = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    other = -softplus + of_theta + of_x + rest
    return -((x < _EPS).float() * zero + (x > _EPS).float() * other)


def plain_zero_inflated_poisson_nll(log_rate: Tensor, zero_logits: Tensor, x: Tensor) -> Tensor:
    """As `log_zinb_positive` would be written for a Poisson distribution."""
    softplus, rate = functional.softplus(-zero_logits), torch.exp(log_rate)
    zero = functional.softplus(-zero_logits - rate) - softplus
    other = -softplus - zero_logits - rate + x * log_rate - torch.lgamma(x + 1)
    return -((x < _EPS).float() * zero + (x > _EPS).float() * other)


def _normal(mean: float, scale: float) -> Callable[[tuple[int, ...]], Tensor]:
    return lambda shape: mean + scale * torch.randn(shape, dtype=torch.float64)


def _mu(shape: tuple[int, ...]) -> Tensor:
    return _normal(-3.0, 1.5)(shape).exp()


def _theta(shape: tuple[int, ...]) -> Tensor:
    return _normal(0.0, 1.0)(shape[1:]).exp()


def _counts(shape: tuple[int, ...]) -> Tensor:
    """A gene's mean is log-normal; nine of ten are zero."""
    return torch.poisson(_normal(-3.6, 1.7)(shape[1:]).exp().expand(shape))


_LOGITS = _normal(-1.0, 1.0)
_PEERS = {
    "poisson_nll": (torch_poisson_nll, (_normal(-3.0, 1.5),)),
    "zero_inflated_poisson_nll": (
        plain_zero_inflated_poisson_nll,
        (_normal(-3.0, 1.5), _LOGITS),
    ),
    "negative_binomial_nll": (scvi_negative_binomial_nll, (_mu, _theta)),
    "zero_inflated_negative_binomial_nll": (
        scvi_zero_inflated_negative_binomial_nll,
        (_mu, _theta, _LOGITS),
    ),
}


def _shares(logits: Tensor, x: Tensor) -> Tensor:
    return torch.softmax(logits, -1) * x.sum(-1, keepdim=True)


def _softmax_negative_binomial(logits: Tensor, theta: Tensor, x: Tensor) -> Tensor:
    library = x.sum(-1, keepdim=True)
    return vf.softmax_negative_binomial_nll(logits, x, library, theta)


def _softmax_zero_inflated(logits: Tensor, theta: Tensor, zero_logits: Tensor, x: Tensor) -> Tensor:
    library = x.sum(-1, keepdim=True)
    return vf.softmax_negative_binomial_nll(logits, x, library, theta, zero_logits=zero_logits)


def _softmax_poisson(logits: Tensor, x: Tensor) -> Tensor:
    return vf.softmax_poisson_nll(logits, x, x.sum(-1, keepdim=True))


# As a decoder gives them: the library size, which is x's sum, is taken in each of them.
_ROWS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Draw, ...]]] = {
    "softmax_poisson_nll": (
        _softmax_poisson,
        lambda logits, x: torch_poisson_nll(torch.log(_shares(logits, x) + _EPS), x),
        (_normal(0.0, 1.5),),
    ),
    "softmax_negative_binomial_nll": (
        _softmax_negative_binomial,
        lambda logits, theta, x: scvi_negative_binomial_nll(_shares(logits, x), theta, x),
        (_normal(0.0, 1.5), _theta),
    ),
    "softmax_zero_inflated_negative_binomial_nll": (
        _softmax_zero_inflated,
        lambda logits, theta, zero_logits, x: scvi_zero_inflated_negative_binomial_nll(
            _shares(logits, x), theta, zero_logits, x
        ),
        (_normal(0.0, 1.5), _theta, _LOGITS),
    ),
}


def cases() -> Iterator[Case]:
    """Of each likelihood of counts, beside what its users write."""
    public = {loss.op: loss.public for loss in CASES}
    for op, (ours, peer, parameters) in _ROWS.items():
        for size in _SIZES:
            name = f"{op.removesuffix('_nll')}, single cells"
            yield likelihood(name, (*parameters, _counts), ours, peer, size)
    for op, (peer, parameters) in _PEERS.items():
        for size in _SIZES:
            name = f"{op.removesuffix('_nll')}, single cells"
            yield likelihood(name, (*parameters, _counts), public[op], peer, size)
