"""The ordinal likelihood of classes in an order: the cumulative logit model."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from vae_fast.engine import checks
from vae_fast.engine.call import in_result_dtype, loss
from vae_fast.engine.checks import shown
from vae_fast.engine.class_likelihood import ClassLikelihood
from vae_fast.engine.classes import check_classes, classes_kl, looked_up
from vae_fast.engine.distribution import FewValued, enter_kl, whole_numbers_to
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.likelihood import Params
from vae_fast.engine.logarithms import minus_log
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import broadcast_shapes, fits_into
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["ordinal_nll"]


def ordinal_nll(
    location: Tensor,
    target: Tensor,
    cutpoints: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of one of K classes in an order, in nats.

    The cumulative logit model (McCullagh 1980, "Regression models for ordinal data"):
    P(y <= k) = sigmoid(c_k - location). With c_-1 = -infinity and c_(K-1) = infinity the class y
    costs

        -log(sigmoid(c_y - location) - sigmoid(c_(y-1) - location)),

    evaluated as three factors whose logarithms have one sign, exact however close two cutpoints
    are. torch looks the two cutpoints of each element up, in a pass for each, and adds up their
    gradients. The kernel reads them and the location once and, where gradients are wanted, writes
    them once, in the forward: 12 bytes per element in float32, 16 with the location's gradient, 24
    with all.

    Args:
        location: (*batch, *event).
        target: Numbers of classes from 0 to K - 1, in uint8, bool, int32 or int64, of location's
            shape; leading batch dimensions may be missing, as in :func:`bernoulli_nll`.
        cutpoints: K - 1 along the last dimension, in rising order: (K - 1,) for all elements alike,
            or in front of it a shape that broadcasts to location's, (*event, K - 1) for example.
            Where the two of a class are equal it costs infinity (their gradients are held at
            1e30); where they are the wrong way round the result is NaN.
        mask: As in :func:`bernoulli_nll`; where it leaves the target out that may be any number.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction,
            batch_dims beyond the dimensions, or a target that is no class: on the CPU. In compiled
            code that is a RuntimeError, on a GPU an assertion of the device.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> cutpoints = torch.tensor([-1.0, 1.0])  # between 3 classes
        >>> answers = torch.tensor([[0, 1, 2]])
        >>> vf.ordinal_nll(torch.zeros(1, 3), answers, cutpoints, reduction="none")
        tensor([[1.3133, 0.7719, 1.3133]])
    """
    _check(location, target, cutpoints, mask, batch_dims, reduction)
    # In the arithmetic's dtype, in which their gradients are added up.
    lower, upper = _ends(cutpoints.to(arithmetic_dtype((location, cutpoints))), target, mask)
    value = interval_nll(
        location, lower, upper, mask=mask, batch_dims=batch_dims, reduction=reduction
    )
    return in_result_dtype(value, location, cutpoints) if reduction == "none" else value


