"""The mixture of a distribution of ours, after torch's of a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from vae_fast.engine.checks import shown
from vae_fast.engine.distribution import Distribution
from vae_fast.engine.dtypes import promoted_dtype
from vae_fast.engine.mixture import has_components, mixture_nll
from vae_fast.engine.shapes import broadcast_shapes, fits_into
from vae_fast.engine.table import LIKELIHOODS

# Typed here, as torch has them without types.
_torchs = torch.distributions.MixtureSameFamily
_torchs_log_prob: Callable[..., Tensor] = _torchs.log_prob
_torchs_expand: Callable[..., Any] = _torchs.expand


class MixtureSameFamily(torch.distributions.MixtureSameFamily):
    """``torch.distributions.MixtureSameFamily``, whose log_prob is :func:`mixture_nll`'s.

    That is one pass where the components are of a class of :mod:`vae_fast.distributions` whose
    elements are independent, or ``torch.distributions.Independent`` of one; of any other component
    it is torch's own. Its arguments, moments and samples are torch's: ``mixture_distribution``, a
    Categorical, and ``component_distribution``, whose last batch dimension are the components. One
    Categorical for a batch of mixtures has samples, too, which torch's has not.

    Args:
        mixture_distribution: Of K components; its batch broadcasts to that of the mixtures.
        component_distribution: Of the batch (*batch, K).
        validate_args: See :class:`vae_fast.engine.distribution.Distribution`.

    Raises:
        ValueError: One of them is no such distribution, or they do not fit.

    Example:
        >>> import torch
        >>> from vae_fast.distributions import Categorical, Normal, MixtureSameFamily
        >>> components = Normal(torch.tensor([-3.0, 3.0]))
        >>> p = MixtureSameFamily(Categorical(logits=torch.zeros(2)), components)
        >>> p.log_prob(torch.tensor(3.0)), p.mean
        (tensor(-1.6121), tensor(0.))
    """

    def __init__(
        self,
        mixture_distribution: torch.distributions.Categorical,
        component_distribution: torch.distributions.Distribution,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(mixture_distribution, component_distribution, validate_args)
        own = mixture_distribution.batch_shape
        if not fits_into(own, self.batch_shape):
            raise ValueError(
                f"MixtureSameFamily: mixture_distribution has the batch {shown(own)}, expected one "
                f"that broadcasts to {shown(self.batch_shape)}, that of component_distribution "
                f"without the components"
            )
        classes: Any = mixture_distribution
        self._mixture_distribution = classes.expand(self.batch_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        """The same distribution of a larger batch; nothing is copied."""
        new = type(self).__new__(type(self)) if _instance is None else _instance
        wide: Self = _torchs_expand(self, batch_shape, new)
        return wide

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, of each mixture."""
        component = self._fused()
        if component is None:
            return _torchs_log_prob(self, value)
        if self._validate_args:
            self._validate_sample(value)
        batch = value.shape[: value.dim() - self._event_ndims]
        shape = broadcast_shapes(self.batch_shape, batch)
        logits, (first, *others) = self.mixture_distribution.logits, component._operands
        nll = mixture_nll(
            logits.expand((*shape, -1)),
            value.expand(shape + self.event_shape),
            first,
            *others,
            likelihood=_likelihood_of(component) or "",
            event_dims=self._event_ndims,
            batch_dims=len(shape),
            reduction="none",
        )
        return -nll.to(promoted_dtype((logits, *component._given)))

    def _fused(self) -> Distribution | None:
        """What the components are one by one, where :func:`mixture_nll` knows that."""
        component = self.component_distribution
        if type(component) is torch.distributions.Independent:
            component = component.base_dist
        if isinstance(component, Distribution) and _likelihood_of(component) is not None:
            return component
        return None

    def _validate_sample(self, value: Tensor) -> None:
        """As the components do, who know the bytes that they read, and the compiler."""
        component = self._fused()
        if component is None:
            super()._validate_sample(value)
        else:
            component._validate_sample(value.unsqueeze(-1 - self._event_ndims))


def _likelihood_of(component: Distribution) -> str | None:
    """The name by which :func:`mixture_nll` has it; of a subclass, which may differ, none."""
    names = (
        name
        for name, entry in LIKELIHOODS.items()
        if entry.distribution is type(component) and has_components(name)
    )
    return next(names, None)
