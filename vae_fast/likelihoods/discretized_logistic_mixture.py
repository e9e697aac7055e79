"""The mixture of discretized logistics of colour pixels, whose channels hang together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints

from vae_fast.engine import call, checks, extension, mixture
from vae_fast.engine.composed import enter_composition
from vae_fast.engine.distribution import Distribution
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.reductions import Reduction, reduce
from vae_fast.engine.shapes import broadcast_shapes
from vae_fast.engine.table import LikelihoodEntry, enter_likelihood
from vae_fast.likelihoods.discretized_logistic import (
    Levels,
    check_levels,
    clipped_logistic_mean,
)

__all__ = ["discretized_logistic_mixture_nll", "discretized_logistic_mixture_sample"]

_FUNCTION = "discretized_logistic_mixture_nll"
_OF_CHANNEL = "discretized_logistic_nll"
# Means, log-scales and, of three channels, coefficients: of each component and channel.
_NUMBERS = {1: 2, 3: 3}
_LEAST_LOG_SCALE = -7.0
# Typed here, as torch has it without types.
_independent: Callable[..., constraints.Constraint] = constraints.independent


def discretized_logistic_mixture_nll(
    params: Tensor,
    target: Tensor,
    *,
    num_mixtures: int | None = None,
    levels: float = 256,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of a mixture of discretized logistics, in nats.

    The distribution of a pixel of PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517), NVAE and
    VDVAE, whose decoders' output is given as it is: intensities, means and scales are of [-1, 1]
    there. With s_k = exp(max(log_scale_k, -7)) and y = 2 target - 1 of red, green and blue,

        -log sum_k softmax(logits)_k prod_c P(y_c; mean_kc, s_k),
        mean_k of green + tanh(c_k0) y_red,
        mean_k of blue + tanh(c_k1) y_red + tanh(c_k2) y_green,

    where P is the discretized logistic's of :func:`discretized_logistic_nll`, exact in narrow
    intervals too: the papers' code, which takes the density there, gives other values for narrow
    scales. Divide by the number of channels and log 2 for bits per dimension.

    In one pass: it reads params and target once and, where the gradient is wanted, writes it once,
    in the forward: 8 bytes for each of the params and one for each of a uint8 target in float32. On
    CUDA the params are read twice, the second time mostly from the cache; the pixels of a warp lie
    side by side where the channels come first. Under ``torch.compile`` and ``torch.func``, for
    derivatives of derivatives and for a gradient in the target it is a composition, as
    :func:`mixture_nll`.

    Args:
        params: (*batch, N, *rest), the rest (H, W): channels first, in PixelCNN++'s order: K
            logits, then for each channel K means, K log-scales and K coefficients, N = 10 K; of a
            single channel there are no coefficients, N = 3 K. Channels last are a view:
            ``params.movedim(-1, 1)``.
        target: (*batch, C, *rest), C = 3 or 1, but for leading batch dimensions; in [0, 1], uint8
            means x / 255, as in :func:`discretized_logistic_nll`.
        num_mixtures: K; None: as many as the size N says.
        levels: How many levels there are, from 0 to 1.
        mask: bool, which pixels count; broadcasts to (*batch, *rest).
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`; the elements of ``"none"`` and ``"mean"`` are the pixels,
            (*batch, *rest).

    Returns:
        The negative log-likelihood, reduced, in float32, or in float64 where an argument is.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: Shapes or devices that do not fit, or an unknown reduction.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> params = torch.zeros(1, 3 * 2, 4, 4)  # 2 components of a grey picture
        >>> picture = torch.full((1, 1, 4, 4), 128, dtype=torch.uint8)
        >>> vf.discretized_logistic_mixture_nll(params, picture, num_mixtures=2)
        tensor(99.7507)
    """
    _check(params, target, mask, num_mixtures, levels, batch_dims, reduction)
    keep, mean = mixture.keep_and_mean_of(reduction, batch_dims, params)
    channels = target.shape[batch_dims - params.dim()]
    components = params.shape[batch_dims] // _count(channels, 1)
    every_level = call.as_tensor(levels, params, target)
    numbers = (components, batch_dims, 0, keep, mean)
    if not (torch.compiler.is_compiling() or extension.use_reference(params.device.type)):
        value: Tensor | None = extension.kernels.discretized_logistic_mixture_nll(
            params, target, mask, every_level, components, channels, batch_dims, keep, mean
        )
        if value is not None:
            return value
    return _composed((params, target, mask, every_level), numbers)


