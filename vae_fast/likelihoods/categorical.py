"""The categorical likelihood: one of several classes, by their softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions.utils import lazy_property

from vae_fast.engine import checks
from vae_fast.engine.call import in_result_dtype, rowwise_loss
from vae_fast.engine.checks import shown
from vae_fast.engine.class_likelihood import ClassLikelihood
from vae_fast.engine.classes import check_classes, classes_kl, one_hot
from vae_fast.engine.distribution import assert_within, enter_kl
from vae_fast.engine.likelihood import Params
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import broadcast_shapes
from vae_fast.engine.table import LikelihoodEntry, enter_likelihood

__all__ = ["categorical_nll"]


def categorical_nll(
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of one of K classes, in nats.

    -log softmax(l)_y, or of shares t_k of all classes -sum_k t_k log softmax(l)_k; the softmax goes
    over the last dimension. A logit of -infinity excludes its class: it costs nothing, but infinity
    where it is the target.

    It is :func:`multinomial_nll` of a single count, made of the class as a byte for each logit, and
    moves what that does: in float32 6 bytes for each logit, 10 with the gradient, which is computed
    in the forward. The elements, those of ``"none"`` and ``"mean"``, are the choices and not the
    logits.

    Args:
        logits: (*batch, *event, K), not normalised.
        target: Numbers of classes from 0 to K - 1, (*batch, *event), in uint8, bool, int32 or
            int64; or shares of the classes in a dtype of floats, (*batch, *event, K). Leading batch
            dimensions may be missing, as in :func:`bernoulli_nll`.
        mask: Which choices count: bool, broadcasts to (*batch, *event). Where it leaves one out the
            class may be any number, and logits and shares NaN.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not agree, the devices differ, an unknown reduction, batch_dims
            beyond the dimensions of choices, or a number that is no class: on the CPU. In compiled
            code that is a RuntimeError, on a GPU an assertion of the device.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> vf.categorical_nll(logits, torch.tensor([0, 2]))
        tensor(0.3955)
    """
    function = "categorical_nll"
    checks.check_operands(function, ("logits",), (logits,))
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"{function}: logits has shape {shown(logits.shape)}, expected classes")
    choices = logits.detach()[..., 0]
    checks.check_public_reduction(function, reduction, batch_dims, (choices,))
    checks.check_operands(function, ("choices",), (choices,), mask)
    checks.check_tensor(function, "target", target)
    is_soft = target.is_floating_point()
    operands = (logits, target) if is_soft else (choices, target)
    names = ("logits" if is_soft else "choices", "target")
    checks.check_shapes(function, names, operands, None, batch_dims)
    checks.check_shapes(function, ("choices",), (choices,), mask, batch_dims)
    if is_soft:
        shares = target
    else:
        check_classes(function, target, logits, "logits")
        name, byte = f"{function}: target", torch.uint8
        shares = one_hot(name, target, mask, logits.shape[-1], byte)
    if mask is not None:
        counts = mask.unsqueeze(-1)
        logits, shares = torch.where(counts, logits, 0), torch.where(counts, shares, 0)
    rows: Reduction = reduction
    if reduction in ("none", "mean"):  # of the rows
        batch_dims, rows = choices.dim(), "sample" if reduction == "none" else "batchmean"
    value = rowwise_loss(function, "multinomial_nll", (logits, shares), batch_dims, rows)
    return in_result_dtype(value, logits, shares) if reduction == "none" else value


# ---- as a distribution ---------------------------------------------------------------------------


# Typed here, as torch has it without types.
_torchs_log_prob: Callable[..., Tensor] = torch.distributions.Categorical.log_prob


