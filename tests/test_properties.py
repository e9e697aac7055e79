"""What holds for every shape and every value."""

import math

import hypothesis.extra.numpy as shapes
import pytest
import torch
from cases import CASES, REDUCTIONS, each_case, reduced
from hypothesis import given, settings
from hypothesis import strategies as st

import vae_fast as vf

quickly = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def broadcast_shapes(draw, count):
    drawn = draw(
        shapes.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=5, min_side=0)
    )
    batch_dims = draw(st.integers(0, len(drawn.result_shape)))
    return drawn.input_shapes, drawn.result_shape, batch_dims


@pytest.mark.parametrize("case", **each_case)
def test_shapes(case):
    """Broadcasting is that of torch; every reduction follows from the elements."""

    @quickly
    @given(broadcast_shapes(len(case.names)), st.integers(0, 2**31))
    def check(drawn, seed):
        torch.manual_seed(seed)
        input_shapes, shape, batch_dims = drawn
        input_shapes = [shape, *input_shapes[1:]]  # the others broadcast to the first one's
        if case.has_target:
            input_shapes[-1] = shape
        tensors = [d(s).requires_grad_() for d, s in zip(case.draws, input_shapes, strict=True)]
        each = case.public(*tensors, batch_dims=batch_dims, reduction="none")
        assert each.shape == shape
        spread = [x.expand(shape).contiguous() for x in tensors]
        torch.testing.assert_close(
            each,
            case.public(*spread, batch_dims=batch_dims, reduction="none"),
            rtol=1e-12,
            atol=1e-14,
        )
        is_code_alone = not case.has_target and 0 < len(shape) == batch_dims
        for reduction in REDUCTIONS:
            if reduction == "batchmean" and is_code_alone:
                continue  # refused
            value = case.public(*tensors, batch_dims=batch_dims, reduction=reduction)
            empty_mean = each.numel() == 0 and reduction in ("mean", "batchmean")
            if not empty_mean:
                torch.testing.assert_close(value, reduced(each, reduction, batch_dims))
            gradients = torch.autograd.grad(value.sum(), tensors)
            assert [g.shape for g in gradients] == [x.shape for x in tensors]

    check()


@quickly
@given(broadcast_shapes(4), st.integers(0, 2**31))
def test_shapes_of_sampling(drawn, seed):
    torch.manual_seed(seed)
    input_shapes, shape, batch_dims = drawn
    input_shapes = [shape, *input_shapes[1:]]
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in input_shapes]
    z, kl = vf.reparameterize_kl(*tensors, batch_dims=batch_dims, reduction="sample", seed=seed)
    assert z.shape == shape
    expected = vf.gaussian_kl(*tensors, batch_dims=batch_dims, reduction="sample")
    torch.testing.assert_close(kl, expected)
    gradients = torch.autograd.grad(z.sum() + kl.sum(), tensors)
    assert [g.shape for g in gradients] == [x.shape for x in tensors]
    k = vf.reparameterize(*tensors[:2], num_samples=3, seed=seed)
    assert k.shape == (3, *shape)


BIG = 2.0**126  # the difference of two such means is still a float32


def floats(low=-math.inf, high=math.inf):
    largest = torch.finfo(torch.float32).max
    return st.floats(max(low, -largest), min(high, largest), width=32)


def lists(*elements):
    return st.lists(st.tuples(*elements), min_size=1, max_size=40).map(
        lambda rows: [torch.tensor(c, dtype=torch.float32) for c in zip(*rows, strict=True)]
    )


@quickly
@given(lists(floats(), floats(0, 1)))
def test_bernoulli_bounds(drawn):
    logits, target = drawn[0].requires_grad_(), drawn[1]
    value = vf.bernoulli_nll(logits, target, reduction="none")
    assert (value >= 0).all()
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert (gradient.abs() <= 1).all()


@quickly
@given(lists(floats(0, 1), floats(0, 1)))
def test_bernoulli_probabilities_bounds(drawn):
    p, target = drawn[0].requires_grad_(), drawn[1]
    value = vf.bernoulli_nll(p, target, from_probs=True, reduction="none")
    assert ((value >= 0) & (value <= 100.001)).all()
    (gradient,) = torch.autograd.grad(value.sum(), p)
    assert gradient.isfinite().all()


@quickly
@given(lists(floats(-BIG, BIG), floats(-1e5, 1e5), floats(-BIG, BIG), floats(-1e5, 1e5)))
def test_divergences_are_never_negative_nor_nan(drawn):
    for operands in (drawn[:2], drawn):
        leaves = [x.clone().requires_grad_() for x in operands]
        value = vf.gaussian_kl(*leaves, reduction="none")
        assert (value >= 0).all()
    (gradient,) = torch.autograd.grad(vf.gaussian_kl(*leaves[:2], reduction="sum"), leaves[0])
    assert torch.equal(gradient, drawn[0])


@quickly
@given(lists(*[floats(-1e4, 1e4)] * 4))
def test_gradients_are_not_nan(drawn):
    for case in CASES:
        operands = case.domain(drawn[: len(case.names)])
        leaves = [x.clone().requires_grad_() for x in operands]
        value = case.public(*leaves, reduction="none")
        assert not value.isnan().any()
        for gradient in torch.autograd.grad(value.sum(), leaves):
            assert not gradient.isnan().any(), case.op


@quickly
@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 2**31))
def test_a_mask_selects(n, batch, seed):
    torch.manual_seed(seed)
    logits, target, mask = torch.randn(batch, n), torch.rand(batch, n), torch.rand(batch, n) < 0.5
    masked = vf.bernoulli_nll(logits, target, mask=mask, reduction="sum")
    selected = vf.bernoulli_nll(logits[mask], target[mask], reduction="sum")
    torch.testing.assert_close(masked, selected)
