"""How a decoder's output becomes the distribution p(x | z).

A likelihood is a module: it says how many numbers it wants for each element of x, makes the
distribution's parameters out of them, and gives the distribution's mean. Its loss is the function
that the table has by its name. Each one is in its file of :mod:`vae_fast.likelihoods`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from vae_fast.engine.linear import linear_nll
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LIKELIHOODS

# One tensor, or several, in the order in which the likelihood's function takes them; of counts
# what they are made of when a datum's total is there.
Params: TypeAlias = Tensor | tuple[Tensor, ...]

# What data are: any numbers, intensities in [0, 1], counts (whole numbers from 0 on), or classes
# (by their number, from 0 on).
Kind: TypeAlias = Literal["numbers", "intensities", "counts", "classes"]


def are_whole(kind: Kind) -> bool:
    """Whether data are held and read as they are; of others uint8 means x / 255."""
    return kind in ("counts", "classes")


class Likelihood(nn.Module):
    """A distribution p(x | z) of independent elements."""

    name: ClassVar[str]
    data: ClassVar[Kind]  # what x must be
    settings: ClassVar[tuple[str, ...]] = ()  # the models' arguments that are its own
    per_element: int = 1  # numbers that the decoder gives for each element of x
    num_classes: int | None = None  # how many there are, where x is classes

    def raw_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the decoder gives for a datum."""
        return (self.per_element * input_shape[0], *input_shape[1:])

    def forward(self, raw: Tensor) -> Params:
        """The distribution's parameters, each of x's shape, from what the decoder gave."""
        return raw if self.per_element == 1 else raw.chunk(self.per_element, dim=1)

    @property
    def shared(self) -> tuple[Tensor | float, ...]:
        """The parameters behind the first one where all elements have them in common."""
        return ()

    def encoded(self, prepared: Tensor) -> Tensor:
        """What the encoder is given of the data, floats."""
        return prepared

    def encoded_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of that, of a datum."""
        return input_shape

    def mean(self, params: Params) -> Tensor:
        """The expected x."""
        raise NotImplementedError

    def reconstruction(self, params: Params, x: Tensor) -> Tensor:
        """The expected x of the parameters that x itself was encoded and decoded to."""
        return self.mean(params)

    def target(self, x: Tensor, prepared: Tensor) -> Tensor:
        """The data as the likelihood's function takes them; arguments as in `nll`."""
        return prepared if self.data == "numbers" else x

    def nll(
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: Reduction
    ) -> Tensor:
        """The negative log-likelihood, in nats.

        Args:
            params: from `forward`; samples of z are leading dimensions that x does not have.
            x: the data as they came, uint8 perhaps.
            prepared: the same as floats.
            batch_dims: how many leading dimensions of the parameters are batch.
            reduction: see `vae_fast`.
        """
        first, *others = params if isinstance(params, tuple) else (params,)
        function = LIKELIHOODS[self.name].function
        target = self.target(x, prepared)
        return function(first, target, *others, batch_dims=batch_dims, reduction=reduction)

    def linear_nll(self, h: Tensor, layer: nn.Linear, x: Tensor, prepared: Tensor) -> Tensor:
        """The same of what a linear layer gives, which is not made: per datum, in nats.

        Where the decoder gives one number for each element of x.

        Args:
            h: (B, in), what the layer reads.
            layer: gives the first of the parameters, flattened.
            x: the data as they came, uint8 perhaps.
            prepared: the same as floats.
        """
        target = self.target(x, prepared).flatten(1)
        return linear_nll(h, layer.weight, layer.bias, target, *self.shared, likelihood=self.name)
