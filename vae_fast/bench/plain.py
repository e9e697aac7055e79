"""What is compared with: the expressions that VAE code writes in plain PyTorch."""

from __future__ import annotations

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


def engine_floor(*operands: Tensor) -> Tensor:
    """The least that autograd can do with one or two operands that want a gradient.

    One node of PyTorch's own, in C++: the forward is one pass over the numbers, the backward hands
    the gradient on as it is, or negated, and the engine stores it in every operand.
    """
    return torch.neg(*operands) if len(operands) == 1 else torch.add(*operands)
