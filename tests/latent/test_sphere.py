"""Distributions on the sphere: densities beside mpmath, samples and their gradients."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import kl_divergence
from torch.nn import functional
from torch.testing import assert_close

from tests.expectations import are_unbiased
from tests.test_distributions import is_mean
from vae_fast.engine.bessel_orders import bessel_orders
from vae_fast.latent.posteriors import HypersphericalUniform, PowerSpherical, VonMisesFisher

pytestmark = pytest.mark.of_samples

DIMS = (2, 3, 4, 5, 20, 101, 300)
CONCENTRATIONS = (1e-6, 1e-2, 1.0, 2.0, 10.0, 100.0, 1e3, 1e5)
each_kind = pytest.mark.parametrize("kind", [VonMisesFisher, PowerSpherical])


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(50):
        yield


def _directions(*shape, dtype=torch.float64):
    return functional.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


def _exact_logs(dim, k):
    """Of mpmath: log E exp(k w) of a uniform vector's component w, and E[w] under its density."""
    n, k = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(k)
    i = mpmath.besseli(n, k)
    return mpmath.log(i * mpmath.gamma(n + 1) * (2 / k) ** n), mpmath.besseli(n + 1, k) / i


def _log_area(dim):
    half = mpmath.mpf(dim) / 2
    return mpmath.log(2) + half * mpmath.log(mpmath.pi) - mpmath.loggamma(half)


def _tensor(values):
    return torch.tensor([float(x) for x in values], dtype=torch.float64)


# ---- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
def test_bessel_functions(dim):
    k = torch.tensor(CONCENTRATIONS, dtype=torch.float64, requires_grad=True)
    log, ratio = bessel_orders(dim / 2 - 1, k)
    logs, means = zip(*(_exact_logs(dim, x) for x in k.tolist()), strict=True)
    assert_close(log, _tensor(logs), rtol=1e-15, atol=0)
    assert_close(k * ratio, _tensor(means), rtol=1e-15, atol=0)
    (slope,) = torch.autograd.grad((k * ratio).sum(), k)
    exact = [
        1 - a * a - (dim - 1) * a / mpmath.mpf(x) for a, x in zip(means, k.tolist(), strict=True)
    ]
    assert_close(slope, _tensor(exact), rtol=2e-10, atol=0)  # what is left of 1: 1e-10 of it


def test_bessel_functions_at_the_ends():
    k = torch.tensor([0.0, 1e-300, 1e20], dtype=torch.float64, requires_grad=True)
    log, ratio = bessel_orders(0.5, k)
    assert_close(log, _tensor([0, 0, 1e20]))
    assert_close(ratio[:2], _tensor([1 / 3, 1 / 3]))
    slopes = torch.autograd.grad((log.sum() + ratio.sum()), k)[0]
    assert slopes.isfinite().all()


def _exact_von_mises_fisher(dim, k):
    """The log-density along loc, and the divergence from the uniform distribution."""
    log, mean = _exact_logs(dim, k)
    return k - log - _log_area(dim), k * mean - log


def _exact_power_spherical(dim, k):
    a, b = mpmath.mpf(dim - 1) / 2 + k, mpmath.mpf(dim - 1) / 2
    log_mean = mpmath.log(mpmath.beta(a, b) / mpmath.beta(b, b))
    divergence = k * (mpmath.digamma(a) - mpmath.digamma(a + b)) - log_mean
    return -log_mean - _log_area(dim), divergence


EXACT = {VonMisesFisher: _exact_von_mises_fisher, PowerSpherical: _exact_power_spherical}


@each_kind
@pytest.mark.parametrize("dim", DIMS)
def test_densities_and_divergences_are_mpmaths(kind, dim):
    k = torch.tensor(CONCENTRATIONS, dtype=torch.float64)
    loc = _directions(dim)
    q = kind(loc, k)
    at_loc, divergences = zip(*(EXACT[kind](dim, mpmath.mpf(x)) for x in k.tolist()), strict=True)
    assert_close(q.log_prob(loc), _tensor(at_loc), rtol=5e-11, atol=5e-11)
    # That of von Mises and Fisher is exact near 0, too, where it is k^2 / (2 D).
    atol = 0 if kind is VonMisesFisher else 5e-15
    kl = kl_divergence(q, HypersphericalUniform(dim))
    assert_close(kl, _tensor(divergences), rtol=2e-11, atol=atol)
    exact = [_log_area(dim) - x for x in divergences]
    assert_close(q.entropy(), _tensor(exact), rtol=1e-11, atol=1e-11)


