"""The divergence in three parts, against sums over all pairs in float64 and closed forms."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import vae_fast as vf


def codes(count=40, size=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    mu, logvar, noise = torch.randn(3, count, size, generator=generator, dtype=torch.float64)
    logvar = logvar - 1
    z = mu + (logvar / 2).exp() * noise
    return [x.to(dtype).requires_grad_() for x in (z, mu, logvar)]


def by_pairs(z, mu, logvar, log_weight):
    """Equation 2 of Chen et al. 2018, with all B x B x D log densities."""
    each = Normal(mu, (logvar / 2).exp()).log_prob(z.unsqueeze(1))  # (B, B, D)
    log_q = (each.sum(2) + log_weight).logsumexp(1)
    marginals = (each + log_weight.unsqueeze(-1)).logsumexp(1).sum(1)
    log_conditional = each.sum(2).diagonal()
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(1)
    return [
        (log_conditional - log_q).mean(),
        (log_q - marginals).mean(),
        (marginals - log_prior).mean(),
    ]


@pytest.mark.parametrize("size", [None, 1000])
def test_parts_and_their_gradients_by_all_pairs(size):
    operands = codes()
    weight = -math.log(40 * (size or 1))
    expected = by_pairs(*operands, torch.full((40, 40), weight, dtype=torch.float64))
    parts = vf.kl_decomposition(*operands, dataset_size=size)
    for part, wanted in zip(parts, expected, strict=True):
        torch.testing.assert_close(part, wanted)
        ours, theirs = (
            torch.autograd.grad(x, operands, retain_graph=True, allow_unused=True)
            for x in (part, wanted)
        )
        for a, b in zip(ours, theirs, strict=True):
            # Of no influence on one is absent there, and nothing here.
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


@pytest.mark.parametrize("stratified", [False, True])
def test_the_sum_is_the_one_sample_divergence(stratified):
    z, mu, logvar = codes()
    parts = vf.kl_decomposition(z, mu, logvar, dataset_size=500, stratified=stratified)
    q = Normal(mu, (logvar / 2).exp())
    ratio = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1).mean()
    torch.testing.assert_close(sum(parts), ratio)


def test_a_gaussian_aggregated_posterior_has_closed_forms():
    """mu ~ N(0, S), q(z|x) = N(mu, v): q(z) = N(0, S + v), each part within 4 standard errors."""
    torch.manual_seed(1)
    count, variance = 4000, 0.5
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.5]], dtype=torch.float64)
    mu = MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).sample((count,))
    logvar = torch.full_like(mu, math.log(variance))
    z = vf.reparameterize(mu, logvar)
    of_all = covariance + variance * torch.eye(2, dtype=torch.float64)
    joint, prior = MultivariateNormal(torch.zeros(2).double(), of_all), Normal(0.0, 1.0)
    marginals = [Normal(0.0, v) for v in of_all.diagonal().sqrt()]
    information = 0.5 * (of_all.logdet() - 2 * math.log(variance))
    correlation = 0.5 * (of_all.diagonal().log().sum() - of_all.logdet())
    rest = sum(kl_divergence(marginal, prior) for marginal in marginals)
    assert joint.entropy() < sum(marginal.entropy() for marginal in marginals)
    parts = vf.kl_decomposition(z, mu, logvar)
    for part, wanted in zip(parts, (information, correlation, rest), strict=True):
        assert part.item() == pytest.approx(wanted.item(), abs=4 * 1.5 / math.sqrt(count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype):
    operands = codes(dtype=dtype)
    parts = vf.kl_decomposition(*operands)
    exact = vf.kl_decomposition(*(x.double() for x in operands))
    for part, wanted in zip(parts, exact, strict=True):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part.double(), wanted, rtol=1e-5, atol=1e-5)


def test_it_compiles_whole():
    operands = codes(dtype=torch.float32)
    compiled = torch.compile(vf.kl_decomposition, fullgraph=True, backend="aot_eager")
    parts = vf.kl_decomposition(*operands, dataset_size=100)
    torch.testing.assert_close(compiled(*operands, dataset_size=100), parts)


def test_rows_of_z_are_rows_of_mu():
    z, mu, logvar = codes()
    with pytest.raises(
        ValueError, match=r"kl_decomposition: z has shape \(5, 3\), expected \(40, 3\)"
    ):
        vf.kl_decomposition(z[:5], mu, logvar)