def discretized_logistic_mixture_sample(
    params: Tensor,
    *,
    num_channels: int = 3,
    levels: int = 256,
    batch_dims: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws pixels of :func:`discretized_logistic_mixture_nll`: its levels, in [0, 1].

    A component for each pixel, then the channels in their order, each from what was drawn before:
    in plain PyTorch, a few passes over params.

    Args:
        params: (*batch, N, *rest), as there.
        num_channels: C, 3 or 1.
        levels: How many levels there are, at least 2.
        batch_dims: How many leading dimensions are batch.
        generator: For the noise; None: torch's default one of the device.

    Returns:
        (*batch, C, *rest), of the dtype of params.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: params have another size than a number of channels has.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> params = torch.zeros(2, 10 * 5, 8, 8)  # 5 components of a picture in colour
        >>> pictures = vf.discretized_logistic_mixture_sample(params)
        >>> pictures.shape
        torch.Size([2, 3, 8, 8])
    """
    function, last = "discretized_logistic_mixture_sample", levels - 1
    mixture.check(function, ("params",), (params,), (), None)
    mixture.check_reduction(function, "none", batch_dims, "params", params)
    if num_channels not in _NUMBERS:
        raise ValueError(f"{function}: num_channels is {num_channels!r}, expected 3 or 1")
    _check_size(function, params, num_channels, None, batch_dims)
    with torch.no_grad():
        wide = params.to(arithmetic_dtype((params,)))
        parts = _Parts.of(wide, num_channels, batch_dims)

        noise = torch.empty_like(parts.logits).exponential_(generator=generator)
        chosen = (parts.logits - noise.log()).argmax(batch_dims, keepdim=True)  # Gumbel's
        drawn: list[Tensor] = []
        for c in range(num_channels):
            mean, log_scale = (x.gather(batch_dims, chosen) for x in parts.of_channel(c, drawn))
            noise = torch.empty_like(mean).uniform_(generator=generator)
            x = mean + torch.exp(log_scale) * torch.logit(noise)
            drawn.append((x * last).round().clamp(0, last) / last)
        return torch.cat(drawn, batch_dims).to(params.dtype)


# ---- what the parameters are ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """The parameters by what they are, the components along one dimension of each.

    Attributes:
        logits: (*batch, K, *rest).
        means: One for each channel.
        log_scales: One for each channel.
        coefficients: Of green, then of blue.
    """

    logits: Tensor
    means: list[Tensor]
    log_scales: list[Tensor]
    coefficients: list[Tensor]

    @staticmethod
    def of(params: Tensor, channels: int, dim: int) -> _Parts:
        components = params.shape[dim] // _count(channels, 1)
        logits, *parts = torch.split(params, components, dim)
        numbers = _NUMBERS[channels]
        means, log_scales, *coefficients = (parts[i::numbers] for i in range(numbers))
        return _Parts(logits, means, log_scales, *coefficients or [[]])

    def of_channel(self, channel: int, before: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of a logistic of [0, 1], from the intensities of those before."""
        mean, first = self.means[channel], channel * (channel - 1) // 2
        own = self.coefficients[first : first + channel]
        for coefficient, x in zip(own, before[: len(own)], strict=True):
            mean = mean + torch.tanh(coefficient) * (2 * x - 1)
        log_scale = self.log_scales[channel].clamp(min=_LEAST_LOG_SCALE) - math.log(2)
        return 0.5 * (mean + 1), log_scale


def _count(channels: int, components: int) -> int:
    """How many parameters a pixel has."""
    return (1 + channels * _NUMBERS[channels]) * components


def _check_size(
    function: str, params: Tensor, channels: int, num_mixtures: int | None, dim: int
) -> None:
    """Raises ValueError unless params have as many numbers for a pixel as the components want."""
    size, each = params.shape[dim], _count(channels, 1)
    fits = size % each == 0 and size > 0 if num_mixtures is None else size == num_mixtures * each
    if not fits:
        expected = f"a multiple of {each}" if num_mixtures is None else f"{num_mixtures * each}"
        raise ValueError(
            f"{function}: params has shape {checks.shown(params.shape)}, expected {expected} "
            f"along dimension {dim}, for a target of {channels} channels"
        )


def _check(
    params: Tensor,
    target: Tensor,
    mask: Tensor | None,
    num_mixtures: int | None,
    levels: float,
    batch_dims: int,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is."""
    function = _FUNCTION
    mixture.check(function, ("params", "target"), (params, target), checks.BYTES, mask)
    mixture.check_reduction(function, reduction, batch_dims, "params", params)
    if not checks.is_number(levels):
        raise TypeError(f"{function}: levels is of type {type(levels).__name__}, expected a number")
    if num_mixtures is not None and not checks.is_int(num_mixtures):
        raise TypeError(
            f"{function}: num_mixtures is of type {type(num_mixtures).__name__}, expected int"
        )
    if num_mixtures is not None and num_mixtures < 1:
        raise ValueError(f"{function}: num_mixtures is {num_mixtures}, expected at least 1")
    dim = batch_dims - params.dim()
    if target.dim() < -dim or target.shape[dim] not in _NUMBERS:
        raise ValueError(
            f"{function}: target has shape {checks.shown(target.shape)}, expected 3 channels or "
            f"one along dimension {dim}"
        )
    channels = target.shape[dim]
    batch, rest = params.shape[:batch_dims], params.shape[batch_dims + 1 :]
    mixture.check_target(function, target, (*batch, channels, *rest), batch_dims)
    _check_size(function, params, channels, num_mixtures, batch_dims)
    if mask is not None:
        mixture.check_fits(function, "mask", mask, (*batch, *rest))


def _composed(tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor:
    params, target, mask, levels = tensors
    _, dim, _, keep, mean = numbers
    assert params is not None
    assert target is not None
    assert levels is not None
    dtype = arithmetic_dtype((params, target))
    x = target.to(dtype) / 255 if target.dtype == torch.uint8 else target.to(dtype)
    raw, along = params.to(dtype), dim - params.dim()
    counted = None
    if mask is not None:  # where it is false, anything may be NaN
        counted = mask.expand(raw.select(dim, 0).shape)
        raw = torch.where(counted.unsqueeze(dim), raw, 0)
    channels = target.shape[along]
    each = [part.expand(raw.narrow(dim, 0, 1).shape) for part in torch.split(x, 1, along)]
    if counted is not None:
        each = [torch.where(counted.unsqueeze(dim), part, 0) for part in each]
    parts = _Parts.of(raw, channels, dim)
    logistics = [parts.of_channel(c, each) for c in range(channels)]

    def costs(selected: Tensor | None) -> Tensor:
        if counted is not None:
            pixels = counted.unsqueeze(dim).expand(parts.logits.shape)
            selected = pixels if selected is None else selected & pixels
        values = [
            call.loss(
                _OF_CHANNEL,
                _OF_CHANNEL,
                (location, log_scale, levels, part.expand(location.shape)),
                selected,
                0,
                "none",
            )
            for (location, log_scale), part in zip(logistics, each, strict=True)
        ]
        return torch.stack(values).sum(0)

    value = mixture.mix(parts.logits, costs, dim)
    return reduce(value if counted is None else torch.where(counted, value, 0), keep, mean)


enter_composition(_FUNCTION, _composed)


# ---- as a distribution ---------------------------------------------------------------------------


class DiscretizedLogisticMixture(Distribution):
    """Of pictures (C, H, W) whose pixels are levels; log_prob is that of a picture.

    That is :func:`discretized_logistic_mixture_nll`'s, summed over the pixels, and sample is
    :func:`discretized_logistic_mixture_sample`. There are no moments: those of a channel are sums
    over all levels of the channels before it.

    Args:
        params: (*batch, N, H, W), as the function's.
        num_channels: C, 3 or 1.
        levels: How many levels there are, from 0 to 1.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        ValueError: Another number of channels, less than two levels, or params of another size than
            any number of components has.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import DiscretizedLogisticMixture
        >>> p = DiscretizedLogisticMixture(torch.zeros(2, 10 * 5, 8, 8))
        >>> pictures = p.sample()
        >>> pictures.shape, p.log_prob(pictures).shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2]))
    """

    nll = staticmethod(discretized_logistic_mixture_nll)
    arg_constraints: ClassVar = {"params": _independent(constraints.real, 3)}
    reads_bytes = True
    params: Tensor

    def __init__(
        self,
        params: Tensor,
        num_channels: int = 3,
        levels: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        owner = "DiscretizedLogisticMixture"
        if num_channels not in _NUMBERS:
            raise ValueError(f"{owner}: num_channels is {num_channels!r}, expected 3 or 1")
        check_levels(owner, levels)
        self.num_channels, self.levels = num_channels, levels
        super().__init__(params, validate_args=validate_args)
        _check_size(owner, self._given[0], num_channels, None, params.dim() - 3)

    def _shape_of_event(self) -> torch.Size:
        return torch.Size((self.num_channels, *self._given[0].shape[-2:]))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new: Self = type(self).__new__(type(self)) if _instance is None else _instance
        new.num_channels, new.levels = self.num_channels, self.levels
        return super().expand(batch_shape, new)

    @property
    def support(self) -> constraints.Constraint:
        """Pictures of levels."""
        return _independent(Levels(self.levels), 3)

    def _cost(self, value: Tensor) -> Tensor:
        shape = broadcast_shapes(self._batch_shape, value.shape[:-3])
        (params,), target = self._wide(shape), value.expand(shape + self._event_shape)
        how: dict[str, Any] = {"batch_dims": len(shape), "reduction": "sample"}
        return self.nll(params, target, levels=self.levels, **how)

    def _draw(self, params: Tensor) -> Tensor:
        return discretized_logistic_mixture_sample(
            params,
            num_channels=self.num_channels,
            levels=self.levels,
            batch_dims=params.dim() - 3,
        )


# ---- of a decoder --------------------------------------------------------------------------------


class DiscretizedLogisticMixtureLikelihood(Likelihood):
    """Each pixel of x, in colour or grey, has 256 levels from 0 to 1; of K mixed logistics.

    Args:
        input_shape: (C, H, W), C = 3 or 1.
        num_mixtures: K; None: 10.

    Raises:
        ValueError: It is another shape, or K is no whole number from 1 on.
    """

    name = "discretized_logistic_mixture"
    data = "intensities"
    settings = ("input_shape", "num_mixtures")

    def __init__(self, input_shape: tuple[int, ...], num_mixtures: int | None = None) -> None:
        super().__init__()
        if len(input_shape) != 3 or input_shape[0] not in _NUMBERS:
            raise ValueError(
                f"input_shape is {input_shape}; likelihood {self.name!r} needs pictures (C, H, W) "
                f"with 3 channels or one"
            )
        num_mixtures = 10 if num_mixtures is None else num_mixtures
        if not checks.is_int(num_mixtures) or num_mixtures < 1:
            raise ValueError(f"num_mixtures is {num_mixtures!r}; expected a whole number from 1 on")
        self.channels, self.num_mixtures = input_shape[0], int(num_mixtures)

    def forward(self, raw: Tensor) -> Params:
        """What the decoder gave, (B, N, H, W)."""
        return raw

    def raw_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, H, W)."""
        return _count(self.channels, self.num_mixtures), *input_shape[1:]

    def mean(self, params: Params) -> Tensor:
        """The expected x, in each component that of a channel whose predecessors are at theirs."""
        assert isinstance(params, Tensor)
        parts = _Parts.of(params, self.channels, params.dim() - 3)
        means: list[Tensor] = []
        for c in range(self.channels):
            means.append(clipped_logistic_mean(*parts.of_channel(c, means)))
        shares = torch.softmax(parts.logits, -3)
        return torch.stack([(shares * mean).sum(-3) for mean in means], -3)


enter_likelihood(
    "discretized_logistic_mixture",
    LikelihoodEntry(
        discretized_logistic_mixture_nll,
        head=DiscretizedLogisticMixtureLikelihood,
        distribution=DiscretizedLogisticMixture,
        own_shape=True,
    ),
)
