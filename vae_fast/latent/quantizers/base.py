"""What all quantizers share: where the vectors are, in which dtype, and what comes out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from vae_fast.engine.checks import check_tensor, is_int, shown
from vae_fast.engine.dtypes import sum_dtype


class Quantized(NamedTuple):
    """What a quantizer gives. The terms are not weighted; one that a quantizer lacks is 0.

    Attributes:
        quantized: The codes, of x's shape and dtype; their gradient goes on to x.
        indices: Which codes, int64: x's shape without the dimension of the vectors. A residual or
            grouped quantizer has one dimension more, the last, for its quantizers.
        loss: What is added to the reconstruction's loss: the weighted sum of the terms.
        commitment: |x - sg(code)|^2, summed over a vector, averaged over the vectors: it moves x.
        codebook: |sg(x) - code|^2, likewise, which moves the codes; 0 where moving averages do.
        entropy: Of an :class:`LFQ`, E[H(code | x)] - H(code), nats.
        perplexity: The exponential of the entropy of the indices that came: between 1 and the
            number of codes. One for each quantizer of a residual or grouped one, as usage.
        usage: The part of all codes that came up at all.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import FSQ
        >>> found = FSQ([3, 3])(torch.tensor([[0.0, 2.0], [0.0, 0.1]]))
        >>> found.indices
        tensor([7, 4])
        >>> found.perplexity
        tensor(2.)
    """

    quantized: Tensor
    indices: Tensor
    loss: Tensor
    commitment: Tensor
    codebook: Tensor
    entropy: Tensor
    perplexity: Tensor
    usage: Tensor


# An exported program that returns one can be stored.
_register_namedtuple(Quantized, serialized_type_name="vae_fast.latent.quantizers.Quantized")


class Quantizer(nn.Module):
    """Vectors to codes, and indices back to codes.

    The arithmetic is in float32 (float64 for float64), also under autocast: a bfloat16 distance
    would not tell near codes apart.

    Args:
        code_dim: Size of a vector, D.
        num_codes: How many codes there are.
        dim: Which dimension of x the vectors are along: -1 for (*batch, D), 1 for pictures
            (B, D, H, W), which are read as views.

    Example:
        >>> from vae_fast.latent.quantizers import FSQ, Quantizer
        >>> quantizer = FSQ([8, 6, 5], dim=1)
        >>> isinstance(quantizer, Quantizer), quantizer.code_dim, quantizer.num_codes
        (True, 3, 240)
    """

    def __init__(self, code_dim: int, num_codes: int, dim: int = -1) -> None:
        super().__init__()
        self._require_whole("dim", dim)
        self.code_dim = code_dim
        self.num_codes = num_codes
        self.dim = dim

    def forward(self, x: Tensor) -> Quantized:
        """The nearest codes, and the terms of the loss.

        Args:
            x: D numbers along ``dim``: float32, float64, bfloat16 or float16.

        Raises:
            TypeError: x is no floating tensor.
            ValueError: x has not D numbers along ``dim``.
        """
        name = type(self).__name__
        check_tensor(name, "x", x)
        if not x.is_floating_point():
            raise TypeError(f"{name}: x has dtype {x.dtype}, expected a floating one")
        if not -x.dim() <= self.dim < x.dim() or x.shape[self.dim] != self.code_dim:
            raise ValueError(
                f"{name}: x has shape {shown(x.shape)}, expected {self.code_dim} numbers along "
                f"dimension {self.dim}"
            )
        found = self.quantize(x.movedim(self.dim, -1).to(sum_dtype(x.dtype)))
        return found._replace(quantized=found.quantized.movedim(-1, self.dim).to(x.dtype))

    def decode(self, indices: Tensor) -> Tensor:
        """The codes of ``indices``, as ``quantized`` has them, D numbers along ``dim``.

        Args:
            indices: int64 or int32, each one that ``forward`` may give.

        Raises:
            TypeError: They are no whole numbers.
        """
        name = type(self).__name__
        check_tensor(name, "indices", indices)
        if indices.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name}: indices have dtype {indices.dtype}, expected torch.int64")
        return self.lookup(indices).movedim(-1, self.dim)

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        raise NotImplementedError

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        raise NotImplementedError

    @classmethod
    def _require_whole(cls, name: str, value: object, least: int | None = None) -> None:
        if not is_int(value):
            raise TypeError(
                f"{cls.__name__}: {name} is of type {type(value).__name__}, expected int"
            )
        if least is not None and value < least:  # type: ignore[operator]
            raise ValueError(f"{cls.__name__}: {name} is {value}, expected at least {least}")


def mean_square(difference: Tensor) -> Tensor:
    """Of (*batch, D): summed over a vector, averaged over the vectors."""
    return difference.square().sum(-1).mean()


def counts_of(indices: Tensor, num_codes: int) -> Tensor:
    """How often each code came up, (num_codes,) float32."""
    flat = indices.flatten()
    ones = torch.ones_like(flat, dtype=torch.float32)
    return ones.new_zeros(num_codes).index_add_(0, flat, ones)


def counts_of_some(indices: Tensor) -> Tensor:
    """The same without the zeros of the codes that did not come up, filled up with others.

    Of as many entries as there are indices, however many codes there are.
    """
    flat = indices.flatten().sort().values
    is_new = torch.ones_like(flat)
    is_new[1:] = flat[1:] != flat[:-1]
    return counts_of(is_new.cumsum(0) - 1, flat.numel())


def usage_of(counts: Tensor, num_codes: int) -> dict[str, Tensor]:
    """Perplexity and usage of the codes that came up so often."""
    entropy = torch.special.entr(counts / counts.sum()).sum()
    return {"perplexity": entropy.exp(), "usage": (counts > 0).sum() / num_codes}
