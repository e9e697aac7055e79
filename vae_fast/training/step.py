"""How a trainer gets a loss: from a model, a wrapped one, or a module of one's own."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from vae_fast.bounds import ELBO
from vae_fast.bounds.estimators import ESTIMATORS
from vae_fast.models.sampled import Sampling, check_sampling
from vae_fast.training.config import TrainerConfig


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


def require_sampling(model: nn.Module, sampling: Sampling) -> None:
    """Raises ValueError where a model's loss knows nothing of the samples that it is asked for.

    Args:
        model: may be wrapped.
        sampling: the configuration's.
    """
    if sampling == Sampling():
        return
    module = without_wrappers(model)
    if not getattr(module, "takes_estimators", True):
        raise ValueError(
            f"TrainerConfig.estimator is {sampling.estimator!r}, num_samples "
            f"{sampling.num_samples}; the loss of {type(module).__name__} is one of its own, of "
            f"one code"
        )
    own = getattr(module, "loss", None)
    parameters = inspect.signature(own if callable(own) else module.forward).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    if not takes_all and "estimator" not in parameters:
        raise ValueError(
            f"TrainerConfig.estimator is {sampling.estimator!r}, num_samples "
            f"{sampling.num_samples}; the loss of {type(module).__name__} has no such argument"
        )


def sampling_of(model: nn.Module, config: TrainerConfig) -> Sampling:
    """The configuration's, or else that of a model which has one of its own.

    Raises:
        ValueError: the model's loss knows nothing of the samples that it is asked for; or the
            configuration weighs a KL term, which the model's own bound does not have.
    """
    require_sampling(model, config.sampling)
    own: Sampling = getattr(without_wrappers(model), "sampling", Sampling())
    if config.sampling != Sampling() or own == Sampling():
        return config.sampling
    owner = type(without_wrappers(model)).__name__
    check_sampling(owner, own, weighs_kl=config.weighs_kl, free_bits=config.free_bits)
    return own


def weights_of(sampling: Sampling, beta: float | Tensor, free_bits: float) -> dict[str, Any]:
    """The arguments of a model's loss beside its batch."""
    weights: dict[str, Any] = {"beta": beta, "free_bits": free_bits}
    if sampling == Sampling():
        return weights
    # Another bound has no KL term to weigh: a configuration with other weights is refused.
    return (weights if ESTIMATORS[sampling.estimator].is_elbo else {}) | sampling._asdict()


def loss_of(model: nn.Module, x: Tensor, **weights: Any) -> ELBO:
    """The terms of a batch's loss: of the module's method `loss`, or of its forward.

    A wrapper has no other way into its module than forward: only that is compiled, or synchronised.

    Args:
        model: may be wrapped.
        x: the batch.
        weights: from `weights_of`.

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
