"""A linear layer with its likelihood in chunks: what :mod:`vae_fast.linear` gives autograd.

Each chunk makes its share of the layer's output, uses it up and forgets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_fast._extension import C

# The matrix products: only with the extension is anything divided.
_products: Any = C

# By features: of a chunk of the layer's output, which stays in the cache with its gradient. The
# gradient's transpose takes its place.
_CHUNK_BYTES = 3 << 19
# Below these, matrix products are slow.
_LEAST_FEATURES = 256
# By rows: of the memory that all chunks share.
_OUTPUT_BYTES = 10 << 20
# Below these, matrix products are slow.
_LEAST_ROWS = 32
# On a GPU a chunk saves memory and nothing else: below this the two steps are four times as fast.
_GPU_BYTES = 256 << 20
_BLOCK_FEATURES = 1024


def _bytes_of_chunk(of_cpu: int, h: Tensor) -> int:
    return of_cpu if h.is_cpu else _GPU_BYTES


def _features_of_chunk(h: Tensor) -> int:
    row_bytes = h.element_size() * max(1, len(h))
    return max(_LEAST_FEATURES, _bytes_of_chunk(_CHUNK_BYTES, h) // row_bytes // 64 * 64)


def _blocks(features: int) -> Iterator[slice]:
    """Of the weight's gradient, a part that a product may make apart before it is added."""
    for start in range(0, features, _BLOCK_FEATURES):
        yield slice(start, min(features, start + _BLOCK_FEATURES))


class Problem(NamedTuple):
    """What the loss is of. The linear layer's inputs, then what else the likelihood takes."""

    h: Tensor  # (rows, in)
    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)
    logvar: Tensor | None  # () or (out,)
    target: Tensor  # (rows, out)
    mask: Tensor | None  # (rows or 1, out or 1)

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        """What may require a gradient."""
        return self[:4]


