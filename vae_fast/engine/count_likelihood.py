"""How a decoder gives counts: as shares of a datum's total, which is not modelled.

As scVI has it (Lopez et al. 2018, "Deep generative modeling for single-cell transcriptomics"),
where a datum is a cell, its elements are genes, and its total is the size of its library.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from vae_fast.engine.counts import counts_loss, is_csr, log_means, means, row_sums
from vae_fast.engine.likelihood import Kind, Likelihood, Params
from vae_fast.engine.reductions import Reduction


class CountLikelihood(Likelihood):
    """Counts of means softmax(logits) times the datum's own total; the encoder reads log(1 + x).

    The decoder gives the logits and, where ``per_element`` is 2, behind them the logits of a zero
    that is none of the distribution's.

    Args:
        input_shape: of a datum, over all of which the softmax goes.
        library: the total where there is no datum to have one, in `mean`: of a code that was drawn.
            None is 1, with which means are shares.

    Raises:
        ValueError: ``library`` is no finite number above 0.
    """

    data: ClassVar[Kind] = "counts"
    settings = ("input_shape", "library")
    is_log: ClassVar[bool] = False  # the likelihood's function takes logarithms of means

    def __init__(self, input_shape: tuple[int, ...], library: float | None = None) -> None:
        super().__init__()
        library = 1.0 if library is None else library
        if not isinstance(library, int | float) or not 0 < library < math.inf:
            raise ValueError(f"library is {library!r}; expected a finite number above 0")
        self.library = float(library)
        self._dims = len(input_shape)

    def dispersions(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The parameters behind the mean that all data have in common."""
        return ()

    def distribution(self, logits: Tensor, library: Tensor) -> tuple[Tensor, ...]:
        """The parameters of the likelihood's function, but for those of zeros.

        Args:
            logits: (..., *input_shape), float32 or float64.
            library: the totals, which broadcast to that.
        """
        function = log_means if self.is_log else means
        return function(logits, library, self._dims), *self.dispersions(logits.dtype)

    def encoded(self, prepared: Tensor) -> Tensor:
        """log(1 + x)."""
        return torch.log1p(prepared)

    def mean(self, params: Params) -> Tensor:
        """The expected x of a total of ``library``."""
        logits, *zero_logits = _in_full_precision(params)
        return self._expected(logits, zero_logits, logits.new_tensor(self.library))

    def reconstruction(self, params: Params, x: Tensor) -> Tensor:
        """The expected x of x's own total."""
        logits, *zero_logits = _in_full_precision(params)
        return self._expected(logits, zero_logits, self._totals(x, logits.dtype))

    def nll(
        self, params: Params, x: Tensor, prepared: Tensor, batch_dims: int, reduction: Reduction
    ) -> Tensor:
        """The negative log-likelihood given the total of each datum, in nats."""
        logits, *zero_logits = _in_full_precision(params)
        op = f"{self.name}_nll"
        return counts_loss(
            op,
            op,
            (logits, *self.dispersions(logits.dtype), *zero_logits),
            x,
            self._totals(x, logits.dtype),
            None,
            batch_dims,
            reduction,
            is_log=self.is_log,
        )

    def _expected(self, logits: Tensor, zero_logits: list[Tensor], library: Tensor) -> Tensor:
        mean = means(logits, library, self._dims)
        for logit in zero_logits:
            mean = mean * torch.sigmoid(-logit)
        return mean

    def _totals(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Of each datum, (*batch, 1, ...): sums of whole numbers, exact up to 2^24 in float32."""
        if is_csr(x):
            return row_sums(x, dtype)
        return x.sum(tuple(range(-self._dims, 0)), keepdim=True, dtype=dtype)


def _in_full_precision(params: Params) -> list[Tensor]:
    """float32 for halves, of which a total may be beyond the largest."""
    given = params if isinstance(params, tuple) else (params,)
    return [param.to(torch.promote_types(param.dtype, torch.float32)) for param in given]
