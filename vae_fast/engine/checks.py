"""Checks of arguments, with messages that say which argument, what was expected and what came.

The compiled kernels check by themselves, and fast. These run where there is none (plain PyTorch,
the compiler's fake tensors), and where a kernel refused its arguments: then they say why, in the
terms of the public function. Nothing here looks at a tensor's values. What one function alone asks
is checked where that function is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from vae_fast.engine.reductions import REDUCTIONS
from vae_fast.engine.shapes import fits_into, is_known, joined_shape, same_shape

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
BYTES = (torch.uint8, torch.bool)
INTEGERS = (*BYTES, torch.int32, torch.int64)


def one_of(words: Sequence[str]) -> str:
    """What may be chosen from, in words."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def names_of(dtypes: Iterable[torch.dtype]) -> str:
    """The dtypes that are expected, in words."""
    return one_of([str(dtype).removeprefix("torch.") for dtype in dtypes])


def shown(shape: Sequence[int]) -> str:
    """A shape as messages show it."""
    return str(tuple(shape))


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python or of numpy; a bool is none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (float, int, Real, torch.SymFloat))


def is_int(value: Any) -> bool:
    """Whether it is a whole number, of Python or of numpy; a bool is none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, Integral, torch.SymInt))


def check_tensor(function: str, argument: str, value: Any, sparse: bool = False) -> None:
    """Raises TypeError unless ``value`` is a tensor, dense, and all in this process.

    ``sparse``: or in CSR.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: {argument} is of type {type(value).__name__}, expected torch.Tensor"
        )
    has_layout = value.layout == torch.strided or (sparse and value.layout == torch.sparse_csr)
    if not has_layout or value.is_nested:
        kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise TypeError(
            f"{function}: {argument} is a tensor of layout {kind}, expected a dense one"
            f"{' or sparse_csr' if sparse else ''}"
        )
    if _is_distributed(value):
        raise TypeError(
            f"{function}: {argument} is a DTensor, expected a tensor of this process: give its "
            f"to_local(), which is a part of the loss, or full_tensor()"
        )


def _is_distributed(value: Tensor) -> bool:
    """Whether it is a DTensor; who has one has imported what it is."""
    if type(value) is Tensor or torch.compiler.is_compiling():
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def check_kind(
    function: str,
    name: str,
    tensor: Tensor,
    dtypes: tuple[torch.dtype, ...],
    first_name: str,
    first: Tensor,
) -> None:
    """Raises unless the tensor has one of these dtypes (TypeError), and the first one's device."""
    if tensor.dtype not in dtypes:
        raise TypeError(f"{function}: {name} has dtype {tensor.dtype}, expected {names_of(dtypes)}")
    if tensor.device != first.device:
        raise ValueError(
            f"{function}: {name} is on {tensor.device}, expected {first.device} like {first_name}"
        )


def check_operands(
    function: str,
    names: Sequence[str],
    operands: Sequence[Any],
    mask: Any = None,
    integers: tuple[torch.dtype, ...] = (),
    sparse: bool = False,
) -> None:
    """Types, dtypes, devices and shapes of a loss's operands and of its mask.

    ``integers`` are what a target may be besides a float; ``sparse``: it may be in CSR.

    Raises:
        TypeError: An operand is no tensor, or has a dtype that it must not have.
        ValueError: The operands lie on different devices, do not broadcast together, or do so to
            more elements than can be counted.
    """
    for name, operand in zip(names, operands, strict=True):
        check_tensor(function, name, operand, sparse and name == "target")
    if mask is not None:
        check_tensor(function, "mask", mask)
    first = operands[0]
    shape: tuple[int, ...] = ()
    arguments: list[tuple[str, Tensor, tuple[torch.dtype, ...]]] = [
        (name, operand, (*FLOATS, *integers) if name == "target" else FLOATS)
        for name, operand in zip(names, operands, strict=True)
    ]
    if mask is not None:
        arguments.append(("mask", mask, (torch.bool,)))
    for name, tensor, dtypes in arguments:
        check_kind(function, name, tensor, dtypes, names[0], first)
        joined = joined_shape(tensor.shape, shape)
        if joined is None:
            raise ValueError(
                f"{function}: {name} has shape {shown(tensor.shape)}, "
                f"expected a shape that broadcasts with {names[0]} {shown(shape)}"
            )
        shape = joined
    if all(map(is_known, shape)) and math.prod(shape) >= 2**63:
        raise ValueError(
            f"the operands broadcast to {shown(shape)}, more elements than 64 bits can count"
        )


