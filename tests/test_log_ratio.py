"""log q(z|x) - log p(z): exact, finite where the densities are, and its mean the divergence."""

import math

import mpmath
import numpy as np
import pytest
import torch
from cases import DTYPES, exactly
from tolerance import Comparison
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Normal
from torch.func import grad, vmap

import vae_fast as vf

SHAPES = {"z": (3, 4, 5), "mu": (4, 5), "logvar": (4, 5), "prior_mu": (5,), "prior_logvar": (4, 1)}


def operands(dtype=torch.float64, prior=True):
    names = SHAPES if prior else tuple(SHAPES)[:3]
    return {name: torch.randn(SHAPES[name]).to(dtype).requires_grad_() for name in names}


def plain(z, mu, logvar, prior_mu=0.0, prior_logvar=0.0):
    """As PyTorch's own distributions have it, each element."""
    q, p = (
        Normal(m, torch.as_tensor(0.5 * v, dtype=z.dtype).exp(), validate_args=False)
        for m, v in ((mu, logvar), (prior_mu, prior_logvar))
    )
    return q.log_prob(z) - p.log_prob(z)


def exact(z, mu, logvar, prior_mu=0.0, prior_logvar=0.0):
    """Each element, and the size of the terms that it is the difference of."""
    squares = [(z - m) ** 2 * np.exp(-v) for m, v in ((mu, logvar), (prior_mu, prior_logvar))]
    value = (squares[1] + prior_logvar - squares[0] - logvar) / 2
    return value, (sum(squares) + abs(logvar) + abs(prior_logvar)) / 2


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients(dtype, prior, backend):
    comparison = Comparison()
    for _ in range(8):
        given = operands(dtype, prior)
        wide = {k: exactly(x) for k, x in given.items()}
        each, size = exact(**wide)
        value = vf.gaussian_log_ratio(**given, batch_dims=2, reduction="none")
        comparison.add("each", value, plain(**given), each)
        value = vf.gaussian_log_ratio(**given, batch_dims=2, reduction="sample")
        comparison.add("sample", value, plain(**given).sum(2), each.sum(2), size.sum(2))
        got = torch.autograd.grad(value.sum(), tuple(given.values()))
        theirs = torch.autograd.grad(plain(**given).sum(), tuple(given.values()))
        doubles = {k: x.detach().double().requires_grad_() for k, x in given.items()}
        right = torch.autograd.grad(plain(**doubles).sum(), tuple(doubles.values()))
        if dtype == torch.float32:  # whose oracle float64 is
            for name, *x in zip(given, got, theirs, right, strict=True):
                comparison.add(f"gradient in {name}", *x[:2], exactly(x[2]))
    comparison.check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_and_reductions(dtype, backend):
    given = operands(dtype)
    wide = {k: x.detach().double() for k, x in given.items()}
    each = plain(**wide)
    total = each.sum()
    right = {"none": each, "sample": each.sum(2), "sum": total, "batchmean": total / 12,
             "mean": total / 60}  # fmt: skip
    for reduction, expected in right.items():
        value = vf.gaussian_log_ratio(**given, batch_dims=2, reduction=reduction)
        sums = torch.promote_types(dtype, torch.float32)
        assert value.dtype == (dtype if reduction == "none" else sums)
        loose = {"rtol": 1e-5, "atol": 1e-5} if reduction != "none" or dtype == sums else {}
        torch.testing.assert_close(value, expected.to(value.dtype), **loose)


@pytest.mark.parametrize("logvar", [-80.0, -210.0, 80.0, 200.0])
def test_variances_at_the_ends(logvar, backend):
    """Where torch's densities are infinite, or have a gradient that is no number."""
    z = torch.tensor([[0.5]], requires_grad=True)
    of = torch.tensor([[logvar]], requires_grad=True)
    value = vf.gaussian_log_ratio(z, z.detach(), of)
    torch.testing.assert_close(value.item(), 0.125 - 0.5 * logvar)
    of_z, of_logvar = torch.autograd.grad(value, (z, of))
    torch.testing.assert_close((of_z.item(), of_logvar.item()), (0.5, -0.5))


