"""Values of every loss: dtypes, layouts, reductions, masks, instruction sets, threads."""

import math

import numpy as np
import pytest
import torch
from cases import (
    CASE_OF_OP,
    CASES,
    DTYPES,
    LAYOUTS,
    REDUCTIONS,
    arithmetic_dtype,
    draw,
    each_case,
    each_dtype,
    each_in_two_dtypes,
    each_of_the_reference,
    each_pair,
    exactly,
    reduced,
)
from tolerance import Comparison

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.engine.dtypes import promoted_dtype
from vae_fast.engine.table import LOSSES

DRAWS = 20  # of a small layout, until neither side is right by luck
DRAWS_OF_ONE = 100
CAPABILITIES = extension.C.cpu_capabilities()


def compare(comparison, case, tensors, batch_dims, what="", settings=((lambda: None), ())):
    """Adds every reduction of one call; ``settings`` are a setter and what it is called with."""
    arithmetic = [x.to(arithmetic_dtype(x.dtype)) for x in torch.broadcast_tensors(*tensors)]
    torchs = case.torch(*arithmetic)
    expected = case.exact(*map(exactly, arithmetic))[0]
    for reduction in REDUCTIONS:
        with np.errstate(invalid="ignore"):
            of_theirs = reduced(torchs, reduction, batch_dims)
            of_expected = reduced(expected, reduction, batch_dims)
        set_to, values = settings
        for value in values or [()]:
            set_to(*value)
            ours = case.public(*tensors, batch_dims=batch_dims, reduction=reduction)
            comparison.add(f"{what} {reduction} {value}", ours, of_theirs, of_expected)


@pytest.mark.of_the_kernels
@pytest.mark.parametrize(("case", "layout", "dtype"), **each_pair(CASES, LAYOUTS, DTYPES))
@pytest.mark.filterwarnings("ignore:(Mean of empty|invalid value|divide by zero)")
def test_values(case, layout, dtype):
    comparison = Comparison()
    for _ in range(DRAWS if math.prod(layout.base(0)) > 1 else DRAWS_OF_ONE):
        compare(comparison, case, draw(case, layout, dtype), layout.batch_dims)
    comparison.check()


@pytest.mark.parametrize("case", **each_case)
@pytest.mark.parametrize("dtype", **each_dtype)
def test_dtype_of_the_result(case, dtype, backend):
    tensors = [d((4, 9)).to(dtype) for d in case.draws]
    for reduction in REDUCTIONS:
        expected = dtype if reduction == "none" else arithmetic_dtype(dtype)
        assert case.public(*tensors, reduction=reduction).dtype == expected
    vector = [x[0] for x in tensors]
    assert case.public(*vector, reduction="sample").dtype == dtype


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("layout", **each_of_the_reference)
@pytest.mark.parametrize("case", **each_case)
@pytest.mark.parametrize("backend", ["reference"], indirect=True)
@pytest.mark.filterwarnings("ignore:(Mean of empty|invalid value|divide by zero)")
def test_values_of_the_reference(case, layout, backend):
    comparison = Comparison()
    for _ in range(DRAWS):
        compare(comparison, case, draw(case, layout), layout.batch_dims)
    comparison.check()


@pytest.mark.of_the_kernels
@pytest.mark.parametrize(("case", "dtype"), **each_in_two_dtypes)
def test_every_instruction_set_and_thread_count(case, dtype, cpu_capability, cpu_threads):
    def configure(capability, threads):
        cpu_capability(capability)
        cpu_threads(threads)

    settings = configure, [(name, threads) for name in CAPABILITIES for threads in (1, 2)]
    comparison = Comparison()
    for shape, draws in (((67, 1031), 1), ((3, 20_001), 1), ((1, 40_001), 1), ((5, 15), 4)):
        for _ in range(draws):
            tensors = [d(shape).to(dtype) for d in case.draws]
            compare(comparison, case, tensors, 1, str(shape), settings)
    comparison.check()


@pytest.mark.parametrize("case", **each_case)
def test_sums_do_not_depend_on_threads(case, cpu_threads):
    tensors = [d((500, 701)).float() for d in case.draws]
    results = []
    for threads in (1, 2):
        cpu_threads(threads)
        results.append([case.public(*tensors, reduction=r) for r in REDUCTIONS])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("dtypes", [DTYPES, DTYPES[::-1]], ids=["float32 first", "float16 first"])
