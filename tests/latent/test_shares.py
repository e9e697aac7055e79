"""Gamma, Beta and Dirichlet posteriors: torch's and mpmath's values, small concentrations."""

import mpmath
import pytest
import scipy.stats
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.testing import assert_close

from tests.expectations import are_unbiased
from tests.test_distributions import is_mean
from vae_fast.distributions import Beta, Dirichlet, Gamma
from vae_fast.engine.gamma_samples import log_gamma_sample

pytestmark = pytest.mark.of_samples


def _concentrations(*batch, dtype=torch.float64):
    return torch.exp(1.5 * torch.randn(*batch, 4, dtype=dtype))


def test_a_dirichlet_is_torchs():
    a, b = _concentrations(6), _concentrations()
    q, p = Dirichlet(a), Dirichlet(b)
    theirs = td.Dirichlet(a)
    x = theirs.sample((10,))
    assert_close(q.log_prob(x), theirs.log_prob(x))
    assert_close(q.entropy(), theirs.entropy())
    assert_close((q.mean, q.variance), (theirs.mean, theirs.variance))
    expected = kl_divergence(theirs, td.Dirichlet(b))
    for pair in ((q, p), (q, td.Dirichlet(b)), (theirs, p)):
        assert_close(kl_divergence(*pair), expected)


def test_float32_by_the_rule_of_twice():
    """The error against float64 is at most twice that of torch's own class in float32."""
    for size in (0.1, 10.0, 1e4):
        a = size * _concentrations(500, dtype=torch.float32)
        x = td.Dirichlet(a).sample().clamp(min=1e-30)
        exact = td.Dirichlet(a.double(), validate_args=False).log_prob(x.double())
        ours, plain = (
            (kind(a, validate_args=False).log_prob(x) - exact).abs()
            for kind in (Dirichlet, td.Dirichlet)
        )
        ulp = torch.finfo(torch.float32).eps * exact.abs()
        assert (ours - ulp).max() <= 2 * plain.max()


def _exact_divergence(a, b):
    with mpmath.workdps(50):
        a, b = ([mpmath.mpf(float(x)) for x in y] for y in (a, b))
        kl = mpmath.loggamma(sum(a)) - mpmath.loggamma(sum(b))
        for x, y in zip(a, b, strict=True):
            kl += mpmath.loggamma(y) - mpmath.loggamma(x)
            kl += (x - y) * (mpmath.digamma(x) - mpmath.digamma(sum(a)))
        return float(kl)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4, 1e8])
def test_divergences_of_neighbours_are_mpmaths(size):
    a = size * torch.tensor([1.0, 2.0, 0.5])
    b = a * torch.tensor([1 + 2**-10, 1.0, 1 - 2**-11])
    kl = kl_divergence(Dirichlet(a), Dirichlet(b))
    assert_close(
        kl.double(), torch.tensor(_exact_divergence(a, b), dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_samples_have_the_distribution():
    a = torch.tensor([0.05, 0.7, 3.0, 40.0], dtype=torch.float64)
    x = Dirichlet(a).sample((20_000,))
    for k in range(4):
        share = scipy.stats.beta(a[k].item(), (a.sum() - a[k]).item())
        assert scipy.stats.kstest(x[:, k].cpu().numpy(), share.cdf).pvalue > 1e-3
        gamma = scipy.stats.loggamma(a[k].item())
        logs = log_gamma_sample(a[k].expand(20_000))
        assert scipy.stats.kstest(logs.cpu().numpy(), gamma.cdf).pvalue > 1e-3


def test_gradients_of_samples_are_unbiased():
    """To 3 standard errors on 10^6 samples: of E log x, which is digamma, and of E[x_0^2]."""
    a = torch.tensor([0.05, 0.7, 3.0], dtype=torch.float64)
    exact = -torch.polygamma(1, a.sum()).expand(3).clone()
    exact[0] += torch.polygamma(1, a[0])
    are_unbiased(lambda a: Dirichlet(a).rsample_log()[:, 0], [a], [exact])
    p = td.Dirichlet(a.requires_grad_())
    of_moment = torch.autograd.grad(p.variance[1] + p.mean[1] ** 2, a)
    are_unbiased(lambda a: Dirichlet(a).rsample()[:, 1] ** 2, [a], of_moment)
    of_logs = torch.polygamma(1, a.detach())
    are_unbiased(lambda a: Gamma(a).rsample_log().sum(-1), [a], [of_logs])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_small_concentrations_survive(dtype):
    tiny = torch.full((2000, 3), 1e-4, dtype=dtype, requires_grad=True)
    q = Dirichlet(tiny)
    x, logs = q.rsample(), q.rsample_log()
    assert x.dtype == dtype
    assert logs.dtype == torch.float32
    assert logs.isfinite().all()
    assert_close(x.float().sum(-1), torch.ones(2000), rtol=0, atol=4 * torch.finfo(dtype).eps)
    is_mean(x.double(), torch.full((3,), 1 / 3, dtype=torch.float64))
    kl = kl_divergence(q, Dirichlet(torch.ones(3, dtype=dtype)))
    log_gammas = Gamma(tiny, 2.0).rsample_log()
    assert log_gammas.isfinite().all()
    assert log_gammas.min() < -1000  # a float32 of these would be 0
    assert_close(log_gammas.exp().double() <= 1, torch.full((2000, 3), True))
    (slope,) = torch.autograd.grad(kl.sum() / 2000 + logs.exp().sum(), tiny)
    assert slope.isfinite().all()


def test_logarithms_of_gamma_variates():
    p = Gamma(torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64), 3.0)
    is_mean(p.rsample_log((40_000,)), torch.digamma(p.concentration) - torch.log(p.rate))


def test_two_shares_are_a_betas():
    a, b = _concentrations(), _concentrations()
    c, d = _concentrations(), _concentrations()
    of_beta = kl_divergence(Beta(a, b), Beta(c, d))
    of_shares = kl_divergence(
        Dirichlet(torch.stack((a, b), -1)), Dirichlet(torch.stack((c, d), -1))
    )
    assert_close(of_beta, of_shares)


@pytest.mark.usefixtures("fresh_compiler")
def test_one_graph_and_vmap():
    def everything(a):
        q = Dirichlet(a, validate_args=False)
        return q.rsample(), q.entropy()

    a = _concentrations(5, dtype=torch.float32).requires_grad_()
    x, entropy = torch.compile(everything, fullgraph=True, backend="aot_eager")(a)
    assert_close(entropy, Dirichlet(a).entropy())
    (x[:, 0].sum() + entropy.sum()).backward()
    _, entropies = torch.func.vmap(everything, randomness="different")(a)
    assert_close(entropies, entropy)


def test_mistakes():
    with pytest.raises(ValueError, match="Expected parameter concentration "):
        Dirichlet(torch.tensor([1.0, -1.0]), validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        Dirichlet(torch.ones(2), validate_args=True).log_prob(torch.ones(2))
