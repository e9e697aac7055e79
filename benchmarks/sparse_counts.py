"""`python -m benchmarks.sparse_counts`: a first layer and a whole step, from CSR and from dense.

A model of counts (128 hidden, 10 latents, ZINB, a theta per gene, Adam) on batches of 128 x 20,000
at several densities. Medians of interleaved rounds, milliseconds; the dense batch is there already,
in float32. Plain: the same model in PyTorch's own ops, the loss as scvi-tools writes it.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

import vae_fast as vf
from benchmarks.single_cell import scvi_zero_inflated_negative_binomial_nll

CELLS, GENES, HIDDEN, LATENT = 128, 20_000, 128, 10
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2)
ROUNDS = 15


def counts(density: float) -> Tensor:
    """So many of the numbers are not zero."""
    some = torch.rand(CELLS, GENES) < density
    return torch.where(some, 1 + torch.poisson(torch.ones(CELLS, GENES)), 0)


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of each call, in milliseconds, one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def first_layers(dense: Tensor, csr: Tensor) -> dict[str, Callable[[], object]]:
    """Forward and backward of the layer that reads log(1 + x)."""
    weight = torch.randn(HIDDEN, GENES) * 0.01
    held_transposed = weight.t().contiguous().t().requires_grad_()
    weight.requires_grad_()
    bias = torch.zeros(HIDDEN, requires_grad=True)
    upstream = torch.randn(CELLS, HIDDEN)

    def gradients(y: Tensor, weight: Tensor) -> object:
        return torch.autograd.grad(y, (weight, bias), upstream)

    return {
        "layer, dense": lambda: gradients(
            functional.linear(torch.log1p(dense), weight, bias), weight
        ),
        "layer, CSR": lambda: gradients(vf.sparse_linear(csr, weight, bias, log1p=True), weight),
        "layer, CSR, transposed": lambda: gradients(
            vf.sparse_linear(csr, held_transposed, bias, log1p=True), held_transposed
        ),
    }


def step(x: Tensor, loss: Callable[[vf.VAE, Tensor], Tensor]) -> Callable[[], object]:
    """A step of training on this batch."""
    torch.manual_seed(0)
    kind = "zero_inflated_negative_binomial"
    model = vf.VAE(GENES, LATENT, hidden=(HIDDEN,), likelihood=kind)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def once() -> None:
        optimizer.zero_grad()
        loss(model, x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return once


def ours(model: vf.VAE, x: Tensor) -> Tensor:
    """The loss of this package."""
    return model.loss(x).loss


def plain(model: vf.VAE, x: Tensor) -> Tensor:
    """The same in PyTorch's own ops."""
    hidden = torch.log1p(x)
    for layer in list(model.encoder)[1:]:
        hidden = layer(hidden)
    mu, logvar = hidden.chunk(2, 1)
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    for layer in list(model.decoder)[:-1]:
        z = layer(z)
    logits, zero_logits = z.chunk(2, 1)
    mean = torch.softmax(logits, 1) * x.sum(1, keepdim=True)
    theta = model.likelihood.log_theta.exp()
    nll = scvi_zero_inflated_negative_binomial_nll(mean, theta, zero_logits, x).sum(1)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
    return (nll + kl).mean()


def main() -> None:
    """Prints a row for each density."""
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for density in DENSITIES:
        torch.manual_seed(0)
        dense = counts(density)
        csr = dense.to_sparse_csr()
        found = medians(
            {
                **first_layers(dense, csr),
                "step, CSR": step(csr, ours),
                "step, dense": step(dense, ours),
                "step, plain": step(dense, plain),
            }
        )
        print(f"{density:5.0%}", "; ".join(f"{name} {ms:.2f}" for name, ms in found.items()))


if __name__ == "__main__":
    main()