@pytest.mark.parametrize("case", **each_case)
def test_mixed_dtypes_promote(case, backend, dtypes):
    tensors = [d((4, 9)).to(dtype) for d, dtype in zip(case.draws, dtypes, strict=False)]
    promoted = promoted_dtype(tensors)
    actual = case.public(*tensors, reduction="none")
    assert actual.dtype == promoted
    wide = [x.to(arithmetic_dtype(promoted)) for x in tensors]
    assert torch.equal(actual, case.public(*wide, reduction="none").to(promoted))

    for x in (*tensors, *wide):
        x.requires_grad_()
    upstream = torch.full((), 3.0, dtype=arithmetic_dtype(promoted))
    actual = torch.autograd.grad(case.public(*tensors), tensors, upstream)
    expected = torch.autograd.grad(case.public(*wide), wide, upstream)
    for x, ours, theirs in zip(tensors, actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(x.dtype))


@pytest.mark.parametrize("mask_shape", [(6, 5, 3), (5, 1), (6, 1, 1), (1, 3), ()])
@pytest.mark.parametrize("case", **each_case)
def test_mask(case, mask_shape):
    """On the ops: every loss has a mask there, a divergence's public function has none."""
    op = getattr(torch.ops.vae_fast, case.op)
    mask = torch.rand(mask_shape) < 0.5
    tensors = [d((6, 5, 3)).float() for d in case.draws]
    poisoned = [torch.where(mask, x, math.nan) for x in tensors]
    elementwise = torch.where(mask, op(*tensors, None, 3, 0)[0], 0.0)
    assert torch.equal(op(*poisoned, mask, 3, 0)[0], elementwise)
    for keep, mean in ((0, 0), (1, 0), (0, 1), (0, 3)):
        expected = elementwise.double().sum(tuple(range(keep, 3)))
        expected = expected / math.prod((6, 5, 3)[keep : keep + mean])
        actual = op(*poisoned, mask, keep, mean)[0]
        torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)


def test_mask_of_the_public_function(backend):
    logits, target, mask = torch.randn(4, 6), torch.rand(4, 6), torch.rand(4, 6) < 0.5
    logits[~mask] = math.nan
    expected = vf.bernoulli_nll(logits[mask], target[mask], reduction="sum")
    actual = vf.bernoulli_nll(logits, target, mask=mask, reduction="sum")
    torch.testing.assert_close(actual, expected)
    actual = vf.bernoulli_nll(logits, target, mask=mask, reduction="mean")
    torch.testing.assert_close(actual, expected / 24)


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("target_dtype", [torch.uint8, torch.bool])
@pytest.mark.parametrize("dtype", **each_dtype)
@pytest.mark.parametrize("case", [c for c in CASES if c.has_target], ids=lambda c: c.op)
def test_integer_targets(case, dtype, target_dtype, backend):
    unit = LOSSES[case.op].uint8_unit if target_dtype == torch.uint8 else 1.0
    comparison = Comparison()
    for _ in range(8):
        *params, _ = [d((9, 37)).to(dtype) for d in case.draws]
        most = 2 if target_dtype == torch.bool else 256
        target = torch.randint(case.whole_targets.start, most, (9, 37)).to(target_dtype)
        as_number = target.to(arithmetic_dtype(dtype)) / unit
        torchs = case.torch(*(x.to(arithmetic_dtype(dtype)) for x in params), as_number)
        expected = case.exact(*map(exactly, params), exactly(target) / np.longdouble(unit))[0]
        for reduction in ("none", "batchmean"):
            ours = case.public(*params, target, reduction=reduction)
            theirs = reduced(torchs, reduction, 1)
            comparison.add(reduction, ours, theirs, reduced(expected, reduction, 1))
    comparison.check()


def test_every_loss_of_the_extension_has_a_row():
    ops = {case.op: case.names for case in CASE_OF_OP.values()}
    assert ops == extension.C.LOSSES
    elementwise = {name: loss.operands for name, loss in LOSSES.items() if not loss.rowwise}
    assert ops == elementwise


@pytest.mark.parametrize("case", **each_case)
def test_the_reference_in_float64(case):
    tensors = [d((50, 40)) for d in case.draws]
    loss = LOSSES[case.op]
    expected = case.exact(*map(exactly, tensors))
    for actual, exact in zip(
        (loss.value(*tensors), *loss.gradients(*tensors)), expected, strict=True
    ):
        np.testing.assert_allclose(exactly(actual), exact, rtol=1e-14, atol=1e-15)
