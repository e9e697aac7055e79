"""A linear layer that reads a table in CSR, of counts above all: a first layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast.engine import checks, extension
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.composed import enter_composition

__all__ = ["sparse_linear"]

_NAME = "sparse_linear"


def sparse_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, log1p: bool = False
) -> Tensor:
    """``torch.nn.functional.linear`` of a table in CSR, with its gradient: x weight^T + bias.

    Row by row, from what is stored: an entry of x costs ``out`` multiplications, in the forward and
    in the weight's gradient, its own 12 bytes (float32, an int64 index) and ``out`` numbers of the
    weight; a zero nothing. The gradient is dense, as the optimizers have it. A
    weight that is held transposed (``weight.t()`` contiguous) is read and written as it lies; any
    other is copied, which takes a few milliseconds for 128 x 20,000.

    It is computed from a dense x under ``torch.compile``, ``torch.func`` and forward-mode AD, for
    tensor subclasses, in half precision, on devices other than the CPU, for an x whose values
    require a gradient and for derivatives of derivatives.

    Args:
        x: (B, in) in ``torch.sparse_csr``, of any number dtype; entries need not be sorted, those
            of one place add up.
        weight: (out, in), as in ``torch.nn.Linear``.
        bias: (out,), or None.
        log1p: Of x its log(1 + x), as encoders of counts read it.

    Returns:
        (B, out), in the weight's dtype.

    Raises:
        TypeError: x is not in CSR, or an argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or indices of x are outside of it.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> counts = torch.tensor([[0.0, 3.0], [1.0, 0.0]]).to_sparse_csr()
        >>> weight = torch.tensor([[1.0, 10.0]])
        >>> vf.sparse_linear(counts, weight)
        tensor([[30.],
                [ 1.]])
    """
    try:
        value: Tensor | None = None
        in_parts = torch.compiler.is_compiling() or extension.use_reference(weight.device.type)
        if not in_parts and x.layout is torch.sparse_csr:
            parts = x.values(), x.crow_indices(), x.col_indices()
            if x.shape[1] == weight.shape[-1]:
                value = extension.kernels.sparse_linear(weight, bias, *parts, log1p)
        if value is None:
            _explain(x, weight, bias)
            value = _from_dense(x.to_dense(), weight, bias, log1p)
        return value
    except Exception:
        _explain(x, weight, bias)
        raise


def _from_dense(x: Tensor, weight: Tensor, bias: Tensor | None, log1p: bool) -> Tensor:
    """The composition."""
    numbers = x.to(weight.dtype)
    return functional.linear(torch.log1p(numbers) if log1p else numbers, weight, bias)


def _of_node(tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> Tensor:
    """The composition of the tensors and numbers of a node (csrc/bindings/sparse_linear.cpp)."""
    weight, bias, values, starts, columns = tensors
    assert weight is not None
    assert values is not None
    assert starts is not None
    assert columns is not None
    size = (len(starts) - 1, weight.shape[1])
    x = torch.sparse_csr_tensor(starts, columns, values, size).to_dense()
    return _from_dense(x, weight, bias, bool(numbers[0]))


enter_composition(_NAME, _of_node)


def _explain(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is."""
    checks.check_tensor(_NAME, "x", x, sparse=True)
    if x.layout is not torch.sparse_csr:
        raise TypeError(f"{_NAME}: x is dense, expected torch.sparse_csr: x.to_sparse_csr()")
    checks.check_tensor(_NAME, "weight", weight)
    if x.dim() != 2 or weight.dim() != 2 or weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"{_NAME}: weight has shape {shown(weight.shape)}, expected (out, in) with in the "
            f"last size of x {shown(x.shape)}"
        )
    layer = [("weight", weight)]
    if bias is not None:
        checks.check_tensor(_NAME, "bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{_NAME}: bias has shape {shown(bias.shape)}, expected {shown(weight.shape[:1])}"
            )
        layer.append(("bias", bias))
    for name, value in layer:
        if value.dtype not in FLOATS or value.dtype != weight.dtype:
            expected = checks.names_of(FLOATS) if value is weight else weight.dtype
            raise TypeError(f"{_NAME}: {name} has dtype {value.dtype}, expected {expected}")
        if value.device != x.device:
            raise ValueError(f"{_NAME}: {name} is on {value.device}, expected {x.device} like x")
    if x.is_complex():
        raise TypeError(f"{_NAME}: x has dtype {x.dtype}, expected a real number")
