"""Every loss's rows, which drive every test of the ops. And the layouts that they are tried on.

A likelihood's rows are in its file of tests/likelihoods.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.case import Case, Exact
from tests.latent import divergences

_FILES = sorted((Path(__file__).parent / "likelihoods").glob("*.py"))
_LIKELIHOODS = [import_module(f"tests.likelihoods.{file.stem}") for file in _FILES]

LIKELIHOOD_CASES: tuple[Case, ...] = tuple(
    row for likelihood in _LIKELIHOODS for row in likelihood.ROWS
)
DISTRIBUTIONS = tuple(
    likelihood.DISTRIBUTION for likelihood in _LIKELIHOODS if hasattr(likelihood, "DISTRIBUTION")
)
CASE_OF_OP = {case.op: case for case in (*LIKELIHOOD_CASES, *divergences.ROWS)}
# The emulated device is there for the bindings, which know no formula (its kernels have tests of
# their own): there, each number of operands and kind of target once or twice.
_OF_THE_BINDINGS = (
    *("bernoulli_nll", "bernoulli_probs_nll", "gaussian_nll", "negative_binomial_nll"),
    *("student_t_nll", "standard_normal_kl", "gaussian_kl"),
)
_IS_EMULATED = os.environ.get("VAE_FAST_TEST_DEVICE") == "emulated"
CASES: tuple[Case, ...] = tuple(
    case for op, case in CASE_OF_OP.items() if not _IS_EMULATED or op in _OF_THE_BINDINGS
)

each_case = {"argvalues": CASES, "ids": [case.op for case in CASES]}


@dataclass(frozen=True)
class Layout:
    """Shapes and strides for the operands of one call.

    ``base(k)`` is the shape in which operand k is drawn, ``view`` makes the operand from it.
    """

    name: str
    batch_dims: int
    base: Callable[[int], tuple[int, ...]]
    view: Callable[[int, Tensor], Tensor] = lambda k, x: x
    target: tuple[int, ...] | None = None  # of its own, without leading batch dimensions


def _same(*shape: int) -> Callable[[int], tuple[int, ...]]:
    return lambda k: shape


# Which sizes of (4, 3, 5) each operand has: the others broadcast.
_BROADCAST = ((4, 3, 5), (3, 1), (5,), (4, 1, 1))

LAYOUTS = (
    Layout("empty_batch", 1, _same(0, 5)),
    Layout("empty_event", 1, _same(3, 0)),
    Layout("one", 1, _same(1, 1)),
    Layout("zero_dim", 0, _same()),
    Layout("vector", 0, _same(67)),
    Layout("odd", 1, _same(7, 33)),
    Layout("images", 1, _same(2, 3, 5, 7)),
    Layout("two_batch_dims", 2, _same(3, 2, 19)),
    Layout("broadcast", 1, lambda k: _BROADCAST[k], target=(3, 5)),
    Layout("one_target", 1, lambda k: (6, 17) if k == 0 else (6, 1), target=(17,)),
    Layout("samples", 2, lambda k: (3, 4, 10) if k == 0 else (4, 10)),
    Layout("chunk", 1, _same(3, 4, 5, 5), lambda k, x: x.chunk(2, dim=1)[k % 2]),
    Layout("transposed", 1, _same(9, 6), lambda k, x: x.t()),
    Layout("mixed_order", 1, _same(8, 6, 4), lambda k, x: x.transpose(1, 2) if k % 2 else x.mT),
    Layout("every_second", 1, _same(6, 20), lambda k, x: x[:, k % 2 :: 2]),
    Layout(
        "channels_last",
        1,
        _same(2, 3, 4, 5),
        lambda k, x: x.contiguous(memory_format=torch.channels_last),
    ),
    Layout("expanded", 1, _same(1, 11), lambda k, x: x.expand(5, 11)),
)

each_layout = {"argvalues": LAYOUTS, "ids": [layout.name for layout in LAYOUTS]}

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
each_dtype = {"argvalues": DTYPES, "ids": [str(d).removeprefix("torch.") for d in DTYPES]}

# A loss in plain PyTorch is elementwise: of its layouts PyTorch takes care.
_PLAIN = [x for x in LAYOUTS if x.name in ("empty_batch", "one", "odd", "broadcast", "samples")]
each_of_the_reference = {"argvalues": _PLAIN, "ids": [layout.name for layout in _PLAIN]}

REDUCTIONS = ("none", "sample", "sum", "batchmean", "mean")


def each_pair(first: Sequence[Any], second: Sequence[Any], third: Sequence[Any]) -> dict[str, Any]:
    """Triples, so chosen that each two of one's members meet: the third's in turn, no product.

    What two of them do together a loop, a dtype or a formula may get wrong; what takes three, the
    fuzzer looks for.
    """
    turns = itertools.product(range(len(first)), range(len(second)))
    triples = [(first[i], second[j], third[(i + j) % len(third)]) for i, j in turns]
    return {"argvalues": triples, "ids": ["-".join(map(name_of, triple)) for triple in triples]}


_IN_TWO = [(c, DTYPES[k]) for i, c in enumerate(CASES) for k in (0, 1 + i % 3)]
each_in_two_dtypes = {"argvalues": _IN_TWO, "ids": [f"{c.op}-{str(d)[6:]}" for c, d in _IN_TWO]}


def name_of(x: Any) -> str:
    """Of a case, a layout, a dtype or a reduction."""
    return getattr(x, "op", None) or getattr(x, "name", None) or str(x).removeprefix("torch.")


def draw(case: Case, layout: Layout, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Operands of ``dtype``: leaves with the layout's strides."""
    shapes = [layout.base(k) for k in range(len(case.draws))]
    if case.has_target and layout.target is not None:
        shapes[-1] = layout.target
    bases = [d(shape).to(dtype) for d, shape in zip(case.draws, shapes, strict=True)]
    return [layout.view(k, x).detach() for k, x in enumerate(bases)]


def leaves(case: Case, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Operands of one shape, all of which require a gradient."""
    return [d(shape).to(dtype).requires_grad_() for d in case.draws]


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def exactly(x: Tensor) -> Exact:
    return x.detach().cpu().double().numpy().astype(np.longdouble)


def reduced(elementwise: Any, reduction: str, batch_dims: int) -> Any:
    """A reduction as a user writes it, of a tensor or an exact array."""
    dims = tuple(range(batch_dims, elementwise.ndim))
    if reduction == "none" or (reduction == "sample" and not dims):
        return elementwise
    if reduction == "sample":
        return elementwise.sum(dims)
    if reduction == "mean":
        return elementwise.mean()
    batch = math.prod(elementwise.shape[:batch_dims])
    return elementwise.sum() if reduction == "sum" else elementwise.sum() / batch