class Categorical(torch.distributions.Categorical):
    """One of K classes, int64 from 0 to K - 1; log_prob is :func:`categorical_nll`'s.

    It is a ``torch.distributions.Categorical``, for all that asks for one. Logits are read as they
    were given: those that sum to 1 in exp, ``logits``, are made when they are first asked for.
    Where a probability of ``probs`` is 0, log_prob is -infinity (torch's own is about -16 in
    float32).

    Args:
        probs: (*batch, K), from 0 on; divided by their sum.
        logits: (*batch, K), in place of them.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        TypeError: The parameter is no tensor, or not in a dtype of floats.
        ValueError: Both are given, or none is, or there is no class.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Categorical
        >>> p = Categorical(logits=torch.tensor([0.0, 0.0, 1.0]))
        >>> p.log_prob(torch.tensor(2)), isinstance(p, torch.distributions.Categorical)
        (tensor(-0.5514), True)
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (probs is None) == (logits is None):
            raise ValueError("Categorical: expected either probs or logits, and not both")
        name, given = ("logits", logits) if probs is None else ("probs", probs)
        checks.check_operands("Categorical", (name,), (given,))
        assert given is not None
        if given.dim() == 0 or given.shape[-1] == 0:
            raise ValueError(
                f"Categorical: {name} has shape {shown(given.shape)}, expected (*batch, K)"
            )
        validates: bool = self._validate_args if validate_args is None else validate_args
        if name == "probs":
            given = given / given.sum(-1, keepdim=True)
        self._set_parameter(name, given)
        if validates:
            self._require(self.arg_constraints[name], given, f"parameter {name}")
        self._validate_args = validates

    def _set_parameter(self, name: str, given: Tensor) -> None:
        self._name, self._param, self._num_events = name, given, given.shape[-1]
        if name == "probs":
            self.probs = given
        shape = given.shape[:-1]
        super(torch.distributions.Categorical, self).__init__(shape, validate_args=False)

    def _require(self, constraint: Any, value: Tensor, what: str) -> None:
        if torch.compiler.is_compiling():
            assert_within("Categorical", constraint, value, what)
        elif not constraint.check(value).all():
            raise ValueError(
                f"Categorical: {what}, of shape {shown(value.shape)}, is not within {constraint}"
            )

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new: Self = type(self).__new__(type(self)) if _instance is None else _instance
        new._set_parameter(self._name, self._param.expand((*batch_shape, -1)))
        new._validate_args = self._validate_args
        return new

    @lazy_property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        if self._name == "logits":
            return torch.log_softmax(self._param, -1)
        is_void = self.probs == 0
        return torch.where(is_void, -math.inf, torch.log(torch.where(is_void, 1, self.probs)))

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of each class; of ``probs``, looked up by torch."""
        if self._name == "probs":
            return _torchs_log_prob(self, value)
        if self._validate_args:
            self._validate_sample(value)
        shape = broadcast_shapes(self._batch_shape, value.shape)
        target = value if value.dtype in checks.INTEGERS else value.long()
        return -categorical_nll(
            self._param.expand((*shape, -1)), target.expand(shape), batch_dims=0, reduction="none"
        )

    def _validate_sample(self, value: Tensor) -> None:
        if torch.compiler.is_compiling():
            self._require(self.support, value, "value")
        else:
            super()._validate_sample(value)


def _kl(p: Categorical, q: Categorical) -> Tensor:
    return classes_kl(p.logits, q.logits, -1)


def _of_torch(p: torch.distributions.Categorical) -> Categorical:
    """By its probabilities, where it was made of them: its own logits of 0 are not -infinity."""
    if p._param is p.__dict__.get("probs"):
        return Categorical(p.probs, validate_args=False)
    return Categorical(logits=p.logits, validate_args=False)


enter_kl(Categorical, _kl, {torch.distributions.Categorical: _of_torch})


# ---- of a decoder --------------------------------------------------------------------------------


class CategoricalLikelihood(ClassLikelihood):
    """Each element of x is one of K classes, which have no order; of the logits of all of them.

    The encoder reads them one-hot, K numbers for each element, behind each other along dimension 1:
    a class's number would tell it of an order and of distances that there are not.
    """

    name = "categorical"

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__(num_classes)
        self.per_element = self.num_classes

    def forward(self, raw: Tensor) -> Tensor:
        """The logits, (B, *input_shape, K)."""
        return torch.unflatten(raw, 1, (-1, self.num_classes)).movedim(2, -1)

    def encoded(self, prepared: Tensor) -> Tensor:
        """One-hot, (B, `encoded_shape`)."""
        codes = one_hot("x", prepared, None, self.num_classes, prepared.dtype)
        return codes.movedim(-1, 2).flatten(1, 2)

    def encoded_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """K times as many along the first dimension."""
        return self.raw_shape(input_shape)

    def mean(self, params: Params) -> Tensor:
        """The most probable class: what has no order has no expectation."""
        assert isinstance(params, Tensor)
        return params.argmax(-1).to(params.dtype)


enter_likelihood(
    "categorical",
    LikelihoodEntry(
        categorical_nll,
        head=CategoricalLikelihood,
        distribution=Categorical,
        own_shape=True,
    ),
)
