"""What relaxed classes and bits share: samples and divergences of one noise, in logarithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor
from torch.distributions import constraints

from vae_fast.latent.posteriors.vectors import VectorDistribution


class Relaxed(VectorDistribution):
    """A function of y = (logits - noise) / temperature, whose density is known at any y.

    The density of y is one of ``scores`` = logits - temperature y: at a sample those are its noise,
    whatever the logits.
    """

    arg_constraints: ClassVar = {
        "logits": constraints.real_vector,
        "temperature": constraints.positive,
    }
    logits: Tensor
    temperature: Tensor

    def __init__(
        self, logits: Tensor, temperature: Tensor | float, validate_args: bool | None = None
    ) -> None:
        super().__init__(logits, temperature, validate_args=validate_args)  # type: ignore[arg-type]

    def _noise(self, like: Tensor) -> Tensor:
        raise NotImplementedError

    def _normalized(self, y: Tensor) -> Tensor:
        """Y itself, or but for a constant that its density does not depend on."""
        return y

    def _of(self, y: Tensor) -> Tensor:
        """The sample."""
        raise NotImplementedError

    def _inverse(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Y of a sample, and the logarithm of the sample's volume in units of y's."""
        raise NotImplementedError

    def _log_density(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """Of y, summed over the event."""
        raise NotImplementedError

    def _relaxed(self, logits: Tensor, temperature: Tensor, noise: Tensor) -> Tensor:
        return self._normalized((logits - noise) / temperature.unsqueeze(-1))

    def _draw(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return self._of(self._relaxed(logits, temperature, self._noise(logits)))

    def rsample_kl(self, other: Relaxed) -> tuple[Tensor, Tensor]:
        """A sample, and an unbiased estimate of the divergence: log q - log p at it."""
        dtype = self._computed()[0].dtype
        logits, temperature = (x.to(dtype) for x in self._wide(self._batch_shape))
        noise = self._noise(logits)
        y = self._relaxed(logits, temperature, noise)
        others, their_temperature = other._computed()
        scores = others - their_temperature.unsqueeze(-1) * y
        kl = self._log_density(noise, temperature) - self._log_density(scores, their_temperature)
        return self._of(y).to(self._sample_dtype), kl

    def _cost(self, value: Tensor) -> Tensor:
        logits, temperature, value = self._computed(value)
        y, log_volume = self._inverse(value)
        return log_volume - self._log_density(logits - temperature.unsqueeze(-1) * y, temperature)


class StraightThrough(Relaxed):
    """Samples that are drawn hard, with the gradient of the relaxed ones: of classes or bits.

    All but the gradient is those'.
    """

    _kind: Callable[..., VectorDistribution]  # of classes or bits, by their logits

    def _hard(self) -> VectorDistribution:
        return self._kind(self.logits, validate_args=False)

    def _cost(self, value: Tensor) -> Tensor:
        return self._hard()._cost(value)

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return self._hard().mean

    @property
    def mode(self) -> Tensor:
        """The likeliest value."""
        return self._hard().mode

    def entropy(self) -> Tensor:
        """Of the classes, or bits."""
        return self._hard().entropy()
