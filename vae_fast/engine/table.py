"""The tables that the rest of the engine reads: losses by their op's name, likelihoods by theirs.

What has a formula enters itself (the files of :mod:`vae_fast.likelihoods`, the divergences of
:mod:`vae_fast.latent`); nothing in the engine names one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vae_fast.engine import batching, checks, fakes
from vae_fast.engine.extension import C

if TYPE_CHECKING:
    from vae_fast.engine.likelihood import Likelihood


@dataclass(frozen=True)
class Loss:
    """A loss in plain PyTorch, in nats: its operands' names, its value, its gradient in each.

    Of one element at a time, in float32 or float64. ``gradients`` are explicit, right at the
    extremes, and differentiable themselves to any order; a plain derivative of ``value`` would be
    none of these. An operand called ``target``, where there is one, comes last.

    Attributes:
        operands: Their names, in the op's order.
        value: Of each element.
        gradients: Of an element's value in each operand; where ``rowwise``, of a row's sum.
        uint8_unit: What a uint8 target is divided by. Beside another number than one, wider
            integers would be ambiguous, and are refused.
        rowwise: The elements of a row, along the last dimension, hang together. All operands have
            one shape, there is no mask, and ``value`` differentiates by itself, to any order. The
            op's kernels give the gradient in the first operand.
        counts: Its target are counts, of which most may be zero: it may be in CSR.
    """

    operands: tuple[str, ...]
    value: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, ...]]
    uint8_unit: float = 1.0
    rowwise: bool = False
    counts: bool = False

    @property
    def integers(self) -> tuple[torch.dtype, ...]:
        """What a target may be besides a float."""
        return checks.INTEGERS if self.uint8_unit == 1 else checks.BYTES


LOSSES: dict[str, Loss] = {}


def enter_loss(op: str, loss: Loss) -> None:
    """Makes the loss known, and tells torch what it needs from Python for its op."""
    LOSSES[op] = loss
    if C is not None:
        fakes.register_loss(op, loss.operands, loss.integers, loss.rowwise)
        batching.register_loss(op, len(loss.operands), loss.rowwise)


@dataclass(frozen=True)
class LikelihoodEntry:
    """What is known of a likelihood by the name that ``likelihood=`` takes.

    Attributes:
        function: The public one: of the first parameter, the target, the other parameters, and
            ``mask=``, ``batch_dims=``, ``reduction=``.
        op: What computes it from a linear layer's output as its first operand, where it may be
            chosen in ``linear_nll`` and models may be one op; an operand between that and the
            target, at most one, is the ``logvar`` there.
        head: What makes its parameters out of a decoder's output, where models may have it.
        distribution: Its class of :mod:`vae_fast.distributions`.
        own_shape: Its first parameter is not of the target's shape: the function says of which.
        no_mask: Why it takes no mask, and what to do instead; None: it takes one.
        parameter_counts: How many parameters the function takes.
        defaults: What stands for each of them that is not given, where something does.
    """

    function: Callable[..., Tensor]
    op: str | None = None
    head: type[Likelihood] | None = None
    distribution: type[torch.distributions.Distribution] | None = None
    own_shape: bool = False
    no_mask: str | None = None
    parameter_counts: range = field(init=False)
    defaults: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        arguments = inspect.signature(self.function).parameters.values()
        params = [x for x in arguments if x.kind is x.POSITIONAL_OR_KEYWORD and x.name != "target"]
        least = sum(x.default is x.empty for x in params)
        object.__setattr__(self, "parameter_counts", range(least, len(params) + 1))
        object.__setattr__(self, "defaults", tuple(x.default for x in params))

    def masked(self, function: str, likelihood: str, mask: Tensor | None) -> dict[str, Any]:
        """The mask as an argument of the likelihood's function; none where none is given.

        Raises:
            ValueError: It is given to a likelihood that takes none.
        """
        if mask is None:
            return {}
        if self.no_mask is not None:
            raise ValueError(
                f"{function}: mask is given, which {likelihood!r} does not have: {self.no_mask}"
            )
        return {"mask": mask}


LIKELIHOODS: dict[str, LikelihoodEntry] = {}


def enter_likelihood(name: str, entry: LikelihoodEntry) -> None:
    """Makes the likelihood known by its name."""
    LIKELIHOODS[name] = entry
