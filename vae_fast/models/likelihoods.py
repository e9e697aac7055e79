"""How a decoder's output becomes the distribution p(x | z).

A likelihood is a module: it says how many numbers it wants for each element of x, makes the
distribution's parameters out of them, and gives the distribution's mean. Its loss is the function
of the same name in `vae_fast.functional.LIKELIHOODS`. To add one here, write its class and enter it
into `LIKELIHOODS`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_fast import functional as F  # noqa: N812
from vae_fast.linear import linear_nll
from vae_fast.models.fused import Plain

# One tensor, or several, in the order in which the likelihood's function takes them.
Params: TypeAlias = Tensor | tuple[Tensor, ...]


# The learned log-variance is a parameter times this. Adam moves a parameter by the learning rate a
# step, whatever the gradient: at 1e-3, too slowly for a number that has to go from 0 to -5, and
# while the variance is still large, the codes collapse onto the prior.
_GAIN = 10.0


class Likelihood(nn.Module):
    """A distribution p(x | z) of independent elements."""

    name: ClassVar[str]
    reads_bytes: ClassVar[bool]  # whether its function takes uint8 data for x / 255
    per_element: int = 1  # numbers that the decoder gives for each element of x

    def forward(self, raw: Tensor) -> Params:
        """The distribution's parameters, from what the decoder gave."""
        return raw

    @property
    def shared(self) -> tuple[Tensor | float, ...]:
        """The parameters behind the first one where all elements have them in common."""
        return ()

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        raise NotImplementedError

    def nll(
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: F.Reduction
    ) -> Tensor:
        """The negative log-likelihood, in nats.

        Args:
            params: from `forward`; samples of z are leading dimensions that x does not have.
            x: the data as they came, uint8 perhaps.
            prepared: the data as the encoder reads them, floats.
            batch_dims: how many leading dimensions of the parameters are batch.
            reduction: see `vae_fast.functional`.
        """
        first, *others = params if isinstance(params, tuple) else (params,)
        target = x if self.reads_bytes else prepared
        function = F.LIKELIHOODS[self.name]
        return function(first, target, *others, batch_dims=batch_dims, reduction=reduction)

    def linear_nll(self, h: Tensor, layer: nn.Linear, x: Tensor, prepared: Tensor) -> Tensor:
        """The same of what a linear layer gives, which is not made: per datum, in nats.

        Where the decoder gives one number for each element of x.

        Args:
            h: (B, in), what the layer reads.
            layer: gives the first of the parameters, flattened.
            x: the data as they came, uint8 perhaps.
            prepared: the data as the encoder reads them, floats.
        """
        target = (x if self.reads_bytes else prepared).flatten(1)
        likelihood = cast(Any, self.name)
        return linear_nll(h, layer.weight, layer.bias, target, *self.shared, likelihood=likelihood)


class BernoulliLikelihood(Likelihood):
    """Each element of x is an intensity in [0, 1]; the parameters are its logits."""

    name = "bernoulli"
    reads_bytes = True

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        return torch.sigmoid(cast(Tensor, params))


class GaussianLikelihood(Likelihood):
    """Each element of x is real; the parameters are its mean and its log-variance.

    Args:
        logvar: "learned", one log-variance for all elements, learned with the network; "pixel", one
            for each element and z, given by the decoder beside the mean; or a number that stays
            fixed.
        min_logvar: a lower bound of those that are learned; see `LatentModel`.

    Raises:
        ValueError: an argument is none of these.
    """

    name = "gaussian"
    reads_bytes = False

    def __init__(
        self,
        logvar: Literal["learned", "pixel"] | float = "learned",
        min_logvar: float | None = None,
    ) -> None:
        super().__init__()
        self.per_element = 2 if logvar == "pixel" else 1
        # By value, an argument of the model as its sizes are: neither its state nor its dtype.
        self.fixed_logvar: float | None = None
        self.min_logvar = min_logvar
        if min_logvar is not None and not _is_finite(min_logvar):
            raise ValueError(f"min_logvar is {min_logvar!r}; expected a finite number or None")
        if logvar == "learned":
            # Not without dimensions: FSDP cannot divide that.
            self.slow_logvar = nn.Parameter(torch.zeros(1))
            self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
                _read_without_dimensions
            )
        elif logvar != "pixel":
            if not _is_finite(logvar):  # who calls may not check types
                raise ValueError(
                    f"decoder_logvar is {logvar!r}; expected 'learned', 'pixel' or a finite number"
                )
            if min_logvar is not None:
                raise ValueError(
                    f"min_logvar is {min_logvar}, but decoder_logvar {logvar} is not learned"
                )
            self.fixed_logvar = float(logvar)

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


def as_tensor(value: Tensor | float, like: Tensor) -> Tensor:
    """A parameter without dimensions, in the dtype in which the functions compute with `like`."""
    if isinstance(value, Tensor):
        return value
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return torch.full((), value, dtype=dtype, device=like.device)


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


LIKELIHOODS: dict[str, type[Likelihood]] = {
    likelihood.name: likelihood for likelihood in (BernoulliLikelihood, GaussianLikelihood)
}

_plain_likelihoods = [Plain(likelihood, "nll") for likelihood in LIKELIHOODS.values()]


def is_plain(likelihood: nn.Module) -> bool:
    """Whether it is one of these, and its forward and `nll` are what was written here."""
    return any(is_plain(likelihood) for is_plain in _plain_likelihoods)
