"""The decoder's last layer with its likelihood, forward and backward: in two steps, and fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import vae_fast as vf
from vae_fast.bench import plain
from vae_fast.bench.measure import Step

ROWS, INPUTS, OUTPUTS = 512, 128, 20000
# In plain PyTorch.
LIKELIHOODS = {
    "bernoulli": plain.batch_mean(plain.bernoulli_nll),
    "multinomial": plain.batch_mean(plain.multinomial_nll),
}


def products(h: Tensor, weight: Tensor) -> Callable[[], None]:
    """The layer's three matrix products, by torch, into memory that is there already."""
    h, weight = h.detach(), weight.detach()
    output = h.new_empty(len(h), len(weight))
    in_h, in_weight = torch.empty_like(h), torch.empty_like(weight)

    def run() -> None:
        torch.mm(h, weight.t(), out=output)
        torch.mm(output, weight, out=in_h)
        torch.mm(output.t(), h, out=in_weight)

    return run


def layer_peers(device: str, likelihood: str, with_compile: bool) -> dict[str, Callable[[], Any]]:
    """Loss and gradients in h, weight and bias of the same layer."""
    torch.manual_seed(0)
    h = torch.randn(ROWS, INPUTS, device=device, requires_grad=True)
    weight = (0.05 * torch.randn(OUTPUTS, INPUTS, device=device)).requires_grad_()
    bias = torch.zeros(OUTPUTS, device=device, requires_grad=True)
    target = torch.rand(ROWS, OUTPUTS, device=device)
    named: Any = likelihood  # one of the function's own

    def eager(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return LIKELIHOODS[likelihood](functional.linear(h, weight, bias), target)

    def fused(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return vf.linear_nll(h, weight, bias, target, likelihood=named)

    inputs = [h, weight, bias]
    peers: dict[str, Callable[[], Any]] = {
        "products": products(h, weight),
        "eager": Step(eager, inputs),
        "vae_fast": Step(fused, inputs),
    }
    if with_compile:
        peers["compile"] = Step(torch.compile(eager, dynamic=False), inputs)
    return peers
