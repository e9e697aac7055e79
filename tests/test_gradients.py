"""Gradients of every loss and of the sampling, first and second order, forward mode, in batches."""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import (
    CASES,
    DTYPES,
    LAYOUTS,
    REDUCTIONS,
    draw,
    each_case,
    each_dtype,
    each_in_two_dtypes,
    each_of_the_reference,
    each_pair,
    exactly,
    leaves,
    name_of,
    reduced,
)
from tolerance import Comparison
from torch.autograd import gradcheck, gradgradcheck

import vae_fast as vf
from vae_fast.engine import extension

CAPABILITIES = extension.C.cpu_capabilities()
DRAWS = 8


def draws_of(layout, few=40):
    """More of a few elements, until neither side is right by luck."""
    return range(few if 0 < math.prod(layout.base(0)) < 20 else DRAWS)


def spread(upstream, shape, reduction, batch_dims):
    """An exact upstream gradient of a reduced value, for each element."""
    missing = len(shape) - upstream.ndim
    each = np.broadcast_to(upstream.reshape(upstream.shape + (1,) * missing), shape)
    counted = {"batchmean": shape[:batch_dims], "mean": shape}.get(reduction, ())
    return each / np.longdouble(math.prod(counted))


def summed_to(gradient, shape):
    """Over the dimensions in which an operand of ``shape`` broadcasts."""
    missing = gradient.ndim - len(shape)
    gradient = gradient.sum(tuple(range(missing)))
    dims = tuple(d for d, n in enumerate(shape) if n == 1 and gradient.shape[d] != 1)
    return gradient.sum(dims, keepdims=True)


def compare(comparison, case, tensors, batch_dims, reduction, what="", set_up=((),), to=tuple):
    """Adds the gradients of one call in every operand, under an upstream gradient at random."""
    tensors = [x.detach().requires_grad_() for x in tensors]
    torchs = reduced(case.torch(*torch.broadcast_tensors(*tensors)), reduction, batch_dims)
    upstream = torch.randn(torchs.shape, dtype=torch.float64).to(torchs.dtype)
    theirs = torch.autograd.grad(torchs, tensors, upstream)
    exact = case.exact(*np.broadcast_arrays(*map(exactly, tensors)))[1:]
    each = spread(exactly(upstream), exact[0].shape, reduction, batch_dims)
    for setting in set_up:
        to(*setting)
        value = case.public(*tensors, batch_dims=batch_dims, reduction=reduction)
        ours = torch.autograd.grad(value, tensors, upstream.to(value.dtype))
        for name, x, mine, their, gradient in zip(
            case.names, tensors, ours, theirs, exact, strict=True
        ):
            assert mine.dtype == x.dtype
            terms = each * gradient
            expected, magnitude = (summed_to(t, x.shape) for t in (terms, abs(terms)))
            of = f"{what} {reduction} {name} {setting}"
            # One gradient for each batch entry, which autograd then sums to the operand's shape.
            batch = value.numel()
            is_stored = reduction == "sample" and x.dim() < exact[0].ndim
            stored = magnitude / batch if is_stored else None
            comparison.add(of, mine, their, expected, magnitude, stored)


def nothing():
    """Sets nothing up."""


@pytest.mark.of_the_kernels
@pytest.mark.parametrize(("case", "layout", "dtype"), **each_pair(CASES, LAYOUTS, DTYPES))
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero)")
def test_gradients(case, layout, dtype):
    comparison = Comparison()
    for reduction in ("none", REDUCTIONS[1 + LAYOUTS.index(layout) % 4]):
        for _ in draws_of(layout):
            tensors = draw(case, layout, dtype)
            compare(comparison, case, tensors, layout.batch_dims, reduction, to=nothing)
    comparison.check()


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("layout", **each_of_the_reference)
@pytest.mark.parametrize("case", **each_case)
@pytest.mark.parametrize("backend", ["reference"], indirect=True)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero)")
def test_gradients_of_the_reference(case, layout, backend):
    comparison = Comparison()
    for reduction in ("none", "batchmean"):
        for _ in draws_of(layout, few=100):
            compare(comparison, case, draw(case, layout), layout.batch_dims, reduction, to=nothing)
    comparison.check()


