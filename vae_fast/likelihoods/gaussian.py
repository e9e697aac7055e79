"""The Gaussian likelihood."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional

from vae_fast.engine.call import as_tensor, in_result_dtype, logvar_of, loss
from vae_fast.engine.checks import is_number
from vae_fast.engine.distribution import Symmetric, enter_kl
from vae_fast.engine.likelihood import Likelihood, Params
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.engine.standardized import standardized
from vae_fast.engine.table import LikelihoodEntry, Loss, enter_likelihood, enter_loss

__all__ = ["gaussian_nll"]


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
            "pixel", one for each element and z, given by the decoder beside the mean; or a number
            that stays fixed.
        min_logvar: a lower bound of those that are learned; see `LatentModel`.

    Raises:
        ValueError: an argument is none of these.
    """

    name = "gaussian"
    data = "numbers"
    settings = ("decoder_logvar", "min_logvar")

    def __init__(
        self,
        decoder_logvar: Literal["learned", "pixel"] | float = "learned",
        min_logvar: float | None = None,
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
        elif decoder_logvar != "pixel":
            if not _is_finite(decoder_logvar):  # who calls may not check types
                raise ValueError(
                    f"decoder_logvar is {decoder_logvar!r}; expected 'learned', 'pixel' or a "
                    "finite number"
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
