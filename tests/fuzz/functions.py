"""What is called, and the textbook's formula of it in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import vae_fast as vf
from tests.cases import reduced

Operand = Tensor | float


@dataclass(frozen=True)
class Elementwise:
    """A loss with a value for each element, and a reduction.

    Attributes:
        name: of the public function.
        call: takes the operands in the order of ``names``, then mask, batch_dims and reduction.
        formula: the same by element, of tensors of one shape, without a mask.
        names: of the operands. The first has the shape, the others broadcast to it.
        target: the index of the data, which may lack leading batch dimensions; None without data.
        is_probability: of the operands, which hold numbers in (0, 1).
        numbers: of the operands, which may be numbers; None is not given at all.
        has_mask: whether elements can be left out.
        bytes_mean: what uint8 data are divided by; None where there are none.
    """

    name: str
    call: Callable[..., Tensor]
    formula: Callable[..., Tensor]
    names: tuple[str, ...]
    target: int | None = None
    is_probability: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    has_mask: bool = False
    bytes_mean: float | None = None


def _bernoulli(logits: Tensor, target: Tensor) -> Tensor:
    return functional.softplus(logits, threshold=60) - logits * target


def _bernoulli_probs(p: Tensor, target: Tensor) -> Tensor:
    return -target * torch.log(p) - (1 - target) * torch.log1p(-p)


def _gaussian(mean: Tensor, target: Tensor, logvar: Tensor) -> Tensor:
    return (math.log(2 * math.pi) + logvar + (target - mean) ** 2 * torch.exp(-logvar)) / 2


def _divergence(mu: Tensor, logvar: Tensor, m: Tensor | float = 0, v: Operand = 0) -> Tensor:
    apart = logvar - v
    precision = torch.exp(-torch.as_tensor(v, dtype=mu.dtype))
    return ((mu - m) ** 2 * precision + torch.expm1(apart) - apart) / 2


ELEMENTWISE = (
    Elementwise(
        "bernoulli_nll",
        vf.bernoulli_nll,
        _bernoulli,
        ("logits", "target"),
        target=1,
        is_probability=(1,),
        has_mask=True,
        bytes_mean=255.0,
    ),
    Elementwise(
        "bernoulli_nll",
        partial(vf.bernoulli_nll, from_probs=True),
        _bernoulli_probs,
        ("probs", "target"),
        target=1,
        is_probability=(0, 1),
        has_mask=True,
        bytes_mean=255.0,
    ),
    Elementwise(
        "gaussian_nll",
        vf.gaussian_nll,
        _gaussian,
        ("mean", "target", "logvar"),
        target=1,
        numbers=(2,),
        has_mask=True,
        bytes_mean=1.0,
    ),
    Elementwise("gaussian_kl", vf.gaussian_kl, _divergence, ("mu", "logvar"), numbers=(1,)),
    Elementwise(
        "gaussian_kl",
        vf.gaussian_kl,
        _divergence,
        ("mu", "logvar", "prior_mu", "prior_logvar"),
        numbers=(1, 2, 3),
    ),
)


def divisor(shape: Sequence[int], reduction: str, batch_dims: int) -> int:
    """What a sum is divided by."""
    averaged = {"mean": len(shape), "batchmean": batch_dims}.get(reduction, 0)
    return math.prod(shape[:averaged])


def log_softmax_nll(logits: Tensor, target: Tensor) -> Tensor:
    """The multinomial's, by class."""
    return -torch.where(target == 0, 0, target * torch.log_softmax(logits, -1))


OF_A_LAYER = {"bernoulli": _bernoulli, "gaussian": _gaussian, "multinomial": log_softmax_nll}


def layer_nll(
    operands: Sequence[Tensor], likelihood: str, reduction: str, batch_dims: int
) -> Tensor:
    """linear_nll in two steps; the operands are h, weight, bias, target and, if any, logvar."""
    h, weight, bias, target, *others = operands
    output = functional.linear(h, weight, bias)
    return reduced(OF_A_LAYER[likelihood](output, target, *others), reduction, batch_dims)


def sampled(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """The reparameterized z."""
    return mu + torch.exp(logvar / 2) * eps


def standard_noise(shape: Sequence[int], seed: Any, dtype: torch.dtype) -> Tensor:
    """What a seed draws in the arithmetic of a dtype: z of zeros is the noise itself."""
    zeros = torch.zeros(tuple(shape), dtype=dtype)
    return vf.reparameterize(zeros, zeros, seed=seed)


divergence = _divergence
