"""Upstream gradients that are not one: loss scaling, signs that torch keeps beside the memory.

A gradient is right to its own rounding, whatever it is multiplied with: float16 ends at 6e-8 and at
65504, and a GradScaler begins with 65536.
"""

import numpy as np
import pytest
import torch
from cases import REDUCTIONS, arithmetic_dtype, each_case, exactly
from device import DEVICE
from tolerance import error, ulp

import vae_fast as vf

SHAPE = (16, 24)


def count(reduction):
    """What the reduction divides by."""
    return {"mean": SHAPE[0] * SHAPE[1], "batchmean": SHAPE[0]}.get(reduction, 1)


def drawn(case, dtype, scale=1.0):
    return [(scale * d(SHAPE)).to(dtype).to(DEVICE).requires_grad_() for d in case.draws]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("upstream", [1.0, 65536.0, 1e-3, -7.3e4])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", **each_case)
def test_float16_gradients_are_rounded_once(case, reduction, upstream):
    operands = drawn(case, torch.float16)
    value = case.public(*operands, reduction=reduction)
    if reduction == "none":  # the value's dtype is float16, and so is its upstream gradient
        value, upstream = value.float(), min(max(upstream, -1e4), 1e4)
    gradients = torch.autograd.grad(value, operands, torch.full_like(value, upstream))
    exact = case.exact(*map(exactly, operands))[1:]
    factor = np.longdouble(
        torch.tensor(upstream).half().item() if reduction == "none" else np.float32(upstream)
    ) / count(reduction)
    for name, gradient, expected in zip(case.names, gradients, exact, strict=True):
        off = error(gradient, expected * factor)
        # Float32's own error of a difference with a number of the order of one comes to it.
        allowed = 0.51 * ulp(expected * factor, torch.float16) + 1e-6 * abs(factor)
        assert (off <= allowed).all(), name


def test_a_summed_float16_gradient_overflows_only_with_its_result():
    mean = torch.randn(64, 512).half()
    logvar = torch.tensor(-5.0, dtype=torch.float16, requires_grad=True)  # one for all elements
    target = torch.randn(64, 512).half()
    nll = vf.gaussian_nll(mean, target, logvar, reduction="sum")
    (gradient,) = torch.autograd.grad(nll * 1e-4, logvar)  # the sum itself is beyond float16
    wide = logvar.detach().double().requires_grad_()
    exact = vf.gaussian_nll(mean.double(), target.double(), wide, reduction="sum") * 1e-4
    (expected,) = torch.autograd.grad(exact, wide)
    assert expected < -100
    assert gradient == expected.half()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("case", **each_case)
def test_other_dtypes_keep_their_digits(case, dtype):
    """Rounded in the forward and again when they are scaled: by one and a half units at most."""
    operands = drawn(case, dtype)
    value = case.public(*operands, reduction="batchmean")
    upstream = torch.full_like(value, 3.7e4)
    gradients = torch.autograd.grad(value, operands, upstream)
    exact = case.exact(*map(exactly, operands))[1:]
    factor = np.longdouble(upstream.item()) / count("batchmean")
    for name, gradient, expected in zip(case.names, gradients, exact, strict=True):
        epsilon = torch.finfo(arithmetic_dtype(dtype)).eps
        of_formula = 8 * epsilon * np.maximum(abs(expected), 1) * abs(factor)
        allowed = 1.51 * ulp(expected * factor, dtype) + of_formula
        assert (error(gradient, expected * factor) <= allowed).all(), name


