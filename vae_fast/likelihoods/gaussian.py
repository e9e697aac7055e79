"""The Gaussian likelihood."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional

from vae_fast.engine.call import as_tensor, in_result_dtype, logvar_of, loss
from vae_fast.engine.checks import (
    FLOATS,
    check_choice,
    check_kind,
    check_public_reduction,
    check_tensor,
    is_number,
    shown,
)
from vae_fast.engine.distribution import Symmetric, enter_kl
from vae_fast.engine.dtypes import arithmetic_dtype
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import broadcast_shape, same_shape
from vae_fast.engine.standardized import standardized
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["gaussian_nll", "optimal_logvar"]

OptimalPer = Literal["all", "feature", "datum"]
DecoderLogvar = Literal["learned", "optimal", "pixel"] | float


def gaussian_nll(
    mean: Tensor,
    target: Tensor,
    logvar: Tensor | float = 0.0,
    *,
    scale: Tensor | float | None = None,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Gaussian distribution, in nats.

    (log 2 pi + logvar + (x - mean)^2 exp(-logvar)) / 2, with the constant; a difference of zero
    costs nothing at any precision. A learned scalar logvar is the sigma-VAE's (Rybkin et al. 2021).

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32, 20 with the gradients in mean and logvar. A logvar
    that broadcasts costs no memory, and its gradient is summed in the same pass.

    Args:
        mean: (*batch, *event).
        target: Of mean's shape, as in :func:`bernoulli_nll`. uint8, bool, int32 and int64 mean the
            numbers that they hold, and are not copied.
        logvar: Logarithm of the variance, fixed (a number) or learned (a tensor that broadcasts
            to mean: one for everything, per feature, per element).
        scale: The standard deviation, in place of logvar, which is then 2 log scale (a pass of its
            own, of the size of scale); of a negative one that is NaN, and so is the loss.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See :mod:`vae_fast`.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction,
            batch_dims beyond the dimensions, or scale with a logvar other than 0.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mean, x = torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])
        >>> vf.gaussian_nll(mean, x)  # of variance 1
        tensor(3.8379)
        >>> vf.gaussian_nll(mean, x, scale=2.0)
        tensor(3.7242)
        >>> logvar = torch.zeros(1, 2, requires_grad=True)  # a learned variance
        >>> vf.gaussian_nll(mean, x, logvar).backward()
        >>> logvar.grad
        tensor([[ 0.5000, -1.5000]])
    """
    if scale is not None:
        given = None if is_number(logvar) and logvar == 0 else logvar
        value = gaussian_nll(
            mean,
            target,
            logvar_of("gaussian_nll", given, scale, "mean", mean, target),
            mask=mask,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        return in_result_dtype(value, mean, scale, target) if reduction == "none" else value
    operands = (mean, as_tensor(logvar, mean, target), target)
    return loss("gaussian_nll", "gaussian_nll", operands, mask, batch_dims, reduction)


def optimal_logvar(
    mean: Tensor, target: Tensor, *, per: OptimalPer = "all", batch_dims: int = 1
) -> Tensor:
    """The logarithm of the variance that makes a Gaussian's likelihood greatest: the mean square.

    The sigma-VAE's (Rybkin et al. 2021, "Simple and effective VAE training with calibrated
    decoders"): the variance that a decoder would learn, found at once. Given to
    :func:`gaussian_nll` it makes the nll of D elements D / 2 (log(2 pi e) + logvar), and, as the
    nll is least there, the gradient in the mean that of a variance held fixed: divided by it, so
    that it balances the KL term with no weight to be tuned. Of a target that mean has exactly it is
    -infinity.

    Args:
        mean: (*batch, *event).
        target: Of the same shape.
        per: Of what there is one variance: "all" elements of the batch; each "feature", over the
            batch; or each "datum", over its event.
        batch_dims: How many leading dimensions are batch.

    Returns:
        It broadcasts to mean, with the same number of dimensions; at least float32.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes differ, or per is something else.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mean, x = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
        >>> vf.optimal_logvar(mean, x).exp()
        tensor([[2.5000]])
        >>> vf.optimal_logvar(mean, x, per="feature").exp()
        tensor([[1., 4.]])
        >>> nll = vf.gaussian_nll(mean, x, vf.optimal_logvar(mean, x))
    """
    name = "optimal_logvar"
    for argument, value in (("mean", mean), ("target", target)):
        check_tensor(name, argument, value)
    check_kind(name, "mean", mean, FLOATS, "mean", mean)
    check_choice(name, "per", per, get_args(OptimalPer))
    if not same_shape(mean.shape, target.shape):
        raise ValueError(
            f"{name}: target has shape {shown(target.shape)}, expected mean's {shown(mean.shape)}"
        )
    check_public_reduction(name, "batchmean", batch_dims, (mean,))
    return _mean_square(mean, target, per, batch_dims).log()


def _mean_square(mean: Tensor, target: Tensor, per: OptimalPer, batch_dims: int) -> Tensor:
    dims = {"all": (0, mean.dim()), "feature": (0, batch_dims), "datum": (batch_dims, mean.dim())}
    over = tuple(range(*dims[per]))
    dtype = arithmetic_dtype((mean, target))
    square = (mean.to(dtype) - target.to(dtype)).square()
    return square.mean(over, keepdim=True) if over else square


# ---- in plain PyTorch ----------------------------------------------------------------------------


def _value(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    """-log N(target; mean, exp(logvar))."""
    half_square, _ = standardized(mean, target, logvar)
    return half_square + 0.5 * (math.log(2 * math.pi) + logvar)


def _gradients(mean: Tensor, logvar: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    half_square, slope = standardized(mean, target, logvar)
    return slope, 0.5 - half_square, -slope


enter_loss("gaussian_nll", Loss(("mean", "logvar", "target"), _value, _gradients))


# ---- as a distribution ---------------------------------------------------------------------------


class Normal(Symmetric):
    """Of real numbers, as ``torch.distributions.Normal``; log_prob is :func:`gaussian_nll`'s.

    Args:
        loc: The function's ``mean``.
        logvar: Logarithm of the variance.
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Normal
        >>> p, q = Normal(torch.tensor(1.0), logvar=0.0), torch.distributions.Normal(0.0, 1.0)
        >>> p.log_prob(torch.tensor(1.0)), torch.distributions.kl_divergence(p, q)
        (tensor(-0.9189), tensor(0.5000))
    """

    nll = staticmethod(gaussian_nll)
    arg_constraints: ClassVar = {"loc": constraints.real, "logvar": constraints.real}
    logvar: Tensor

    def __init__(
        self,
        loc: Tensor | float,
        logvar: Tensor | float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(loc, logvar, validate_args=validate_args)

    def _draw(self, loc: Tensor, logvar: Tensor) -> Tensor:
        return loc + torch.exp(0.5 * logvar) * torch.randn_like(loc)

    @property
    def variance(self) -> Tensor:
        """exp(logvar)."""
        return torch.exp(self.logvar)

    def entropy(self) -> Tensor:
        """(1 + log 2 pi + logvar) / 2."""
        return 0.5 * (math.log(2 * math.pi) + 1 + self.logvar)


def normal_kl(p: Any, q: Any) -> Tensor:
    """KL(p || q) of what has a loc and a logvar, as :func:`vae_fast.gaussian_kl` has it."""
    whole = p.loc.expand(broadcast_shape((p.loc, q.loc)))
    operands = (whole, p.logvar, q.loc, q.logvar)
    return loss("kl_divergence", "gaussian_kl", operands, None, 0, "none")


def _of_torch(p: torch.distributions.Normal) -> Normal:
    return Normal(p.loc, 2 * torch.log(p.scale))


enter_kl(Normal, normal_kl, {torch.distributions.Normal: _of_torch})


# ---- of a decoder --------------------------------------------------------------------------------


# The learned log-variance is a parameter times this. Adam moves a parameter by the learning rate a
# step, whatever the gradient: at 1e-3, too slowly for a number that has to go from 0 to -5, and
# while the variance is still large, the codes collapse onto the prior.
_GAIN = 10.0


class GaussianLikelihood(Likelihood):
    """Each element of x is real; the parameters are its mean and its log-variance.

    Args:
        decoder_logvar: "learned", one log-variance for all elements, learned with the network;
            "optimal", the best one for each batch (`OptimalGaussianLikelihood`, which it then is);
            "pixel", one for each element and z, given by the decoder beside the mean; or a number
            that stays fixed.
        min_logvar: a lower bound of those that are learned; see `LatentModel`.

    Raises:
        ValueError: an argument is none of these.
    """

    name = "gaussian"
    data = "numbers"
    settings = ("decoder_logvar", "min_logvar")

    def __new__(
        cls, decoder_logvar: DecoderLogvar = "learned", min_logvar: float | None = None
    ) -> GaussianLikelihood:
        """A class of its own where the batch decides: fused ops are for what is known before it."""
        return super().__new__(OptimalGaussianLikelihood if decoder_logvar == "optimal" else cls)

    def __init__(
        self, decoder_logvar: DecoderLogvar = "learned", min_logvar: float | None = None
    ) -> None:
        super().__init__()
        self.per_element = 2 if decoder_logvar == "pixel" else 1
        # By value, an argument of the model as its sizes are: neither its state nor its dtype.
        self.fixed_logvar: float | None = None
        self.min_logvar = min_logvar
        if min_logvar is not None and not _is_finite(min_logvar):
            raise ValueError(f"min_logvar is {min_logvar!r}; expected a finite number or None")
        if decoder_logvar == "learned":
            # Not without dimensions: FSDP cannot divide that.
            self.slow_logvar = nn.Parameter(torch.zeros(1))
            self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
                _read_without_dimensions
            )
        elif decoder_logvar not in ("optimal", "pixel"):
            if not _is_finite(decoder_logvar):  # who calls may not check types
                raise ValueError(
                    f"decoder_logvar is {decoder_logvar!r}; expected 'learned', 'optimal', "
                    "'pixel' or a finite number"
                )
            if min_logvar is not None:
                raise ValueError(
                    f"min_logvar is {min_logvar}, but decoder_logvar {decoder_logvar} is not "
                    "learned"
                )
            self.fixed_logvar = float(decoder_logvar)

    @property
    def shared(self) -> tuple[Tensor | float, ...]:
        """The log-variance, unless it is each element's own."""
        if self.per_element == 2:
            return ()
        if self.fixed_logvar is not None:
            return (self.fixed_logvar,)
        return (self._bounded(self.slow_logvar.squeeze() * _GAIN),)

    def _bounded(self, logvar: Tensor) -> Tensor:
        if self.min_logvar is None:
            return logvar
        return self.min_logvar + functional.softplus(logvar - self.min_logvar)

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance, which broadcast against x."""
        if self.per_element == 2:
            mean, logvar = raw.chunk(2, dim=1)
            return mean, self._bounded(logvar)
        (shared,) = self.shared
        return raw, as_tensor(shared, raw)

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        return params[0]


# Of the mean square of earlier batches, each time there is another one: as in batch normalisation.
_MEMORY = 0.9


class OptimalGaussianLikelihood(GaussianLikelihood):
    """The log-variance of each batch in training is the best one (Rybkin et al. 2021, sigma-VAE).

    In evaluation, and in what is decoded, it is that of training: its mean square, averaged over
    the last batches, which is in the state. A test loss is then of a distribution that the test
    data had no part in.

    Args:
        decoder_logvar: "optimal".
        min_logvar: a lower bound; see `LatentModel`.
    """

    mean_square: Tensor

    def __init__(
        self, decoder_logvar: DecoderLogvar = "optimal", min_logvar: float | None = None
    ) -> None:
        super().__init__(decoder_logvar, min_logvar)
        # min + softplus(log(square) - min) is log(square + exp(min)), which a square of 0 has, too.
        self._least = 0.0 if min_logvar is None else math.exp(min_logvar)
        self.register_buffer("mean_square", torch.ones(()))

    @property
    def shared(self) -> tuple[Tensor | float, ...]:
        """The log-variance of training."""
        return (torch.log(self.mean_square + self._least),)

    def nll(
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: Reduction
    ) -> Tensor:
        """As of any likelihood, but in training of this batch's log-variance."""
        if self.training:
            mean = params[0]
            target = self.target(x, prepared).expand_as(mean)
            square = _mean_square(mean, target, "all", batch_dims)
            with torch.no_grad():
                self.mean_square.lerp_(square.squeeze().to(self.mean_square), 1 - _MEMORY)
            params = (mean, torch.log(square + self._least))
        return super().nll(params, x, prepared, batch_dims, reduction)


def _read_without_dimensions(
    likelihood: nn.Module, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """Earlier releases kept the log-variance without dimensions."""
    name = f"{prefix}slow_logvar"
    if name in state and state[name].dim() == 0:
        state[name] = state[name].reshape(1)


def _is_finite(value: object) -> bool:
    """As a float32, in which the functions compute."""
    return isinstance(value, int | float) and abs(value) <= torch.finfo(torch.float32).max


enter_likelihood(
    "gaussian",
    LikelihoodEntry(gaussian_nll, op="gaussian_nll", head=GaussianLikelihood, distribution=Normal),
)
