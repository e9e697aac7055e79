"""What is compared with: the expressions that VAE code writes in plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional


def batch_mean(elementwise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A likelihood, summed and divided by the batch size; a uint8 target is an intensity."""

    def nll(*operands: Tensor) -> Tensor:
        *parameters, target = operands
        if target.dtype == torch.uint8:
            target = target.float() / 255
        return elementwise(*parameters, target).sum() / len(target)

    return nll


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Elementwise."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    """Elementwise."""
    likelihood = Normal(mean, (0.5 * logvar).exp(), validate_args=False)
    value: Tensor = -likelihood.log_prob(target)  # type: ignore[no-untyped-call]
    return value


def multinomial_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Elementwise."""
    return -target * functional.log_softmax(logits, -1)


def discretized_logistic_mixture_nll(params: Tensor, target: Tensor) -> Tensor:
    """Per pixel, of ten components and three channels: PixelCNN++'s."""
    k, x = 10, 2 * target - 1
    numbers = params[:, k:].view(len(params), 3, 3 * k, *params.shape[2:])
    means, log_scales = numbers[:, :, :k], numbers[:, :, k : 2 * k].clamp(min=-7.0)
    coefficients = torch.tanh(numbers[:, :, 2 * k :])
    x = x.unsqueeze(2)
    green = means[:, 1] + coefficients[:, 0] * x[:, 0]
    blue = means[:, 2] + coefficients[:, 1] * x[:, 0] + coefficients[:, 2] * x[:, 1]
    centered = x - torch.stack((means[:, 0], green, blue), 1)
    inverse = torch.exp(-log_scales)
    plus, minus = inverse * (centered + 1 / 255), inverse * (centered - 1 / 255)
    middle = inverse * centered
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scales - 2 * functional.softplus(middle) - math.log(127.5)
    inside = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), density)
    above = torch.where(x > 0.999, -functional.softplus(minus), inside)
    log_p = torch.where(x < -0.999, plus - functional.softplus(plus), above)
    log_shares = functional.log_softmax(params[:, :k], 1)
    return -torch.logsumexp(log_p.sum(1) + log_shares, 1)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """To the standard normal, per datum."""
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(mu)


def reparameterize(mu: Tensor, logvar: Tensor) -> Tensor:
    """Z."""
    std = torch.exp(0.5 * logvar)
    return mu + torch.randn_like(std) * std


def reparameterize_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """z, and the divergence."""
    return reparameterize(mu, logvar), gaussian_kl(mu, logvar)


def _pairwise_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Of each number of each datum under each component, (B, K, D)."""
    log_density = Normal(mean, (0.5 * logvar).exp(), validate_args=False)
    value: Tensor = log_density.log_prob(x.unsqueeze(1))  # type: ignore[no-untyped-call]
    return value


def gaussian_mixture_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """Summed over the data."""
    each = _pairwise_log_prob(x, mean, logvar).sum(2)
    return (torch.logsumexp(each, 1) - math.log(len(mean))).sum()


def aggregated_posterior_log_prob(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The joint and the marginals, summed."""
    each, shift = _pairwise_log_prob(z, mu, logvar), math.log(len(mu))
    joint, marginals = torch.logsumexp(each.sum(2), 1), torch.logsumexp(each, 1)
    return (joint - shift).sum() + (marginals - shift).sum()


def engine_floor(*operands: Tensor) -> Tensor:
    """The least that autograd can do with one or two operands that want a gradient.

    One node of PyTorch's own, in C++: the forward is one pass over the numbers, the backward hands
    the gradient on as it is, or negated, and the engine stores it in every operand.
    """
    return torch.neg(*operands) if len(operands) == 1 else torch.add(*operands)
