"""How a decoder's output becomes the distribution p(x | z).

A likelihood is a module: it says how many numbers it wants for each element of x, makes the
distribution's parameters out of them, and gives the distribution's mean. Its loss is the function
that the table has by its name. Each one is in its file of :mod:`vae_fast.likelihoods`.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from torch import Tensor, nn

from vae_fast.engine.linear import linear_nll
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.table import LIKELIHOODS

# One tensor, or several, in the order in which the likelihood's function takes them.
Params: TypeAlias = Tensor | tuple[Tensor, ...]


class Likelihood(nn.Module):
    """A distribution p(x | z) of independent elements."""

    name: ClassVar[str]
    reads_bytes: ClassVar[bool]  # whether its function takes uint8 data for x / 255
    unit_range: ClassVar[bool] = False  # whether all x must be intensities in [0, 1]
    settings: ClassVar[tuple[str, ...]] = ()  # the models' arguments that are its own
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
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: Reduction
    ) -> Tensor:
        """The negative log-likelihood, in nats.

        Args:
            params: from `forward`; samples of z are leading dimensions that x does not have.
            x: the data as they came, uint8 perhaps.
            prepared: the data as the encoder reads them, floats.
            batch_dims: how many leading dimensions of the parameters are batch.
            reduction: see `vae_fast`.
        """
        first, *others = params if isinstance(params, tuple) else (params,)
        target = x if self.reads_bytes else prepared
        function = LIKELIHOODS[self.name].function
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
        return linear_nll(h, layer.weight, layer.bias, target, *self.shared, likelihood=self.name)
