"""Cases that common code gets wrong: values and gradients where float32 runs out of digits.

The oracle is mpmath with 50 digits. Every test runs on both backends.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from cases import each_case, exactly
from tolerance import error, ulp

import vae_fast as vf

mpmath.mp.dps = 50
pytestmark = pytest.mark.usefixtures("backend")

INF, NAN = math.inf, math.nan


def mp(x):
    """The number that a float32 holds."""
    return mpmath.mpf(float(torch.tensor(x, dtype=torch.float32)))


def kl(mu, logvar, prior_mu=0.0, prior_logvar=0.0):
    mu, logvar, m, v = map(mp, (mu, logvar, prior_mu, prior_logvar))
    return ((mu - m) ** 2 * mpmath.exp(-v) + mpmath.exp(logvar - v) - 1 - (logvar - v)) / 2


def column(*numbers):
    return [torch.tensor([x], requires_grad=True) for x in numbers]


def value_and_gradients(function, tensors, **options):
    value = function(*tensors, reduction="none", **options)
    return value, torch.autograd.grad(value.sum(), tensors)


def assert_digits(actual, expected, ulps):
    """To so many units in the last place of float32."""
    expected = float(expected)
    if abs(expected) > torch.finfo(torch.float32).max:
        expected = math.copysign(INF, expected)
    if math.isinf(expected):
        assert actual.item() == expected
    else:
        exact = np.longdouble(expected)
        assert error(actual, np.full(actual.shape, exact)).max() <= ulps * ulp(exact, torch.float32)


@pytest.mark.parametrize("case", **each_case)
def test_extremes(case):
    """Typical formulas are far off here, or NaN. Each element to a few units in the last place."""
    numbers = [torch.tensor(x, dtype=torch.float32) for x in zip(*case.extremes, strict=True)]
    tensors = [x.requires_grad_() for x in numbers]
    value, gradients = value_and_gradients(case.public, tensors)
    with np.errstate(over="ignore"):
        exact = case.exact(*map(exactly, tensors))
    for what, actual, expected in zip(
        ("value", *case.names), (value, *gradients), exact, strict=True
    ):
        assert not actual.isnan().any(), what
        # A gradient may end in a difference with a number of the order of 1: its digits count.
        allowed = 8 * ulp(
            np.maximum(np.abs(expected), 1e-7 if what == "value" else 1), actual.dtype
        )
        assert (error(actual, expected) <= allowed).all(), what


@pytest.mark.parametrize("case", **each_case)
def test_nan_in_an_operand_is_not_hidden(case):
    for k in range(len(case.names)):
        tensors = [d((5,)).float() for d in case.draws]
        tensors[k][2] = NAN
        value = case.public(*tensors, reduction="none")
        assert value.isnan().tolist() == [False, False, True, False, False]


# ---- Gaussian KL ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "logvar", [1e-4, -1e-4, 1e-7, 3e-3, 0.5, -0.9, 1.0, 5.0, -20.0, 80.0, 88.8, 89.4]
)
def test_kl_to_the_standard_normal(logvar):
    value, gradients = value_and_gradients(vf.gaussian_kl, column(0.0, logvar))
    assert_digits(value, kl(0.0, logvar), 4)
    assert_digits(gradients[1], mpmath.expm1(mp(logvar)) / 2, 4)


@pytest.mark.parametrize("logvar", [-200.0, -210.0, -1e4, 90.0, 200.0, 1e4])
def test_kl_where_a_standard_deviation_underflows_or_overflows(logvar):
    value, gradients = value_and_gradients(vf.gaussian_kl, column(0.5, logvar))
    assert_digits(value, kl(0.5, logvar), 4)
    assert gradients[0].item() == 0.5
    assert_digits(gradients[1], mpmath.expm1(mp(logvar)) / 2, 4)
    with_prior = vf.gaussian_kl(*column(0.5, logvar), *column(0.0, 0.0), batch_dims=0)
    assert torch.equal(with_prior, value.sum())


def test_kl_is_finite_wherever_it_is_in_float64():
    """exp(logvar) is beyond the largest number, half of it is not."""
    for logvar, prior_logvar in ((709.0, 0.0), (710.3, 0.0), (400.0, -310.0)):
        tensors = [torch.tensor([x], dtype=torch.float64) for x in (0.0, logvar, 0.0, prior_logvar)]
        tensors = [x.requires_grad_() for x in tensors[: 2 if prior_logvar == 0 else 4]]
        value, gradients = value_and_gradients(vf.gaussian_kl, tensors)
        half = float(mpmath.exp(mpmath.mpf(logvar) - mpmath.mpf(prior_logvar)) / 2)
        assert math.isfinite(half)
        assert value.item() == pytest.approx(half, rel=1e-13)
        assert gradients[1].item() == pytest.approx(half, rel=1e-13)


def test_kl_of_infinite_log_variances():
    value, gradients = value_and_gradients(vf.gaussian_kl, column(0.5, -INF))
    assert value.item() == INF
    assert gradients[1].item() == -0.5
    assert vf.gaussian_kl(*column(0.5, INF), batch_dims=0).item() == INF


def test_kl_with_a_narrow_or_wide_prior():
    for numbers in (
        (0.5, -80.0, 0.5, -80.0),
        (0.5, 80.0, 0.5, 80.0),
        (0.5, -200.0, 0.5, -200.0),
        (1e-20, -80.0, 0.0, -80.0),
        (1.0, 0.0, 0.0, -80.0),
        (3.0, 2.0, -1.0, 80.0),
    ):
        value, gradients = value_and_gradients(vf.gaussian_kl, column(*numbers))
        assert_digits(value, kl(*numbers), 16)  # the exponent's own rounding, times the exponent
        assert not any(g.isnan().any() for g in gradients)


def test_kl_is_never_negative():
    logvar = torch.linspace(-1.5, 1.5, 300_001)
    assert (vf.gaussian_kl(torch.zeros_like(logvar), logvar, reduction="none") >= 0).all()
    tiny = torch.logspace(-45, 0, 2001)
    for x in (tiny, -tiny):
        assert (vf.gaussian_kl(torch.zeros_like(x), x, reduction="none") >= 0).all()
        each = vf.gaussian_kl(
            torch.zeros_like(x), x, torch.zeros(()), torch.zeros(()), reduction="none"
        )
        assert (each >= 0).all()


def test_kl_in_half_precision():
    """Arithmetic and sums in float32: 0.01 is not lost, and 100 000 elements do not overflow."""
    logvar = torch.full((4,), 0.01, dtype=torch.bfloat16)
    expected = 4 * kl(0.0, logvar[0].item())
    actual = vf.gaussian_kl(torch.zeros_like(logvar), logvar, reduction="sum")
    assert_digits(actual, expected, 8)
    mu = torch.full((128, 784), 2.0, dtype=torch.float16)
    assert vf.gaussian_kl(mu, torch.zeros_like(mu), reduction="sum").item() == 2 * 128 * 784
    assert vf.gaussian_kl(mu, torch.zeros_like(mu), free_bits=0.5, reduction="sum") == 200_704


def test_free_bits_are_summed_in_the_arithmetics_dtype():
    """64 divergences of 4.5 beside one of 2e8, beside which each alone is nothing in float32."""
    mu = torch.tensor([2e4] + [3.0] * 64, dtype=torch.float16)
    logvar = torch.zeros((), dtype=torch.float64)
    kl = vf.gaussian_kl(mu, logvar, free_bits=0.5, batch_dims=0, reduction="sum")
    assert kl.dtype == torch.float32
    assert kl == 200_000_288


def test_free_bits_are_counted_per_what_they_say():
    mu = torch.tensor([[0.0, 2.0], [2.0, 2.0]], requires_grad=True)  # kl: (0, 2), (2, 2)
    zeros = torch.zeros(2, 2)

    def free(per, bits, reduction):
        return vf.gaussian_kl(
            mu, zeros, free_bits=bits, free_bits_per=per, reduction=reduction
        ).item()

    assert free("dimension", 0.5, "batchmean") == 3.0  # (1, 2): above, so the plain mean
    assert free("sample", 0.5, "batchmean") == 3.25  # ((0.5, 2), (2, 2))
    assert free("dimension", 1.5, "batchmean") == 3.5  # (1.5, 2)
    assert free("dimension", 1.5, "sum") == 7.0
    assert free("dimension", 1.5, "mean") == 1.75
    assert free("sample", 1.5, "mean") == 1.875
    loss = vf.gaussian_kl(mu, zeros, free_bits=1.5)
    assert torch.autograd.grad(loss, mu)[0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    loss = vf.gaussian_kl(mu, zeros, free_bits=1.5, free_bits_per="sample")
    assert torch.autograd.grad(loss, mu)[0].tolist() == [[0.0, 1.0], [1.0, 1.0]]
    each = vf.gaussian_kl(mu, zeros, free_bits=1.5, free_bits_per="sample", reduction="none")
    assert each.tolist() == [[1.5, 2.0], [2.0, 2.0]]


def test_free_bits_of_groups_are_of_their_sums():
    """Kingma et al. 2016: of the channels of (B, C, H, W), averaged over the batch first."""
    generator = torch.Generator().manual_seed(3)
    mu = (
        torch.randn(7, 4, 2, 3, generator=generator) * torch.tensor([0.1, 0.3, 1, 2])[:, None, None]
    )
    mu.requires_grad_()
    zeros = torch.zeros_like(mu)
    cost = (0.5 * mu * mu).sum((2, 3)).mean(0)
    assert ((cost < 0.5) == torch.tensor([True, True, False, False])).all()
    expected = cost.clamp(min=0.5).sum()
    for reduction, factor in {"batchmean": 1, "sum": 7, "mean": 1 / 24}.items():
        settings = {"free_bits": 0.5, "free_bits_per": "group", "reduction": reduction}
        kl = vf.gaussian_kl(mu, zeros, **settings)
        torch.testing.assert_close(kl, factor * expected)
        gradient, wanted = (
            torch.autograd.grad(x, mu, retain_graph=True)[0] for x in (kl, expected)
        )
        torch.testing.assert_close(gradient, factor * wanted)
        torch.testing.assert_close(vf.reparameterize_kl(mu, zeros, **settings)[1], kl)
    one = vf.gaussian_kl(mu[0], zeros[0], free_bits=0.5, free_bits_per="group", batch_dims=0)
    torch.testing.assert_close(one, (0.5 * mu[0] ** 2).sum((1, 2)).clamp(min=0.5).sum())
    rows, none = mu.flatten(1), zeros.flatten(1)  # groups of one are dimensions
    per = {
        name: vf.gaussian_kl(rows, none, free_bits=0.5, free_bits_per=name)
        for name in ("dimension", "group")
    }
    assert per["dimension"] == per["group"]


def test_sampling_at_extremes():
    mu = torch.tensor([1.0, 1.0, 1.0, 1.0])
    logvar = torch.tensor([-INF, -200.0, -80.0, 80.0], requires_grad=True)
    z = vf.reparameterize(mu, logvar, seed=1)
    eps = vf.reparameterize(torch.zeros(4), torch.zeros(4), seed=1)
    assert z[:3].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(z[3], 1 + eps[3] * math.exp(40), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(z.sum(), logvar)
    expected = 0.5 * torch.exp(0.5 * logvar.detach().double()) * eps.double()
    torch.testing.assert_close(gradient.double(), expected, rtol=4e-6, atol=1e-43)


def test_gradient_of_a_narrow_posterior_keeps_its_digits():
    """z - mu in place of sigma eps would have lost them: sigma is 1e-6 of mu."""
    mu, logvar = torch.full((1000,), 1000.0), torch.full((1000,), -13.8, requires_grad=True)
    z = vf.reparameterize(mu, logvar, seed=1)
    eps = vf.reparameterize(torch.zeros(1000), torch.zeros(1000), seed=1)
    (gradient,) = torch.autograd.grad(z.sum(), logvar)
    expected = 0.5 * torch.exp(0.5 * logvar.detach().double()) * eps.double()
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-6, atol=0)


# ---- Bernoulli -----------------------------------------------------------------------------------


def test_infinite_logits():
    logits = torch.tensor([INF, -INF, INF, -INF, INF], requires_grad=True)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5])
    value = vf.bernoulli_nll(logits, target, reduction="none")
    assert value.tolist() == [0.0, 0.0, INF, INF, INF]
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.tolist() == [0.0, 0.0, 1.0, -1.0, 0.5]


@pytest.mark.parametrize("logit", [0.0, 1e-3, 5.0, 20.0, 60.0, 87.0, 1e4, 3e38])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_confident_logits(logit, target):
    for sign in (1, -1):
        x = torch.tensor([sign * logit], requires_grad=True)
        t = torch.tensor([target])
        value, (gradient,) = vf.bernoulli_nll(x, t, reduction="none"), (None,)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        m, y = mp(sign * logit), mp(target)
        softplus = max(m, 0) + mpmath.log1p(mpmath.exp(-abs(m)))
        assert_digits(value, softplus - m * y, 4)
        sigmoid = mpmath.exp(min(m, 0)) / (1 + mpmath.exp(-abs(m)))
        ulps = 4 if target in (0.0, 1.0) else 4 / max(1e-3, abs(float(sigmoid - y)))
        assert_digits(gradient, sigmoid - y, ulps)


def test_bernoulli_in_half_precision_does_not_overflow():
    logits = torch.full((128, 784), 2.0, dtype=torch.float16, requires_grad=True)
    value = vf.bernoulli_nll(logits, torch.zeros_like(logits), reduction="sum")
    torch.testing.assert_close(
        value.item(), 128 * 784 * math.log1p(math.exp(2.0)), rtol=1e-5, atol=0
    )
    value.backward()
    assert logits.grad.isfinite().all()


def test_probabilities_have_the_values_of_torch():
    """The clamp at -100 included: the drop-in for models that end in a sigmoid."""
    p = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1e-44, 0.3, 1 - 2**-24])
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.3, 1.0, 0.3, 0.0])
    expected = torch.nn.functional.binary_cross_entropy(p, x, reduction="none")
    actual = vf.bernoulli_nll(p, x, from_probs=True, reduction="none")
    torch.testing.assert_close(actual, expected, rtol=3e-7, atol=0)
    assert actual[:2].tolist() == [0.0, 100.0]


def test_probabilities_have_finite_gradients():
    p = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 1e-30, 0.3], requires_grad=True)
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5, 1.0, 0.3], requires_grad=True)
    value = vf.bernoulli_nll(p, x, from_probs=True, reduction="none")
    gradients = torch.autograd.grad(value.sum(), (p, x), create_graph=True)
    expected = torch.tensor([1.0, -1e12, 1e12, -1.0, -5e11, -1e12, 0.0])
    torch.testing.assert_close(gradients[0].detach(), expected, rtol=1e-6, atol=2e-7)
    second = torch.autograd.grad(gradients[0].sum() + gradients[1].sum(), (p, x))
    assert all(g.isfinite().all() for g in (*gradients, *second))


# ---- Gaussian NLL --------------------------------------------------------------------------------


@pytest.mark.parametrize("logvar", [-80.0, -20.0, 0.0, 20.0, 80.0])
def test_gaussian_nll_of_a_fixed_variance(logvar):
    mean, target = torch.tensor([0.25], requires_grad=True), torch.tensor([0.5])
    value = vf.gaussian_nll(mean, target, logvar, reduction="none")
    square = mpmath.mpf("0.0625") * mpmath.exp(-mp(logvar))
    assert_digits(value, (mpmath.log(2 * mpmath.pi) + mp(logvar) + square) / 2, 32)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    assert_digits(gradient, -4 * square, 32)


# ---- the whole -----------------------------------------------------------------------------------


def test_a_log_normal_far_from_its_median(backend):
    """The ends of float64, of which log x is taken, from the other end."""
    target = torch.tensor([0.0, 2.3e-308, 1e308], dtype=torch.float64)
    mean = torch.tensor([1e4, 700.0, -1e4], dtype=torch.float64)
    expected = 0.5 * (mean - target.log()) ** 2 + target.log() + 0.5 * math.log(2 * math.pi)
    expected[0] = math.inf
    value = vf.log_normal_nll(mean, target, 0.0, reduction="none")
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)


def test_elbo_terms_are_not_weighted():
    params, target, mu, logvar = (
        torch.randn(6, 9),
        torch.rand(6, 9),
        torch.randn(6, 2),
        torch.randn(6, 2),
    )
    for reduction in ("sample", "sum", "batchmean", "mean"):
        loss, nll, kl = vf.elbo_loss(params, target, mu, logvar, beta=4.0, reduction=reduction)
        torch.testing.assert_close(loss, nll + 4 * kl)
        torch.testing.assert_close(nll, vf.bernoulli_nll(params, target, reduction=reduction))
        torch.testing.assert_close(kl, vf.gaussian_kl(mu, logvar, reduction=reduction))


@pytest.mark.parametrize("reduction", ["sample", "sum", "batchmean", "mean"])
def test_elbo_averages_over_samples(reduction):
    target, mu, logvar = torch.rand(5, 8), torch.randn(5, 2), torch.randn(5, 2)
    params = torch.randn(3, 5, 8)
    loss = vf.elbo_loss(params, target, mu, logvar, sample_dims=1, reduction=reduction)
    each = [vf.elbo_loss(p, target, mu, logvar, reduction=reduction) for p in params]
    for term, terms in zip(loss, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(term, torch.stack(terms).mean(0))


def test_elbo_of_a_likelihood_with_two_parameters():
    mean, logvar, target = torch.randn(4, 7), torch.randn(7), torch.rand(4, 7)
    codes = torch.randn(4, 2), torch.randn(4, 2)
    loss = vf.elbo_loss((mean, logvar), target, *codes, likelihood="gaussian")
    torch.testing.assert_close(loss.nll, vf.gaussian_nll(mean, target, logvar))
    module = vf.ELBOLoss("gaussian")
    assert torch.equal(module((mean, logvar), target, *codes).loss, loss.loss)
    assert "likelihood='gaussian', beta=1.0" in repr(module)
