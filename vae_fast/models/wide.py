"""A decoder that ends in a linear layer too wide for its output to be made."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from vae_fast.models.fused import FusedSequential, Plain

# The C library maps every larger block afresh; from there on `linear_nll` is faster, too.
_PAYS_FROM_BYTES = 32 << 20

_sequentials = [Plain(kind) for kind in (nn.Sequential, FusedSequential)]
_is_linear = Plain(nn.Linear)
_is_unflatten = Plain(nn.Unflatten)


class WideDecoder(NamedTuple):
    """Its last linear layer, and what comes before that."""

    body: nn.Sequential
    layer: nn.Linear


def wide_decoder(decoder: nn.Module, x: Tensor) -> WideDecoder | None:
    """The decoder's parts where its output for all of x would be large; None where it is needed.

    Of an `nn.Sequential` that ends in an `nn.Linear` with one number for each element of x, perhaps
    with an `nn.Unflatten` behind it; both plain, without hooks, which look at the output.

    Args:
        decoder: from codes (B, ...) to x's shape.
        x: (B, ...), the data, on the CPU.
    """
    if not any(is_sequential(decoder) for is_sequential in _sequentials) or len(x) == 0:
        return None
    modules = list(cast(nn.Sequential, decoder))
    last = 2 if modules and _is_unflatten(modules[-1]) else 1
    layer = modules[-last] if len(modules) >= last else None
    if layer is None or not _is_linear(layer):
        return None
    assert isinstance(layer, nn.Linear)
    is_large = len(x) * layer.out_features * layer.weight.element_size() > _PAYS_FROM_BYTES
    if not is_large or layer.out_features != x[0].numel():
        return None
    return WideDecoder(FusedSequential(*modules[:-last]), layer)