@each_kind
def test_the_density_elsewhere(kind):
    loc, z = _directions(6, 5), _directions(6, 5)
    k = torch.tensor([1e-6, 0.5, 3.0, 40.0, 1e3, 1e5], dtype=torch.float64)
    w = (loc * z).sum(-1)
    along = kind(loc, k).log_prob(loc)
    expected = k * (w - 1) if kind is VonMisesFisher else k * torch.log((1 + w) / 2)
    assert_close(kind(loc, k).log_prob(z), along + expected)
    if kind is VonMisesFisher:
        theirs = [
            scipy.stats.vonmises_fisher(m, c).logpdf(x)
            for m, c, x in zip(loc.numpy(), k.numpy(), z.numpy(), strict=True)
        ]
        assert_close(kind(loc, k).log_prob(z), torch.tensor(theirs).flatten())


@each_kind
def test_float32_is_as_right_as_its_arithmetic(kind):
    """Against float64 of the same numbers, and at most twice the plain expression's error."""
    k = torch.tensor([0.5, 10.0, 1e3, 1e5])
    loc = _directions(200, 1, 8, dtype=torch.float32)
    near = _directions(200, 4, 8, dtype=torch.float32) / k.sqrt().unsqueeze(-1)
    z = functional.normalize(loc + near, dim=-1)
    exact = kind(loc.double(), k.double(), validate_args=False).log_prob(z.double())
    error = (kind(loc, k).log_prob(z) - exact).abs().amax(0)
    w = (loc * z).sum(-1)
    slope = k * (w - 1) if kind is VonMisesFisher else k * torch.log((1 + w) / 2)
    plain = kind(loc, k).log_prob(loc) + slope
    assert (error <= 2 * (plain - exact).abs().amax(0)).all()


# ---- samples -------------------------------------------------------------------------------------


def _cosine_distribution(kind, dim, k):
    """Of loc . z, as scipy's tests take it."""
    if kind is PowerSpherical:
        b = (dim - 1) / 2
        return lambda w: scipy.stats.beta.cdf((1 + w) / 2, b + k, b)
    angle = np.linspace(0, math.pi, 200_001)
    log = k * (np.cos(angle) - 1) + (dim - 2) * np.log(np.maximum(np.sin(angle), 1e-300))
    density = np.exp(log - log.max())
    below = scipy.integrate.cumulative_simpson(density, x=angle, initial=0)
    return lambda w: 1 - np.interp(np.arccos(w), angle, below / below[-1])


@each_kind
@pytest.mark.parametrize(
    ("dim", "k"), [(2, 0.3), (2, 8.0), (3, 2.0), (5, 2.0), (40, 30.0), (5, 1e3)]
)
def test_samples_have_the_distribution(kind, dim, k):
    loc = _directions(dim)
    z = kind(loc, torch.tensor(k, dtype=torch.float64)).sample((20_000,))
    assert_close(z.norm(dim=-1), torch.ones_like(z[:, 0]))
    w = (z * loc).sum(-1).clamp(-1, 1)
    test = scipy.stats.kstest(w.cpu().numpy(), _cosine_distribution(kind, dim, k))
    assert test.pvalue > 1e-3
    is_mean(z, kind(loc, torch.tensor(k, dtype=torch.float64)).mean)
    # Tangents are uniform: what is across loc has a covariance that is the same in all directions.
    across = z - w.unsqueeze(-1) * loc
    expected = (1 - w * w).mean() / (dim - 1) * (torch.eye(dim).to(z) - loc.outer(loc))
    is_mean((across.unsqueeze(-1) * across.unsqueeze(-2)).flatten(1), expected.flatten())


def _moment(kind, dim, direction, k, a):
    """E[(a . z)^2] + E[a . z], in closed form."""
    if kind is VonMisesFisher:
        mean = k * bessel_orders(dim / 2 - 1, k)[1]
        across = mean / k
    else:
        mean, n = k / (k + dim - 1), 2 * (k + dim - 1)
        along = (dim - 1) / 2 + k
        variance = 4 * along * (dim - 1) / 2 / ((along + (dim - 1) / 2) ** 2 * (n / 2 + 1))
        across = (1 - variance - mean * mean) / (dim - 1)
    loc = functional.normalize(direction, dim=-1)
    along_loc = (a * loc).sum()
    return across * a @ a + (1 - dim * across) * along_loc**2 + mean * along_loc


@each_kind
@pytest.mark.parametrize(("dim", "k"), [(2, 1.5), (3, 2.0), (20, 50.0)])
def test_gradients_of_samples_are_unbiased(kind, dim, k):
    """To 3 standard errors on 10^6 samples: in the concentration and in the direction."""
    direction = torch.randn(dim, dtype=torch.float64, requires_grad=True)
    concentration = torch.tensor(k, dtype=torch.float64, requires_grad=True)
    a = torch.randn(dim, dtype=torch.float64)
    exact = torch.autograd.grad(
        _moment(kind, dim, direction, concentration, a), (direction, concentration)
    )

    def value(direction, concentration):
        z = kind(functional.normalize(direction, dim=-1), concentration).rsample()
        return (z @ a) ** 2 + z @ a

    are_unbiased(value, (direction, concentration), exact)