@pytest.mark.of_the_kernels
@pytest.mark.parametrize(("case", "dtype"), **each_in_two_dtypes)
def test_every_instruction_set_and_thread_count(case, dtype, cpu_capability, cpu_threads):
    def configure(capability, threads):
        cpu_capability(capability)
        cpu_threads(threads)

    settings = [(name, threads) for name in CAPABILITIES for threads in (1, 2)]
    comparison = Comparison()
    in_rows, in_a_tile, broadcast = ((5, 2311),), ((5, 15),), ((32, 60, 33), (60, 1), (32, 1, 33))
    for shapes, draws in ((in_rows, 1), (in_a_tile, 3), (broadcast, 2)):
        for reduction in ("none", "sample", "batchmean"):
            for _ in range(draws):
                sizes = [shapes[k % len(shapes)] for k in range(len(case.draws))]
                if case.has_target:
                    sizes[-1] = shapes[0][len(shapes) > 1 :]
                tensors = [d(size).to(dtype) for d, size in zip(case.draws, sizes, strict=True)]
                compare(comparison, case, tensors, 1, reduction, str(shapes), settings, configure)
    comparison.check()


@pytest.mark.parametrize("case", **each_case)
def test_gradients_do_not_depend_on_threads(case, cpu_threads):
    shapes = [(700, 300, 33), (300, 1), (33,), (700, 300, 1)][: len(case.draws)]
    if case.has_target:
        shapes[-1] = (300, 33)
    tensors = [
        d(shape).float().requires_grad_() for d, shape in zip(case.draws, shapes, strict=True)
    ]
    results = []
    for threads in (1, 2):
        cpu_threads(threads)
        results.append(torch.autograd.grad(case.public(*tensors), tensors))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("case", **each_case)
def test_gradient_in_each_operand_alone(case, backend):
    """What is not asked for is not computed, and changes nothing."""
    tensors = [x.float().detach() for x in leaves(case, 5, 7)]
    together = [x.clone().requires_grad_() for x in tensors]
    expected = torch.autograd.grad(case.public(*together), together)
    for k, gradient in enumerate(expected):
        alone = [x.clone().requires_grad_(i == k) for i, x in enumerate(tensors)]
        actual = torch.autograd.grad(case.public(*alone), alone[k])[0]
        torch.testing.assert_close(actual, gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", **each_case)
def test_masked_elements_have_no_gradient(case):
    op = getattr(torch.ops.vae_fast, case.op)
    mask = torch.rand(6, 5) < 0.5
    clean = [d((6, 5)).requires_grad_() for d in case.draws]
    poisoned = [torch.where(mask, x, math.nan).detach().requires_grad_() for x in clean]
    for keep, mean in ((0, 1), (1, 0), (2, 0)):
        weights = torch.randn((6, 5)[:keep], dtype=torch.float64)
        value = (op(*poisoned, mask, keep, mean)[0] * weights).sum()
        gradients = torch.autograd.grad(value, poisoned, create_graph=True)
        value = (op(*clean, mask, keep, mean)[0] * weights).sum()
        expected = torch.autograd.grad(value, clean, create_graph=True)
        for gradient, right in zip(gradients, expected, strict=True):
            assert (gradient[~mask] == 0).all()
            torch.testing.assert_close(gradient, right)
        seconds = torch.autograd.grad(
            sum(g.square().sum() for g in gradients), poisoned, allow_unused=True
        )
        right = torch.autograd.grad(sum(g.square().sum() for g in expected), clean)
        torch.testing.assert_close(seconds, right)


# Its time grows with the square of the elements.
@pytest.mark.of_the_kernels
@pytest.mark.parametrize(
    ("case", "reduction"),
    list(zip(CASES, itertools.cycle(["none", "sample", "batchmean", "mean"]), strict=False)),
    ids=name_of,
)
def test_gradcheck(case, reduction, backend):
    def function(*operands):
        return case.public(*operands, reduction=reduction)

    tensors = leaves(case, 2, 2)
    assert gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, tensors, check_fwd_over_rev=True)


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("case", **each_case)
def test_gradcheck_of_broadcast_operands(case, backend):
    shapes = [(2, 3, 2), (3, 1), (2,), (2, 1, 1)][: len(case.draws)]
    if case.has_target:
        shapes[-1] = (3, 2)
    tensors = [d(shape).requires_grad_() for d, shape in zip(case.draws, shapes, strict=True)]
    for reduction in ("none", "batchmean"):

        def function(*operands, reduction=reduction):
            return case.public(*operands, reduction=reduction)

        assert gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(function, tensors)