def check_shapes(
    function: str,
    names: Sequence[str],
    operands: Sequence[Tensor],
    mask: Tensor | None,
    batch_dims: int,
) -> None:
    """What may broadcast, and how: the first operand has the shape of the loss.

    A target has that shape too, but for leading batch dimensions (samples of z, which it does not
    have). Everything else broadcasts to it and makes it no larger. A shape that is wrong in
    another way broadcasts as well, to a loss that is wrong: it is refused.

    Raises:
        ValueError: An operand's shape is another.
    """
    whole = operands[0].shape
    for name, operand in zip(names[1:], operands[1:], strict=True):
        shape = operand.shape
        if name != "target":
            if not fits_into(shape, whole):
                raise ValueError(
                    f"{function}: {name} has shape {shown(shape)}, expected one that broadcasts "
                    f"to that of {names[0]}, {shown(whole)}"
                )
            continue
        leading = len(whole) - len(shape)
        if not (0 <= leading <= batch_dims and same_shape(shape, whole[leading:])):
            raise ValueError(
                f"{function}: target has shape {shown(shape)}, expected that of {names[0]}, "
                f"{shown(whole)}; only leading batch dimensions may be missing "
                f"(batch_dims is {batch_dims})"
            )
    if mask is not None and not fits_into(mask.shape, whole):
        raise ValueError(
            f"{function}: mask has shape {shown(mask.shape)}, expected one that broadcasts to "
            f"that of {names[0]}, {shown(whole)}"
        )


def check_gradient(
    function: str, name: str, gradient: Tensor, shape: Sequence[int], device: torch.device
) -> None:
    """What a gradient that comes to a backward op, or was kept for one, must be."""
    if gradient.dtype not in FLOATS:
        raise TypeError(
            f"{function}: {name} has dtype {gradient.dtype}, expected {names_of(FLOATS)}"
        )
    if gradient.device != device:
        raise ValueError(f"{function}: {name} is on {gradient.device}, expected {device}")
    if tuple(gradient.shape) != tuple(shape):
        raise ValueError(
            f"{function}: {name} has shape {shown(gradient.shape)}, expected {shown(shape)}"
        )


def check_reduction(function: str, keep: int, mean: int, dims: int) -> None:
    """An op's ``keep`` and ``mean``: raises ValueError where they do not fit the dimensions."""
    if keep < 0 or mean < 0 or keep + mean > dims:
        raise ValueError(
            f"{function}: keep = {keep} and mean_dims = {mean} do not fit {dims} dimensions"
        )


def check_choice(function: str, argument: str, value: Any, choices: Iterable[str]) -> None:
    """Raises unless ``value`` is one of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{function}: {argument} is of type {type(value).__name__}, expected str")
    if value not in choices:
        raise ValueError(
            f"{function}: {argument} is {value!r}, expected "
            f"{one_of([repr(choice) for choice in choices])}"
        )


def check_reduction_name(function: str, reduction: Any) -> None:
    """Raises unless ``reduction`` is the name of one."""
    check_choice(function, "reduction", reduction, REDUCTIONS)


def check_public_reduction(
    function: str, reduction: Any, batch_dims: Any, tensors: Iterable[Tensor | None]
) -> None:
    """``reduction`` and ``batch_dims`` of a public function, for tensors that broadcast."""
    check_reduction_name(function, reduction)
    if not is_int(batch_dims):
        raise TypeError(
            f"{function}: batch_dims is of type {type(batch_dims).__name__}, expected int"
        )
    dims = max(tensor.dim() for tensor in tensors if tensor is not None)
    counts_batch = reduction in ("sample", "batchmean")
    # The default of one is nothing said where a number is summed.
    if not 0 <= batch_dims <= (dims if counts_batch else max(dims, 1)):
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected 0 to {dims}, "
            f"the number of dimensions"
        )


def check_has_classes(function: str, batch_dims: int, tensors: Iterable[Tensor]) -> None:
    """Raises ValueError unless a dimension is left for the classes of a softmax."""
    dims = max(tensor.dim() for tensor in tensors)
    if batch_dims >= dims:
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected less than {dims}, the number of "
            f"dimensions: the last one are the classes"
        )


def check_one_spelling(function: str, logvar: Any, scale: Any) -> None:
    """Raises unless exactly one of a variance's logarithm and its root is given."""
    if scale is None:
        raise TypeError(
            f"{function}: logvar is of type NoneType, expected torch.Tensor or a number, or scale "
            f"in its place"
        )
    if logvar is not None:
        raise ValueError(f"{function}: logvar and scale are both given, expected one of them")


def check_likelihood(function: str, likelihood: Any, choices: Iterable[str]) -> None:
    """Raises unless ``likelihood`` is the name of one."""
    check_choice(function, "likelihood", likelihood, tuple(choices))
