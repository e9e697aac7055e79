"""The loss and its gradients without autograd, for models of multilayer perceptrons on the CPU."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any, cast

import torch
from torch import Tensor, nn

from vae_fast._extension import BACKEND, C
from vae_fast.functional import ELBO
from vae_fast.models import VAE, AutoEncoder, LatentModel
from vae_fast.models.fused import FusedSequential, has_global_hooks, has_hooks
from vae_fast.models.likelihoods import BernoulliLikelihood, GaussianLikelihood
from vae_fast.models.wide import PAYS_FROM_BYTES

_kernels: Any = C if BACKEND == "compiled" else None


class NativeGradients:
    """What `model.loss(x, beta=beta).loss.backward()` does, in one call of C++.

    The same ops in the same order, so that the results are the same to rounding, without a graph,
    its nodes and the calls from Python between them. The parameters' ``grad`` is set, not added to.

    Args:
        model: one that `native_gradients` has found fit.
        encoder: weight and bias of each of its layers.
        decoder: likewise.
    """

    def __init__(self, model: LatentModel, encoder: list[Tensor], decoder: list[Tensor]) -> None:
        self._model = model
        self._encoder = encoder
        self._decoder = decoder
        self._shared = list(model.likelihood.parameters())
        self._parameters = [*encoder, *decoder, *self._shared]
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
    if _kernels is None or has_global_hooks() or type(model) not in (VAE, AutoEncoder):
        return None
    assert isinstance(model, LatentModel)
    likelihood = model.likelihood
    is_known = type(likelihood) in (BernoulliLikelihood, GaussianLikelihood)
    if not is_known or likelihood.per_element != 1 or len(model.latent_shape) != 1:
        return None
    if any(map(callable, vars(model).values())) or has_hooks(model) or has_hooks(likelihood):
        return None
    latent = math.prod(model.latent_shape)
    is_shaped = len(model.input_shape) > 1
    data = math.prod(model.input_shape)
    encoder = _layers(model.encoder, data, model.code_size * latent, flattens=is_shaped)
    decoder = _layers(model.decoder, latent, data, unflattens=is_shaped)
    if encoder is None or decoder is None:
        return None
    parameters = [*encoder, *decoder, *likelihood.parameters()]
    are_distinct = len(set(map(id, parameters))) == len(parameters)
    if not are_distinct or not all(map(_is_plain, parameters)):
        return None
    return NativeGradients(model, encoder, decoder)


def _layers(
    network: nn.Module,
    inputs: int,
    outputs: int,
    *,
    flattens: bool = False,
    unflattens: bool = False,
) -> list[Tensor] | None:
    """Weight and bias of each layer of linear ones with ReLU between them; None for other networks.

    Args:
        network: from (B, inputs) to (B, outputs).
        inputs: how many numbers it must take.
        outputs: how many numbers it must give.
        flattens: whether it must make its input (B, inputs) first.
        unflattens: whether it must give its output another shape.
    """
    if type(network) not in (nn.Sequential, FusedSequential) or has_hooks(network):
        return None
    modules = list(cast(nn.Sequential, network))
    if any(map(has_hooks, modules)):
        return None
    first, last = (modules[0], modules[-1]) if modules else (None, None)
    if type(first) is nn.Flatten and first.start_dim == 1 and first.end_dim == -1:
        modules, flattens = modules[1:], False
    if type(last) is nn.Unflatten:
        modules, unflattens = modules[:-1], False
    kinds = cycle((nn.Linear, nn.ReLU))
    if flattens or unflattens or len(modules) % 2 == 0:
        return None
    if not all(type(module) is kind for module, kind in zip(modules, kinds, strict=False)):
        return None
    linear = cast(list[nn.Linear], modules[::2])
    sizes = linear[0].in_features, linear[-1].out_features
    if sizes != (inputs, outputs) or any(layer.bias is None for layer in linear):
        return None
    return [p for layer in linear for p in (layer.weight, layer.bias)]


def _is_plain(parameter: Tensor) -> bool:
    return (
        type(parameter) is nn.Parameter
        and parameter.is_cpu
        and parameter.dtype == torch.float32
        and parameter.requires_grad
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks
    )