def test_the_noise_keeps_its_digits():
    """A sigma of 1e-4 beside a mean of 3: of z - mu, float32 has three digits left."""
    mu, logvar = torch.full((50, 20), 3.0), torch.full((50, 20), 2 * math.log(1e-4))
    noise = torch.randn(50, 20)
    z = vf.reparameterize(mu, logvar, noise=noise)
    right = 0.5 * ((mu.double() + 1e-4 * noise.double()).square() - noise.double().square())
    right = (right - math.log(1e-4)).sum(1)
    error = {}
    for name, x in (("noise", noise), ("z", None)):
        value = vf.gaussian_log_ratio(z, mu, logvar, noise=x, reduction="sample")
        error[name] = (value - right).abs().max()
    assert error["noise"] < 1e-4
    assert error["z"] > 100 * error["noise"]


@pytest.mark.parametrize("prior", [True, False])
def test_the_noise_has_the_gradient_of_what_was_drawn(prior, backend):
    given = operands(prior=prior)
    del given["z"]
    noise = torch.randn(3, 4, 5, dtype=torch.float64)

    def ratio(noise_is_given):
        z = given["mu"] + (0.5 * given["logvar"]).exp() * noise
        known = {"noise": noise} if noise_is_given else {}
        return vf.gaussian_log_ratio(z, **given, **known, batch_dims=2, reduction="sample")

    torch.testing.assert_close(ratio(True), ratio(False))
    of_noise, of_z = (
        torch.autograd.grad(ratio(x).square().sum(), tuple(given.values())) for x in (True, False)
    )
    torch.testing.assert_close(of_noise, of_z)


def test_its_mean_is_the_divergence():
    """By Gauss and Hermite's rule, exact for a polynomial."""
    x, w = np.polynomial.hermite_e.hermegauss(10)
    mu, logvar, prior_mu, prior_logvar = torch.randn(4, 6, 3, dtype=torch.float64)
    noise = torch.tensor(x).reshape(10, 1, 1)
    z = mu + (0.5 * logvar).exp() * noise
    each = vf.gaussian_log_ratio(
        z, mu, logvar, prior_mu, prior_logvar, batch_dims=2, reduction="none"
    )
    weights = torch.tensor(w / w.sum()).reshape(10, 1, 1)
    kl = vf.gaussian_kl(mu, logvar, prior_mu, prior_logvar, reduction="none")
    torch.testing.assert_close((weights * each).sum(0), kl)


def test_against_mpmath():
    with mpmath.workdps(40):
        own, prior = (mpmath.npdf(mpmath.mpf("1.25"), *of) for of in ((0.5, 2), (-1, 4)))
        right = float(mpmath.log(own) - mpmath.log(prior))
    z = torch.tensor([1.25], dtype=torch.float64)
    logvar = 2 * math.log(2)
    value = vf.gaussian_log_ratio(z, 0.5, logvar, -1.0, 2 * logvar, batch_dims=0)
    assert value.item() == pytest.approx(right, rel=1e-14)
    spelled = vf.gaussian_log_ratio(z, 0.5, scale=2.0, prior_mu=-1.0, prior_logvar=2 * logvar)
    torch.testing.assert_close(spelled, value)


def test_second_derivatives_and_transforms(backend):
    given = tuple(operands().values())

    def ratio(*x):
        return vf.gaussian_log_ratio(*x, batch_dims=2, reduction="sample")

    assert gradcheck(ratio, given)
    assert gradgradcheck(ratio, given)
    z, mu, logvar = (x.detach() for x in given[:3])

    def total(*x):
        return vf.gaussian_log_ratio(*x, reduction="sum")

    each = vmap(grad(total, (0, 1, 2)), (0, None, None))
    right = [torch.autograd.functional.jacobian(total, (one, mu, logvar)) for one in z]
    for got, expected in zip(each(z, mu, logvar), zip(*right, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected))


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled():
    given = operands(torch.float32)
    noise = torch.randn(3, 4, 5)

    def ratio(given, noise):
        return vf.gaussian_log_ratio(**given, noise=noise, batch_dims=2, reduction="sample")

    compiled = torch.compile(ratio, fullgraph=True, backend="aot_eager")
    for x in (None, noise):
        torch.testing.assert_close(compiled(given, x), ratio(given, x))


def test_views():
    z, mu, logvar = torch.randn(3, 6, 5).unbind(0)
    z2, mu2, logvar2 = (torch.stack((x, x), 2)[:, :, 1] for x in (z, mu, logvar))
    torch.testing.assert_close(
        vf.gaussian_log_ratio(z2, mu2, logvar2), vf.gaussian_log_ratio(z, mu, logvar)
    )
