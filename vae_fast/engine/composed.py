"""Fused functions as the compositions that they are, by name.

A fused function has a kernel for plain tensors in eager mode; all else (``torch.compile``,
``torch.func``, forward-mode AD, subclasses, devices without kernels, derivatives of derivatives)
goes through the composition, of torch's own ops and this package's. Its C++ node calls it by name
for the last of these (csrc/bindings/composed.h).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from vae_fast.engine.extension import C

# Of the node's tensors, None where one was not given, and its numbers.
Composition = Callable[[Sequence[Tensor | None], Sequence[int]], Tensor]

_COMPOSITIONS: dict[str, Composition] = {}


def enter_composition(name: str, composition: Composition) -> None:
    """Makes known what the fused function is composed of."""
    _COMPOSITIONS[name] = composition


def _compose(name: str, tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor:
    return _COMPOSITIONS[name](tensors, numbers)


if C is not None:
    C.set_composition(_compose)
