"""A decoder that ends in a linear layer too wide for its output to be made."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from vae_fast.models.fused import FusedSequential, has_hooks

# The C library maps every larger block afresh; from there on `linear_nll` is faster, too.
PAYS_FROM_BYTES = 32 << 20


class WideDecoder(NamedTuple):
    """Its last linear layer, and what comes before that."""

    body: nn.Sequential
    layer: nn.Linear


def wide_decoder(decoder: nn.Module, x: Tensor) -> WideDecoder | None:
    """The decoder's parts where its output for all of x would be large; None where it is needed.

    On the CPU, of an `nn.Sequential` that ends in an `nn.Linear` with one number for each element
    of x, perhaps with an `nn.Unflatten` behind it, and without hooks, which look at the output.

    Args:
        decoder: from codes (B, ...) to x's shape.
        x: (B, ...), the data.
    """
    if (
        type(decoder) not in (nn.Sequential, FusedSequential)
        or x.device.type != "cpu"
        or len(x) == 0
    ):
        return None
    modules = list(cast(nn.Sequential, decoder))
    last = 2 if modules and type(modules[-1]) is nn.Unflatten else 1
    layer = modules[-last] if len(modules) >= last else None
    # No subclass: parametrizations make one, and what it computes is its own affair.
    if type(layer) is not nn.Linear or any(map(has_hooks, (decoder, *modules[-last:]))):
        return None
    is_large = len(x) * layer.out_features * layer.weight.element_size() > PAYS_FROM_BYTES
    if not is_large or layer.out_features != x[0].numel():
        return None
    return WideDecoder(FusedSequential(*modules[:-last]), layer)