class ByFeatures(Problem):
    """For elementwise likelihoods: parts of neighbouring features."""

    @property
    def is_one_chunk(self) -> bool:
        """Whether there is nothing to divide."""
        return len(self.weight) <= _features_of_chunk(self.h)

    @property
    def op(self) -> Any:
        """The likelihood's."""
        name = "bernoulli_nll" if self.logvar is None else "gaussian_nll"
        return getattr(torch.ops.vae_fast, name)

    def chunks(self) -> Iterator[tuple[slice, ByFeatures]]:
        """The parts, and which features they are."""
        features = len(self.weight)
        width = _features_of_chunk(self.h)
        for start in range(0, features, width):
            own = slice(start, min(features, start + width))
            logvar, mask = self.logvar, self.mask
            yield (
                own,
                ByFeatures(
                    self.h,
                    self.weight[own],
                    None if self.bias is None else self.bias[own],
                    logvar[own] if logvar is not None and logvar.dim() else logvar,
                    self.target[:, own],
                    mask[:, own] if mask is not None and mask.shape[1] > 1 else mask,
                ),
            )

    def evaluate(self, keep: int, mean: int, want: int) -> tuple[Tensor, ...]:
        """The op on the layer's output: the value summed over all dimensions from ``keep`` on.

        It is divided by the number of rows where ``mean`` is 1.
        """
        output = _products.layer_output(self.h, self.weight, self.bias)
        others = () if self.logvar is None else (self.logvar,)
        results: tuple[Tensor, ...] = self.op(
            output, *others, self.target, self.mask, keep, mean, want
        )
        return results

    def values(self) -> Tensor:
        """The sum of each row."""
        total = torch.zeros((), device=self.h.device)
        for _, part in self.chunks():
            total = total + part.evaluate(1, 0, 0)[0]
        return total

    def sum_and_gradients(
        self, wanted: tuple[bool, ...], of_rows: Tensor | None = None, *, mean: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The sum over everything (nothing else, with ``of_rows``), and gradients.

        Args:
            wanted: of which of the differentiable ones.
            of_rows: (rows, 1), what each row's sum is weighed with.
            mean: whether the sum is divided by the number of rows.
        """
        gradients = [
            torch.empty_like(x) if x is not None and want else None
            for x, want in zip(self.differentiable, wanted, strict=True)
        ]
        in_h, in_weight, in_bias, in_logvar = gradients
        # What every chunk adds to; each of the others writes its own part.
        for shared in (in_h, in_logvar):
            if shared is not None:
                shared.zero_()
        total = torch.zeros((), device=self.h.device)
        want = 1 | (in_logvar is not None) << 1
        for own, part in self.chunks():
            keep = 0 if of_rows is None else 1
            value, in_output, *others = part.evaluate(keep, int(mean), want)
            if of_rows is None:
                total = total + value
            if of_rows is not None:
                in_output.mul_(of_rows)
            if in_h is not None:
                in_h.add_(_products.input_gradient(in_output, part.weight))
            if in_weight is not None:
                _products.write_weight_gradient(in_weight[own], in_output, self.h, False)
            if in_bias is not None:
                torch.sum(in_output, 0, out=in_bias[own])
            if in_logvar is not None:
                in_part = others[0] if of_rows is None else (others[0] * of_rows).sum(0)
                if in_logvar.dim():
                    in_logvar[own] = in_part.view(-1)
                else:
                    in_logvar.add_(in_part.sum())
        return total, gradients


class ByRows(Problem):
    """For the multinomial likelihood, whose softmax needs all features of a row.

    The gradient takes the place of the output, which all chunks share.
    """

    @property
    def is_one_chunk(self) -> bool:
        """Whether there is nothing to divide."""
        return len(self.h) <= self._rows_of_chunk()

    def _rows_of_chunk(self) -> int:
        row_bytes = self.h.element_size() * max(1, len(self.weight))
        return max(_LEAST_ROWS, _bytes_of_chunk(_OUTPUT_BYTES, self.h) // row_bytes)

    def _chunks(self) -> Iterator[slice]:
        """The rows of each part."""
        rows, height = len(self.h), self._rows_of_chunk()
        for start in range(0, rows, height):
            yield slice(start, min(rows, start + height))

    def _output(self, own: slice) -> Tensor:
        output: Tensor = _products.layer_output(self.h[own], self.weight, self.bias)
        return output

    def values(self) -> Tensor:
        """The sum of each row."""
        op = torch.ops.vae_fast.multinomial_rows
        return torch.cat(
            [op(self._output(own), self.target[own], 1.0, False)[0] for own in self._chunks()]
        )

    def sum_and_gradients(
        self, wanted: tuple[bool, ...], of_rows: Tensor | None = None, *, mean: bool = False
    ) -> tuple[Tensor, list[Tensor | None]]:
        """As :meth:`ByFeatures.sum_and_gradients`."""
        gradients = [
            torch.empty_like(x) if x is not None and want else None
            for x, want in zip((self.h, self.weight, self.bias), wanted[:3], strict=True)
        ]
        scale = 1 / len(self.h) if mean else 1.0
        total = torch.zeros((), device=self.h.device)
        for own in self._chunks():
            total = total + self._add_chunk(own, gradients, of_rows, scale)
        return total * scale, [*gradients, None]

    def _add_chunk(
        self, own: slice, gradients: list[Tensor | None], of_rows: Tensor | None, scale: float
    ) -> Tensor:
        """The sum of a chunk's rows, whose share goes into the gradients.

        A function of its own: its output is gone before the next one is made.
        """
        in_h, in_weight, in_bias = gradients
        h, in_output = self.h[own], self._output(own)
        rows: Tensor = torch.ops.vae_fast.multinomial_rows_(in_output, self.target[own], scale)
        is_first = own.start == 0
        if of_rows is not None:
            in_output.mul_(of_rows[own])
        if in_h is not None:
            in_h[own] = _products.input_gradient(in_output, self.weight)
        if in_weight is not None:
            for block in _blocks(len(self.weight)):
                _products.write_weight_gradient(
                    in_weight[block], in_output[:, block], h, not is_first
                )
        if in_bias is not None and is_first:
            torch.sum(in_output, 0, out=in_bias)
        elif in_bias is not None:
            in_bias.add_(in_output.sum(0))
        return rows.sum()