def learned_prior(shape):
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for _ in range(4)]


@pytest.mark.parametrize(
    ("operand_count", "reduction"), [(2, "none"), (4, "sample"), (2, "batchmean"), (4, "mean")]
)
def test_gradcheck_of_reparameterize_kl(operand_count, reduction, backend):
    def function(*operands):
        return vf.reparameterize_kl(*operands, reduction=reduction, seed=7)

    tensors = learned_prior((3, 4))[:operand_count]
    assert gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, tensors, check_fwd_over_rev=True)


def test_gradcheck_of_broadcast_sampling(backend):
    tensors = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, 3), (4, 1), (3,), (2, 1, 1))
    ]

    def both(*operands):
        return vf.reparameterize_kl(*operands, seed=7)

    assert gradcheck(both, tensors, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(both, tensors)

    def sample(mu, logvar):
        return vf.reparameterize(mu, logvar, num_samples=3, seed=7)

    assert gradcheck(sample, tensors[:2], check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(sample, tensors[:2], check_fwd_over_rev=True)


@pytest.mark.parametrize("dtype", **each_dtype)
def test_gradients_of_sampling(dtype, backend):
    """Against the plain expression on the same noise, for each output alone and for both."""
    mu, logvar = (torch.randn(33, 21).to(dtype).requires_grad_() for _ in range(2))
    zeros = torch.zeros(33, 21, dtype=torch.float64)
    eps = vf.reparameterize(zeros, zeros, seed=5).detach()
    wide = [x.detach().double().requires_grad_() for x in (mu, logvar)]
    z, kl = vf.reparameterize_kl(mu, logvar, seed=5, reduction="sample")
    expected_z = wide[0] + (0.5 * wide[1]).exp() * eps
    expected_kl = 0.5 * (wide[0].square() + wide[1].exp() - 1 - wide[1]).sum(1)
    upstream = torch.randn(33, 21).to(dtype), torch.randn(33).to(kl.dtype)
    near = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    pairs = ((z, expected_z, upstream[0]), (kl, expected_kl, upstream[1]))
    if dtype in (torch.float32, torch.float64):
        near = {"rtol": 2e-6, "atol": 2e-6}
    for chosen in (pairs[:1], pairs[1:], pairs):
        ours = torch.autograd.grad(
            [p[0] for p in chosen], [mu, logvar], [p[2] for p in chosen], retain_graph=True
        )
        right = torch.autograd.grad(
            [p[1] for p in chosen], wide, [p[2].double() for p in chosen], retain_graph=True
        )
        for a, b in zip(ours, right, strict=True):
            assert a.dtype == dtype
            torch.testing.assert_close(a.double(), b, **near)


@pytest.mark.parametrize("free_bits_per", ["dimension", "group", "sample"])
@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum"])
def test_gradcheck_of_free_bits(free_bits_per, reduction, backend):
    def function(mu, logvar):
        return vf.gaussian_kl(
            mu, logvar, free_bits=0.4, free_bits_per=free_bits_per, reduction=reduction
        )

    assert gradcheck(function, [x for x in learned_prior((5, 3, 2))[:2]])


def test_gradients_reach_the_halves_of_a_chunk(backend):
    """What an encoder's output sees: the gradient of both halves, in place."""
    both = torch.randn(3, 8, 5, 5, requires_grad=True)
    z, kl = vf.reparameterize_kl(*both.chunk(2, dim=1), seed=3)
    (z.square().sum() + kl).backward()
    mu, logvar = (x.detach().clone().requires_grad_() for x in both.chunk(2, dim=1))
    z, kl = vf.reparameterize_kl(mu, logvar, seed=3)
    (z.square().sum() + kl).backward()
    assert torch.equal(both.grad, torch.cat([mu.grad, logvar.grad], dim=1))