def test_the_gradient_in_the_concentration_is_that_of_the_mean():
    """d/dk I_(d/2)(k) / I_(d/2-1)(k), where that of accepted proposals is biased."""
    loc, k = torch.eye(5, dtype=torch.float64)[0], torch.tensor(2.0, dtype=torch.float64)
    _, mean = _exact_logs(5, 2)
    exact = torch.tensor(float(1 - mean**2 - 4 * mean / 2), dtype=torch.float64)
    are_unbiased(lambda k: VonMisesFisher(loc, k).rsample() @ loc, [k], [exact])


@each_kind
def test_extremes_and_half_precision(kind):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        k = torch.tensor([1e-6, 1.0, 6e4]).to(dtype).clamp(min=torch.finfo(dtype).tiny)
        k.requires_grad_()
        for dim in (2, 3, 64):
            loc = _directions(3, dim).to(dtype)
            q = kind(loc, k)
            z = q.rsample((50,))
            assert z.dtype == q.mean.dtype == dtype
            log_prob, kl = q.log_prob(z), kl_divergence(q, HypersphericalUniform(dim))
            assert log_prob.dtype == kl.dtype == q.entropy().dtype == torch.float32
            slopes = torch.autograd.grad(z.sum() + log_prob.sum() + kl.sum() + q.entropy().sum(), k)
            for x in (z, log_prob, kl, *slopes):
                assert x.isfinite().all()
    assert (kind(_directions(2, 3), torch.tensor([1e12, 1e20])).sample().isfinite()).all()


# ---- divergences ---------------------------------------------------------------------------------


@each_kind
def test_divergences_to_a_von_mises_fisher(kind):
    p = kind(_directions(3, 4), torch.tensor([0.5, 5.0, 80.0], dtype=torch.float64))
    q = VonMisesFisher(_directions(3, 4), torch.tensor([2.0, 0.1, 3.0], dtype=torch.float64))
    z = p.sample((40_000,))
    is_mean(p.log_prob(z) - q.log_prob(z), kl_divergence(p, q))


def test_a_divergence_from_itself_is_zero():
    p = VonMisesFisher(_directions(4), torch.tensor([0.1, 3.0, 1e3], dtype=torch.float64))
    assert_close(kl_divergence(p, p), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


# ---- in company ----------------------------------------------------------------------------------


def test_the_uniform_distribution():
    p = HypersphericalUniform(4, dtype=torch.float64)
    z = p.expand((3,)).sample((20_000,))
    assert z.shape == (20_000, 3, 4)
    is_mean(z, torch.zeros(3, 4))
    is_mean(z**2, torch.full((3, 4), 0.25, dtype=torch.float64))
    assert_close(p.log_prob(z[0]), torch.full((3,), -math.log(2 * math.pi**2), dtype=torch.float64))
    with pytest.raises(ValueError, match="dim is 1, expected an int from 2 on"):
        HypersphericalUniform(1)


@each_kind
def test_mistakes(kind):
    with pytest.raises(ValueError, match="expected at least 2 in the last dimension"):
        kind(torch.ones(3, 1), torch.ones(3))
    with pytest.raises(ValueError, match="Expected parameter loc "):
        kind(torch.ones(3, 2), torch.ones(3), validate_args=True)
    with pytest.raises(ValueError, match="concentration has shape"):
        kind(_directions(3, 2), torch.ones(4))


@pytest.mark.usefixtures("fresh_compiler")
@each_kind
def test_one_graph(kind):
    def everything(loc, k):
        q = kind(loc, k)
        z = q.rsample()
        return z, q.log_prob(z), q.entropy(), q.mean

    loc, k = _directions(6, 3, dtype=torch.float32), torch.full((6,), 2.0, requires_grad=True)
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    z, log_prob, entropy, mean = compiled(loc, k)
    q = kind(loc, k)
    assert_close((log_prob, entropy, mean), (q.log_prob(z.detach()), q.entropy(), q.mean))
    (z.sum() + log_prob.sum()).backward()
    assert k.grad.isfinite().all()


@each_kind
def test_vmap(kind):
    loc, k = _directions(5, 3), torch.linspace(0.5, 4, 5, dtype=torch.float64)

    def of_one(loc, k):
        q = kind(loc, k, validate_args=False)
        z = q.rsample()
        return z, q.log_prob(z)

    z, log_prob = torch.func.vmap(of_one, randomness="different")(loc, k)
    assert_close(log_prob, kind(loc, k).log_prob(z))
    slope = torch.func.vmap(
        torch.func.grad(lambda k, loc: of_one(loc, k)[1]), randomness="different"
    )
    assert slope(k, loc).isfinite().all()