@pytest.mark.parametrize(
    ("wide", "narrow"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)]
)
def test_what_is_summed_later_is_not_rounded_before(wide, narrow):
    """A number per feature beside wider operands; the value keeps what the gradient sums over."""
    mean, target = torch.randn(2, 4096, 3, dtype=wide).to(DEVICE)
    logvar = torch.full((3,), 0.3, dtype=narrow, device=DEVICE, requires_grad=True)
    vf.gaussian_nll(mean, target, logvar, reduction="none").sum().backward()
    square = (exactly(mean) - exactly(target)) ** 2 * np.exp(-exactly(logvar))
    each = (1 - square) / 2
    of_arithmetic = 8 * torch.finfo(wide).eps * abs(each).sum(0)
    allowed = 0.51 * ulp(each.sum(0), narrow) + of_arithmetic
    assert (error(logvar.grad, each.sum(0)) <= allowed).all()


def lazily(kind):
    """An upstream gradient of -1, or 0, whose value does not stand in memory."""
    if kind == "negative":
        x = torch.complex(torch.tensor(0.0), torch.tensor(1.0)).conj().imag
        assert x.is_neg()
        return x
    x = torch._efficientzerotensor(())
    assert x._is_zerotensor()
    return x


@pytest.mark.parametrize(("kind", "factor"), [("negative", -1), ("zero", 0)])
@pytest.mark.parametrize("case", **each_case)
def test_an_upstream_gradient_whose_value_is_not_in_memory(case, kind, factor):
    operands = drawn(case, torch.float32)

    def gradients(upstream):
        value = case.public(*operands)
        return torch.autograd.grad(value, operands, upstream)

    for ours, plain in zip(gradients(lazily(kind)), gradients(torch.ones(())), strict=True):
        assert torch.equal(ours, factor * plain)


@pytest.mark.parametrize("reduction", ["sample", "sum"])
def test_operands_and_targets_whose_sign_is_lazy(reduction):
    def negated(x):
        return torch.complex(torch.zeros_like(x), x).conj().imag

    mu, logvar, upstream = torch.randn(3, 4, 6)
    lazy = [negated(-mu).requires_grad_(), negated(-logvar).requires_grad_()]
    plain = [mu.clone().requires_grad_(), logvar.clone().requires_grad_()]
    assert all(x.is_neg() for x in lazy)
    for function in (
        lambda a, b: vf.gaussian_nll(a, torch.zeros(4, 6), b, reduction=reduction).sum(),
        lambda a, b: vf.gaussian_kl(a, b, reduction=reduction).sum(),
        lambda a, b: (vf.reparameterize(a, b, seed=3) * upstream).sum(),
        lambda a, b: vf.reparameterize_kl(a, b, seed=3, reduction=reduction)[1].sum(),
        lambda a, b: vf.multinomial_nll(a, b.abs().detach(), reduction=reduction).sum(),
    ):
        for ours, theirs in zip(
            (function(*lazy), *torch.autograd.grad(function(*lazy), lazy, allow_unused=True)),
            (function(*plain), *torch.autograd.grad(function(*plain), plain, allow_unused=True)),
            strict=True,
        ):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)


@pytest.mark.usefixtures("backend")
def test_one_infinite_element_makes_a_float64_sum_infinite():
    mean = torch.tensor([[1e200, 1.0], [2.0, 3.0]], dtype=torch.float64)
    for reduction in ("sum", "batchmean", "mean"):
        assert vf.gaussian_nll(mean, torch.zeros_like(mean), reduction=reduction) == torch.inf
    logvar = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    vf.gaussian_nll(mean, torch.zeros_like(mean), logvar, reduction="sum").backward()
    assert logvar.grad[0] == -torch.inf
    assert logvar.grad[1].item() == pytest.approx(0.5 * (2 - 1 - 9))


def test_a_float32_sum_of_gradients_may_be_infinite():
    mean = torch.full((4, 3), 1e30)
    logvar = torch.zeros((), requires_grad=True)
    vf.gaussian_nll(mean, torch.zeros(4, 3), logvar, reduction="sum").backward()
    assert logvar.grad == -torch.inf


