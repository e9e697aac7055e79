"""The loss and its gradients without autograd, for models of multilayer perceptrons on the CPU."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from vae_fast._extension import BACKEND, C
from vae_fast.functional import ELBO
from vae_fast.models import VAE, AutoEncoder, LatentModel
from vae_fast.models.fused import FusedSequential, has_hooks
from vae_fast.models.likelihoods import BernoulliLikelihood, GaussianLikelihood
from vae_fast.models.wide import PAYS_FROM_BYTES

_kernels: Any = C if BACKEND == "compiled" else None


class NativeGradients:
    """What `model.loss(x, beta=beta).loss.backward()` does, in one call of C++.

    The same ops in the same order, so that the results are the same to rounding, without a graph,
    its nodes and the calls from Python between them. The parameters' ``grad`` is set, not added to.

    Args:
        model: one that `native_gradients` has found fit.
    """

    def __init__(self, model: LatentModel) -> None:
        self._model = model
        self._encoder = list(model.encoder.parameters())
        self._decoder = list(model.decoder.parameters())
        self._shared = list(model.likelihood.parameters())
        self._parameters = [*self._encoder, *self._decoder, *self._shared]
        row_bytes = 4 * self._decoder[-1].numel()
        self._most_rows = PAYS_FROM_BYTES // row_bytes

    def takes(self, x: Tensor) -> bool:
        """Whether it can compute this batch; others go the ordinary way, to their error too."""
        return (
            type(x) is Tensor
            and x.is_cpu
            and (x.dtype == torch.uint8 or x.dtype == torch.float32)
            and x.shape[1:] == self._model.input_shape
            and 0 < len(x) <= self._most_rows
        )

    def __call__(self, x: Tensor, beta: float) -> ELBO:
        """The terms of the loss of a batch; its gradients are then in the parameters."""
        for parameter in self._parameters:
            parameter.grad = None  # the new ones take the memory, which the cache still holds
        likelihood = self._model.likelihood
        prepared = self._model.prepare(x).flatten(1)
        target = x.flatten(1) if likelihood.reads_bytes else prepared
        shared = likelihood.shared
        loss, nll, kl, gradients = _kernels.elbo_gradients(
            prepared,
            target,
            self._encoder,
            self._decoder,
            f"{likelihood.name}_nll",
            shared,
            isinstance(self._model, VAE),
            beta,
        )
        if self._shared:
            of_networks, of_shared = gradients[: -len(shared)], gradients[-len(shared) :]
            of_parameters = torch.autograd.grad(shared, self._shared, of_shared)
            gradients = [*of_networks, *of_parameters]
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return ELBO(loss, nll, kl)


def native_gradients(model: nn.Module) -> NativeGradients | None:
    """For one of this package's own models of plain linear layers; None for any other.

    What somebody looks at or changes on the way, by hooks, subclasses or methods of the model's
    own, is left to autograd.
    """
    if _kernels is None or type(model) not in (VAE, AutoEncoder):
        return None
    assert isinstance(model, LatentModel)
    likelihood = model.likelihood
    is_known = type(likelihood) in (BernoulliLikelihood, GaussianLikelihood)
    if not is_known or likelihood.per_element != 1 or len(model.latent_shape) != 1:
        return None
    if any(map(callable, vars(model).values())) or has_hooks(model) or has_hooks(likelihood):
        return None
    if not (_is_mlp(model.encoder) and _is_mlp(model.decoder)):
        return None
    return NativeGradients(model) if all(map(_is_plain, model.parameters())) else None


def _is_mlp(network: nn.Module) -> bool:
    """Linear layers with ReLU between them; in front of them and behind them, only the shape."""
    if type(network) not in (nn.Sequential, FusedSequential) or has_hooks(network):
        return False
    modules = list(network.children())
    if any(map(has_hooks, modules)):
        return False
    if modules and type(modules[0]) is nn.Flatten and modules[0].start_dim == 1:
        modules = modules[1:]
    if modules and type(modules[-1]) is nn.Unflatten:
        modules = modules[:-1]
    kinds = cycle((nn.Linear, nn.ReLU))
    return len(modules) % 2 == 1 and all(
        type(module) is kind and getattr(module, "bias", 0) is not None
        for module, kind in zip(modules, kinds, strict=False)
    )


def _is_plain(parameter: nn.Parameter) -> bool:
    return (
        type(parameter) is nn.Parameter
        and parameter.is_cpu
        and parameter.dtype == torch.float32
        and parameter.requires_grad
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks
    )
