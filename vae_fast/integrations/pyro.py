"""Distributions for Pyro: those of :mod:`vae_fast.distributions`, and models that use Pyro's own.

The classes here have the names and arguments of :mod:`vae_fast.distributions` and all that Pyro
wants of a distribution: ``to_event``, ``mask``, ``expand_by``, plates, ``poutine.scale``. What
``to_event`` makes sums its log_prob and its divergence in the pass that computes them.

:func:`apply` switches the observations of a model that is written with Pyro's own distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vae_fast import distributions
from vae_fast.engine.distribution import Distribution, enter_kl
from vae_fast.engine.shapes import broadcast_shapes
from vae_fast.integrations._switch import Peer
from vae_fast.latent import gaussian_kl

_PEER = Peer("pyro-ppl", tried="1.9.2")
_Mixin: Any = _PEER.names("pyro.distributions.torch_distribution", "TorchDistributionMixin")
_Messenger: Any = _PEER.names("pyro.poutine.messenger", "Messenger")
_IndependentOfPyro: Any = _PEER.names("pyro.distributions", "Independent")
_NormalOfPyro, _BernoulliOfPyro, _LaplaceOfPyro, _PoissonOfPyro = _PEER.names(
    "pyro.distributions", "Normal", "Bernoulli", "Laplace", "Poisson"
)
_PEER.expect(_Mixin.to_event, "self", "reinterpreted_batch_ndims")


class Independent(_IndependentOfPyro):
    """What ``to_event`` makes of the classes here; ``pyro.distributions.Independent`` else."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Summed over the event, in one pass."""
        base = self.base_dist
        if not isinstance(base, Distribution) or base.event_shape:
            log_prob: Tensor = super().log_prob(value)
            return log_prob
        if base._validate_args:
            base._validate_sample(value)
        return -base._summed_cost(value, self.reinterpreted_batch_ndims)


class _OfPyro(_Mixin):
    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        """The rightmost dimensions of the batch, all by default, as the event's."""
        made = super().to_event(reinterpreted_batch_ndims)
        if type(made) is _IndependentOfPyro:
            return Independent(made.base_dist, made.reinterpreted_batch_ndims)
        return made


_classes: dict[str, Any] = {
    name: type(name, (getattr(distributions, name), _OfPyro), {"__module__": __name__})
    for name in distributions.__all__
}
globals().update(_classes)
__all__ = ["Independent", "apply", "revert", *_classes]


def _divergence(q: Any, p: Any) -> Tensor:
    dims = q.reinterpreted_batch_ndims
    of_q, of_p = q.base_dist, p.base_dist
    if dims != p.reinterpreted_batch_ndims or not all(
        isinstance(x, distributions.Normal) for x in (of_q, of_p)
    ):
        return _divergence_of_any(q, p)
    shape = broadcast_shapes(of_q.batch_shape, of_p.batch_shape)
    mean, logvar = (x.expand(shape) for x in (of_q.loc, of_q.logvar))
    batch_dims = len(shape) - dims
    return gaussian_kl(
        mean, logvar, of_p.loc, of_p.logvar, batch_dims=batch_dims, reduction="sample"
    )


_divergence_of_any: Callable[..., Tensor] = torch.distributions.kl._kl_independent_independent
enter_kl(Independent, _divergence, {})


# ---- what is written with Pyro's own -------------------------------------------------------------

# By Pyro's parameters, in Pyro's meaning.
_OF: dict[type, Callable[[Any], tuple[str, tuple[Tensor, ...]]]] = {
    _NormalOfPyro: lambda p: ("Normal", (p.loc, 2 * torch.log(p.scale))),
    _BernoulliOfPyro: lambda p: ("Bernoulli", (p.logits,)),
    _LaplaceOfPyro: lambda p: ("Laplace", (p.loc, torch.log(p.scale))),
    _PoissonOfPyro: lambda p: ("Poisson", (torch.log(p.rate),)),
}


def _converted(fn: Any) -> Any:
    """A distribution of Pyro's as one of ours; any other as it is."""
    if type(fn) is _IndependentOfPyro:
        base = _converted(fn.base_dist)
        if base is fn.base_dist:
            return fn
        return Independent(base, fn.reinterpreted_batch_ndims)
    if type(fn) not in _OF:
        return fn
    name, parameters = _OF[type(fn)](fn)
    converted = _classes[name](*parameters, validate_args=False)
    converted._validate_args = fn._validate_args  # of values: the parameters have been looked at
    return converted


class _Switch(_Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:  # codes are few: what they would gain, their conversion costs
            msg["fn"] = _converted(msg["fn"])


class _SwitchedFunction:
    """A model inside the handler that converts its distributions."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _Switch():
            return self.fn(*args, **kwargs)


def apply(model: Callable[..., Any]) -> Callable[..., Any]:
    """Switches what a model observes: Normal, Bernoulli, Laplace and Poisson, under ``to_event``.

    Others stay as they are, and so do samples and their noise, and the guide.

    Args:
        model: What is given to ``SVI``: a function or any callable of Pyro's primitives.

    Returns:
        What is given to ``SVI`` in its place.

    Raises:
        TypeError: It is not callable.
        ValueError: It is switched already.
    """
    if not callable(model):
        raise TypeError(f"apply: model is a {type(model).__name__}, expected a function")
    if isinstance(model, _SwitchedFunction):
        raise ValueError("apply: the model is switched already")
    return _SwitchedFunction(model)


def revert(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model that was switched.

    Args:
        model: What :func:`apply` returned.

    Returns:
        What :func:`apply` was given.

    Raises:
        ValueError: It is not switched.
    """
    if not isinstance(model, _SwitchedFunction):
        raise ValueError("revert: the model is not switched")
    return model.fn