@pytest.mark.parametrize("device", [DEVICE, "meta"])
def test_more_elements_than_can_be_counted(device):
    for rows, columns in ((3 << 30, 1 << 32), (1 << 32, 1 << 32)):
        left = torch.zeros(1, 1, device=device).expand(rows, 1)
        right = torch.zeros(1, 1, device=device).expand(1, columns)
        with pytest.raises(ValueError, match=r"more elements than 64 bits can count"):
            torch.ops.vae_fast.bernoulli_nll(left, right, None, 0, 0)


def test_more_dimensions_than_the_kernels_have():
    x = torch.zeros([1] * 17)
    with pytest.raises(ValueError, match="17 dimensions, expected at most 16"):
        torch.ops.vae_fast.bernoulli_nll(x, x, None, 0, 0)


@pytest.mark.parametrize("device", [DEVICE, "meta"])
def test_the_samplers_backward_refuses_what_does_not_fit(device):
    mu, logvar, noise, grad_z = torch.randn(4, 64, 100, device=device)
    op, grad_kl = torch.ops.vae_fast.reparameterize_kl_backward, torch.ones((), device=device)

    def call(noise=noise, grad_z=grad_z, grad_kl=grad_kl):
        return op(grad_z, grad_kl, mu, logvar, None, None, noise, 0, 1, 3)

    call()
    for name, wrong in (
        ("noise", torch.randn(10)),
        ("noise", torch.randn(64, 1)),
        ("grad_z", torch.randn(64, 99)),
        ("grad_kl", torch.randn(64)),
    ):
        with pytest.raises(ValueError, match=f"{name} has shape"):
            call(**{name: wrong.to(device)})
    with pytest.raises(TypeError, match="grad_z has dtype"):
        call(grad_z=grad_z.long())
    other = "cpu" if device == "meta" else "meta"
    with pytest.raises(ValueError, match=f"noise is on {other}"):
        call(noise=torch.ones(64, 100, device=other))
    with pytest.raises(ValueError, match="noise is missing, expected where grad_z is given"):
        call(noise=None)
    call(noise=None, grad_z=None)


@pytest.mark.parametrize("case", **each_case)
def test_the_backward_op_refuses_what_does_not_fit(case):
    operands = [x.detach() for x in drawn(case, torch.float32)]
    op = getattr(torch.ops.vae_fast, f"{case.op}_backward")
    op(torch.ones(()), *operands, None, 0, 1, 1)
    with pytest.raises(ValueError, match=r"upstream has shape \(3,\), expected \(\)"):
        op(torch.ones(3), *operands, None, 0, 1, 1)
    with pytest.raises(TypeError, match="upstream has dtype"):
        op(torch.ones((), dtype=torch.int64), *operands, None, 0, 1, 1)
    torch.library.opcheck(
        op, (torch.ones(SHAPE[:1]), *operands, None, 1, 0, 3), test_utils=("test_faketensor",)
    )


@pytest.mark.parametrize("upstream", [65536.0, 1e-3])
@pytest.mark.parametrize("reduction", ["sample", "sum", "batchmean", "mean"])
def test_float16_gradients_of_the_multinomial_are_rounded_once(reduction, upstream):
    logits = torch.randn(16, 40).half().to(DEVICE).requires_grad_()
    target = torch.randint(0, 4, (16, 40)).half().to(DEVICE)
    value = vf.multinomial_nll(logits, target, reduction=reduction)
    (gradient,) = torch.autograd.grad(value, logits, torch.full_like(value, upstream))
    wide = exactly(logits)
    softmax = np.exp(wide - np.log(np.exp(wide).sum(1, keepdims=True)))
    counts = exactly(target)
    divisor = {"mean": 16 * 40, "batchmean": 16}.get(reduction, 1)
    factor = np.longdouble(np.float32(upstream)) / divisor
    expected = (counts.sum(1, keepdims=True) * softmax - counts) * factor
    allowed = 0.51 * ulp(expected, torch.float16) + 1e-5 * abs(factor)
    assert (error(gradient, expected) <= allowed).all()