def interval_nll(
    location: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """The op: :func:`ordinal_nll` of classes between these two cutpoints."""
    return loss("ordinal_nll", "ordinal_nll", (location, lower, upper), mask, batch_dims, reduction)


def _check(
    location: Tensor,
    target: Tensor,
    cutpoints: Tensor,
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> None:
    function = "ordinal_nll"
    checks.check_operands(function, ("location",), (location,), mask)
    check_classes(function, target, location, "location")
    checks.check_operands(function, ("cutpoints",), (cutpoints,))
    if cutpoints.device != location.device:
        raise ValueError(
            f"{function}: cutpoints is on {cutpoints.device}, expected {location.device} like "
            f"location"
        )
    checks.check_public_reduction(function, reduction, batch_dims, (location,))
    checks.check_shapes(function, ("location", "target"), (location, target), mask, batch_dims)
    if cutpoints.dim() == 0 or not fits_into(cutpoints.shape[:-1], location.shape):
        raise ValueError(
            f"{function}: cutpoints has shape {shown(cutpoints.shape)}, expected (K - 1,), or in "
            f"front of that what broadcasts to location's shape, {shown(location.shape)}"
        )


def _ends(cutpoints: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The cutpoints below and above each class."""
    sets, classes = cutpoints.shape[:-1], cutpoints.shape[-1] + 1
    edge = cutpoints.new_full((*sets, 1), math.inf)
    below = torch.cat((-edge, cutpoints), -1).flatten()
    above = torch.cat((cutpoints, edge), -1).flatten()

    def look_up(index: Tensor) -> Tensor:
        if sets:  # each has its part of the flattened table, beyond which it must not be read
            first = torch.arange(0, below.numel(), classes, device=index.device).view(sets)
            index = torch.where((index >= 0) & (index < classes), index + first, below.numel())
        ends = (x.index_select(0, index.flatten()).view_as(index) for x in (below, above))
        return torch.stack(tuple(ends))

    lower, upper = looked_up("ordinal_nll: target", target, mask, classes, look_up)
    return lower, upper


# ---- in plain PyTorch ----------------------------------------------------------------------------


class _Parts:
    """What the value and the gradients need.

    Of a = upper - location and b = lower - location: -a, b, and the width a - b, NaN where it is
    negative. An end that is infinite is so from wherever the location is.
    """

    def __init__(self, location: Tensor, lower: Tensor, upper: Tensor) -> None:
        self.minus_a = torch.where(upper == math.inf, -math.inf, location - upper)
        self.b = torch.where(lower == -math.inf, -math.inf, lower - location)
        width = upper - lower
        self.is_empty = width == 0
        self.width = torch.where(width > 0, width, torch.where(self.is_empty, 1, math.nan))


def _value(location: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """-log(sigmoid(upper - location) - sigmoid(lower - location))."""
    parts = _Parts(location, lower, upper)
    _, log_mass = minus_log(-torch.exp(-parts.width), -torch.expm1(-parts.width))
    part_a, part_b = (
        x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())) for x in (parts.minus_a, parts.b)
    )
    return (part_a + part_b) - torch.where(parts.is_empty, -math.inf, log_mass)


def _gradients(location: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, ...]:
    parts = _Parts(location, lower, upper)
    to_a, to_b = torch.sigmoid(parts.minus_a), torch.sigmoid(parts.b)
    odds = torch.exp(-parts.width) / -torch.expm1(-parts.width)
    # Finite of no width, so that 0 times it is 0, and the same in any arithmetic.
    odds = torch.where(parts.is_empty, 1e30, odds)
    return to_a - to_b, to_b + odds, -(to_a + odds)


enter_loss("ordinal_nll", Loss(("location", "lower", "upper"), _value, _gradients))


# ---- as a distribution ---------------------------------------------------------------------------


class _Rising(constraints.Constraint):
    """Vectors whose elements do not fall."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        in_order = (value[..., 1:] >= value[..., :-1]).all(-1)
        return in_order & ~value.isnan().any(-1)


class Ordinal(FewValued):
    """Of classes in an order, int64 from 0 to K - 1; log_prob is :func:`ordinal_nll`'s.

    mean, mode, variance, entropy and the divergence of two are sums over all classes: of as many
    times the memory.

    Args:
        location: Of the logistic that the cutpoints divide.
        cutpoints: K - 1 along the last dimension, in rising order; what is in front of that
            broadcasts with location.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Ordinal
        >>> p = Ordinal(torch.tensor(0.0), torch.tensor([-1.0, 1.0]))  # 3 classes
        >>> p.log_prob(torch.tensor([0, 1, 2])), p.mode
        (tensor([-1.3133, -0.7719, -1.3133]), tensor(1.))
    """

    nll = staticmethod(ordinal_nll)
    arg_constraints: ClassVar = {"location": constraints.real, "cutpoints": _Rising()}
    location: Tensor
    cutpoints: Tensor

    def __init__(
        self, location: Tensor | float, cutpoints: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(location, cutpoints, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The numbers of the classes."""
        return whole_numbers_to(self.cutpoints.shape[-1])

    def _cost(self, value: Tensor) -> Tensor:
        return super()._cost(value if value.dtype in checks.INTEGERS else value.long())

    def _draw(self, location: Tensor, cutpoints: Tensor) -> Tensor:
        """How many cutpoints lie below the logistic's."""
        x = location + torch.logit(torch.rand_like(location))
        return (cutpoints < x.unsqueeze(-1)).sum(-1)

    @property
    def _sample_dtype(self) -> torch.dtype:
        return torch.int64

    def _values(self) -> Tensor:
        classes, dtype = self.cutpoints.shape[-1] + 1, arithmetic_dtype(self._given)
        return torch.arange(classes, dtype=dtype, device=self.location.device)


def _kl(p: Ordinal, q: Ordinal) -> Tensor:
    shape = broadcast_shapes(p.batch_shape, q.batch_shape)
    _, costs = p.expand(shape)._all()
    _, others = q.expand(shape)._all()
    if len(costs) != len(others):
        raise ValueError(f"Ordinal: p has {len(costs)} classes and q has {len(others)}")
    return classes_kl(-costs, -others, 0)


enter_kl(Ordinal, _kl, {})


# ---- of a decoder --------------------------------------------------------------------------------


# The cutpoints' parameters are these times this: Adam moves each by the learning rate a step, too
# slowly for what is to go from equal shares to those of the data.
_GAIN = 10.0


class OrdinalLikelihood(ClassLikelihood):
    """Each element of x is one of K classes in an order: grades, levels, answers.

    The decoder gives its location; its K - 1 cutpoints are the model's, the same for all data. They
    are learned as the first one and the logarithms of the distances to the next, so that they
    stay in order, and begin where a location of 0 makes all classes equally probable. The encoder
    reads k / (K - 1): one number for each element, in [0, 1] as intensities are, which tells it of
    the order.

    Args:
        input_shape: Of a datum.
        num_classes: K.

    Raises:
        ValueError: K is no whole number from 2 to 256.
    """

    name = "ordinal"
    settings = ("input_shape", "num_classes")

    def __init__(self, input_shape: tuple[int, ...], num_classes: int | None = None) -> None:
        super().__init__(num_classes)
        below = torch.arange(1, self.num_classes) / self.num_classes
        cutpoints = torch.logit(below)
        start = torch.cat((cutpoints[:1], cutpoints.diff().log()))
        self.slow_steps = nn.Parameter(start.expand(*input_shape, -1) / _GAIN)

    @property
    def cutpoints(self) -> Tensor:
        """(*input_shape, K - 1), in rising order."""
        steps = self.slow_steps * _GAIN
        first, logs = steps[..., :1], steps[..., 1:]
        return torch.cat((first, torch.exp(logs)), -1).cumsum(-1)

    def encoded(self, prepared: Tensor) -> Tensor:
        """Each class over K - 1."""
        levels = torch.linspace(
            0, 1, self.num_classes, dtype=prepared.dtype, device=prepared.device
        )

        def look_up(index: Tensor) -> Tensor:
            return levels.index_select(0, index.flatten()).view_as(index)

        return looked_up("x", prepared, None, self.num_classes, look_up)

    def mean(self, params: Params) -> Tensor:
        """The expected class, a number from 0 to K - 1: the sum of P(y > k)."""
        assert isinstance(params, Tensor)
        return torch.sigmoid(params.unsqueeze(-1) - self.cutpoints).sum(-1)

    def nll(
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: Reduction
    ) -> Tensor:
        """The negative log-likelihood of the location beside the model's cutpoints, in nats."""
        assert isinstance(params, Tensor)
        return super().nll((params, self.cutpoints), x, prepared, batch_dims, reduction)


enter_likelihood(
    "ordinal", LikelihoodEntry(ordinal_nll, head=OrdinalLikelihood, distribution=Ordinal)
)
