"""What is compared with: the expressions that VAE code writes in plain PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor


def batch_mean(elementwise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A likelihood, summed and divided by the batch size; a uint8 target is an intensity."""

    def nll(*operands: Tensor) -> Tensor:
        *parameters, target = operands
        if target.dtype == torch.uint8:
            target = target.float() / 255
        return elementwise(*parameters, target).sum() / len(target)

    return nll


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(mu)


def reparameterize_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    std = torch.exp(0.5 * logvar)
    return mu + torch.randn_like(std) * std, gaussian_kl(mu, logvar)
