"""Parts of hierarchies: residual posteriors, merged normals, balanced divergences."""

import mpmath
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

import vae_fast as vf
from tests.test_distributions import is_mean
from vae_fast.latent import balance_kl, merge_normals, residual_normal_kl


def _four(*shape, dtype=torch.float64):
    return [torch.randn(*shape, dtype=dtype) for _ in range(4)]


def test_a_residual_normal_is_a_normal():
    given = [x.requires_grad_() for x in _four(3, 5)]
    delta_mu, delta_logvar, mu, logvar = given
    q = Normal(mu + delta_mu, (0.5 * (logvar + delta_logvar)).exp())
    exact = kl_divergence(q, Normal(mu, (0.5 * logvar).exp()))
    z, kl = residual_normal_kl(*given, reduction="none")
    assert_close(kl, exact)
    slopes = (torch.autograd.grad(x.sum(), given[:2], retain_graph=True) for x in (kl, exact))
    assert_close(*slopes)
    _, total = residual_normal_kl(*given)
    assert_close(total, exact.sum() / 3)
    with torch.no_grad():
        wide = [x.expand(40_000, 3, 5) for x in given]
        z, _ = residual_normal_kl(*wide)
    is_mean(z, q.mean.detach())
    is_mean((z - q.mean.detach()) ** 2, q.variance.detach())


def test_the_noise_is_the_packages():
    given = _four(3, 5, dtype=torch.float32)
    z, _ = residual_normal_kl(*given, seed=3)
    delta_mu, delta_logvar, mu, logvar = given
    assert_close(z, vf.reparameterize(mu + delta_mu, logvar + delta_logvar, seed=3))


@pytest.mark.parametrize("prior_logvar", [-60.0, 0.0, 60.0])
def test_a_residual_divergence_does_not_cancel(prior_logvar):
    """Near the prior, which lies far away: what both have in common is never subtracted."""
    ratio = torch.tensor([[1e-4, -2e-4]])
    delta_mu = 1e-4 * torch.exp(torch.tensor(0.5 * prior_logvar)).expand(1, 2)
    _, kl = residual_normal_kl(
        delta_mu, ratio, torch.full((1, 2), 7e3), torch.full((1, 2), prior_logvar)
    )
    with mpmath.workdps(40):
        mu2 = mpmath.mpf(float(delta_mu[0, 0])) ** 2 * mpmath.exp(-prior_logvar)
        exact = sum(
            (mu2 + mpmath.expm1(x) - x) / 2 for x in (mpmath.mpf(y) for y in ratio[0].tolist())
        )
    assert_close(kl.double(), torch.tensor(float(exact), dtype=torch.float64), rtol=1e-5, atol=0)


def test_merged_normals_are_the_product():
    mu, logvar, other_mu, other_logvar = _four(3, 5)
    merged_mu, merged_logvar = merge_normals(mu, logvar, other_mu, other_logvar)
    merged = Normal(merged_mu, (0.5 * merged_logvar).exp())
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    both = sum(
        Normal(m, (0.5 * v).exp()).log_prob(x) for m, v in ((mu, logvar), (other_mu, other_logvar))
    )
    difference = both - merged.log_prob(x)
    assert_close(difference[0], difference[1])  # of the product's constant alone
    assert_close(merge_normals(other_mu, other_logvar, mu, logvar), (merged_mu, merged_logvar))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extremes(dtype):
    mu, other = torch.tensor([2.0, 3.0], dtype=dtype)
    wide, narrow = torch.tensor([300.0, -300.0], dtype=dtype).requires_grad_()
    for pair in ((wide, narrow), (wide, wide), (narrow, narrow)):
        merged, logvar = merge_normals(mu, pair[0], other, pair[1])
        assert merged.dtype == logvar.dtype == dtype
        assert merged.isfinite()
        assert logvar.isfinite()
        assert_close(logvar, min(pair).detach(), rtol=1e-2, atol=0)
    assert_close(merge_normals(mu, wide, other, narrow)[0], other)
    given = [x.to(dtype) for x in _four(2, 3)]
    z, kl = residual_normal_kl(*given)
    assert z.dtype == dtype
    assert kl.dtype == torch.float32


def test_balanced_divergences():
    kls, sizes = torch.rand(10, 3).requires_grad_(), [2, 4, 8]
    coefficients = balance_kl(kls, sizes)
    rates = kls.detach().mean(0) / torch.tensor(sizes)
    assert_close(coefficients, rates / rates.mean())
    assert_close(coefficients.mean(), torch.tensor(1.0))
    assert not coefficients.requires_grad
    assert_close(balance_kl(kls.mean(0), sizes), coefficients)
    assert balance_kl(torch.zeros(4, 3), sizes).tolist() == [1, 1, 1]
    assert_close(balance_kl(torch.tensor([2.0, 4.0, 8.0]), sizes), torch.ones(3))


def test_mistakes():
    a = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="residual_normal_kl: prior_mu has shape"):
        residual_normal_kl(a, a, torch.zeros(4, 2, 3), a)
    with pytest.raises(TypeError, match="merge_normals: logvar is of type float"):
        merge_normals(a, 0.0, a, a)
    with pytest.raises(ValueError, match="merge_normals: other_mu has shape"):
        merge_normals(a, a, torch.zeros(5), a)
    with pytest.raises(ValueError, match=r"kls has shape \(2, 3\) and there are 2 sizes"):
        balance_kl(a, [1, 2])
    with pytest.raises(ValueError, match="expected positive numbers"):
        balance_kl(a, [1, 2, 0])
    with pytest.raises(TypeError, match="balance_kl: kls is of type list"):
        balance_kl([1.0], [1])


@pytest.mark.usefixtures("fresh_compiler")
def test_one_graph_and_vmap():
    given = _four(3, 5, dtype=torch.float32)

    def everything(*given):
        z, kl = residual_normal_kl(*given, seed=2)
        return z, kl, *merge_normals(*given), balance_kl(given[0].abs(), [1, 2, 3, 4, 5])

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*given), everything(*given))
    merged = torch.func.vmap(merge_normals)(*given)
    assert_close(merged, merge_normals(*given))
