"""How a trainer gets a loss: from a model, a wrapped one, or a module of one's own."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from vae_fast.bounds import ELBO


def without_wrappers(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's, DataParallel's and DistributedDataParallel's."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # torch.compile's
        if inner is None and isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def loss_of(model: nn.Module, x: Tensor, **weights: Any) -> ELBO:
    """The terms of a batch's loss: of the module's method `loss`, or of its forward.

    A wrapper has no other way into its module than forward: only that is compiled, or synchronised.

    Args:
        model: may be wrapped.
        x: the batch.
        weights: beta and free_bits.

    Raises:
        TypeError: a wrapper hides `loss` and the forward inside does not take `return_loss`; or
            what came is no `ELBO`.
    """
    module = without_wrappers(model)
    own = getattr(module, "loss", None)
    if module is model and callable(own):
        terms = own(x, **weights)
    elif "return_loss" in inspect.signature(module.forward).parameters:
        terms = model(x, return_loss=True, **weights)
    elif callable(own):
        raise TypeError(
            f"{type(model).__name__} hides the method loss of {type(module).__name__}; expected a "
            "forward(x, *, return_loss, beta, free_bits) that is the loss where return_loss is true"
        )
    else:
        terms = model(x, **weights)
    if not isinstance(terms, tuple) or len(terms) != len(ELBO._fields):
        raise TypeError(
            f"the loss of {type(module).__name__} is of type {type(terms).__name__}; expected an "
            "ELBO (loss, nll, kl)"
        )
    # DataParallel gives one of each for every device.
    return ELBO(*(cast(torch.Tensor, term).mean() if term.dim() else term for term in terms))
