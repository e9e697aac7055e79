"""Estimates of log p(x) against what it is: closed forms of a linear VAE, and quadrature."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from linear_vae import LATENT, VARIANCE, linear_vae, on_the_cpu  # noqa: F401

from vae_fast.evaluation import (
    annealed_importance_sampling,
    elbo_per_datum,
    importance_estimate,
    iwae_bound,
    pareto_smooth,
)

pytestmark = pytest.mark.of_samples


def scores(estimate, errors, truth):
    """By how many standard errors the estimates are off: each, and their sum."""
    off = (estimate - truth) / errors
    return off, float((estimate - truth).sum() / errors.square().sum().sqrt())


@torch.no_grad()
def test_at_the_posterior_every_sample_says_the_same():
    linear = linear_vae()
    estimate = importance_estimate(linear.model.log_weights(linear.x, 200))
    torch.testing.assert_close(estimate.log_likelihood, linear.log_prob(), atol=1e-10, rtol=0)
    assert estimate.standard_error.max() < 1e-7
    torch.testing.assert_close(estimate.effective_sample_size, torch.full((40,), 200.0).double())
    assert (estimate.pareto_k == 0).all()


@torch.no_grad()
def test_beside_the_posterior_the_standard_error_says_how_far():
    linear = linear_vae(400, spoil=0.3)
    estimate = importance_estimate(linear.model.log_weights(linear.x, 1000))
    off, all_off = scores(estimate.log_likelihood, estimate.standard_error, linear.log_prob())
    assert abs(all_off) < 3
    assert off.std() == pytest.approx(1, abs=0.12)  # its own error: 1 / sqrt(2 * 400) = 0.035
    assert (estimate.effective_sample_size < 950).all()
    assert (estimate.pareto_k < 0.7).all()


@torch.no_grad()
def test_the_elbo_is_log_p_less_the_divergence_from_the_posterior():
    """q is off by 0.3 in the mean and the log-variance, in each dimension."""
    linear = linear_vae(50, spoil=0.3)
    exact = linear_vae(50)
    mu, logvar = linear.model.encode(linear.x)
    true_mu, true_logvar = exact.model.encode(linear.x)
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    p = torch.distributions.Normal(true_mu, (0.5 * true_logvar).exp())
    gap = torch.distributions.kl_divergence(q, p).sum(1)
    weights = linear.model.log_weights(linear.x, 4000)
    bound, error = iwae_bound(weights, 1)
    off, all_off = scores(bound, error, linear.log_prob() - gap)
    assert off.abs().max() < 5
    assert abs(all_off) < 3
    terms = elbo_per_datum(linear.model, linear.x, 4000)
    assert scores(-terms.loss, error, linear.log_prob() - gap)[0].abs().max() < 5
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(q, prior).sum(1)
    torch.testing.assert_close(terms.kl, kl)
    torch.testing.assert_close(terms.loss, terms.nll + terms.kl)


def test_iwae_bound_of_two_samples_by_quadrature():
    """log w = a e, e standard normal: E[log (w_1 + w_2) / 2] over the plane."""
    slopes = torch.tensor([0.2, 1.0, 2.0], dtype=torch.float64)
    points, mass = np.polynomial.hermite_e.hermegauss(80)
    points, mass = torch.from_numpy(points), torch.from_numpy(mass) / math.sqrt(2 * math.pi)
    first, second = (slopes.reshape(-1, 1, 1) * side for side in (points[:, None], points[None]))
    exact = (torch.logaddexp(first, second) - math.log(2)) * mass[:, None] * mass[None]
    bound, error = iwae_bound(torch.randn(200_001, 1).double() * slopes, 2)
    assert ((bound - exact.sum((1, 2))) / error).abs().max() < 3


@pytest.mark.parametrize("count", [25, 100, 1000])
@pytest.mark.parametrize("spread", [0.1, 1, 4, 20])
def test_smoothing_is_that_of_arviz(count, spread):
    weights = spread * torch.randn(count, 4, dtype=torch.float64) - 300
    smoothed = pareto_smooth(weights)
    assert abs(smoothed.log_weights.logsumexp(0)).max() < 1e-12
    for column in range(4):
        # It takes the logarithms of what the weights divide by.
        expected, k = array_stats.psislw(-weights[:, column].numpy())
        np.testing.assert_allclose(smoothed.log_weights[:, column], expected, atol=1e-9)
        assert smoothed.k[column] == pytest.approx(float(k), abs=1e-9)


def test_the_tail_of_a_pareto_distribution_is_found():
    """Weights u^-k have the tail index k; the estimate is drawn towards 0.5 by ten values."""
    u = torch.rand(20_000, 20, dtype=torch.float64)
    for k in (0.2, 0.6, 1.2):
        found = pareto_smooth(-k * u.log()).k
        tail = math.floor(3 * math.sqrt(20_000))
        expected = (k * tail + 5) / (tail + 10)
        # Its deviation is that of the maximum of the likelihood, (1 + k) / sqrt(n).
        assert found.mean() == pytest.approx(expected, abs=3 * (1 + k) / math.sqrt(20 * tail))


def test_weights_that_are_equal_but_for_some():
    """Nothing can be fitted where the tail is ties and a few others."""
    weights = torch.zeros(100, 1)
    weights[:2, 0] = 3.0
    smoothed = pareto_smooth(weights)
    assert smoothed.k.isinf().all()
    torch.testing.assert_close(smoothed.log_weights, torch.log_softmax(weights.double(), 0))


def test_annealing_of_a_linear_vae():
    linear = linear_vae(30)
    estimate = annealed_importance_sampling(
        lambda z: linear.model.conditional_log_likelihood(linear.x, z),
        torch.randn(1502, 30, LATENT, dtype=torch.float64),
        num_temperatures=30,
    )
    off, all_off = scores(estimate.log_likelihood, estimate.standard_error, linear.log_prob())
    assert off.abs().max() < 4
    assert abs(all_off) < 3
    assert ((estimate.acceptance > 0.4) & (estimate.acceptance < 0.9)).all()
    # p_t is Gaussian, with the precision I + t W'W / s.
    t = estimate.temperatures.reshape(-1, 1, 1)
    gram = (linear.weight.T @ linear.weight).diagonal()
    precision = 1 + t * gram / VARIANCE
    centred = linear.x - linear.bias
    mean = t * (centred @ linear.weight) / VARIANCE / precision
    rate = 0.5 * (mean**2 + 1 / precision - 1 + precision.log()).sum(2)
    residual = (centred - mean @ linear.weight.T).square().sum(2) + (gram / precision).sum(2)
    constant = 0.5 * linear.x.shape[1] * math.log(2 * math.pi * VARIANCE)
    distortion = constant + 0.5 * residual / VARIANCE
    # Of 30 x 1500 chains: under the prior log p(x | z) deviates by 15 nats, under p_1 by 1.
    assert (estimate.rate.mean(1) - rate.mean(1)).abs().max() < 0.1
    assert (estimate.distortion.mean(1) - distortion.mean(1)).abs().max() < 3 * 15 / 45_000**0.5
    assert estimate.rate[0].abs().max() == 0
    torch.testing.assert_close(
        estimate.rate[-1] + estimate.distortion[-1], -estimate.log_likelihood
    )


def test_annealing_where_it_is_not_linear_by_quadrature():
    """x is N(|z|^2 + sin 3 z_1, 0.3^2): a posterior that is a bent ring."""
    x = torch.tensor([0.5, 2.0, 5.0], dtype=torch.float64)
    noise = torch.distributions.Normal(0.0, torch.tensor(0.3).double(), validate_args=False)

    def log_likelihood(z):
        return noise.log_prob(x - z.square().sum(-1) - (3 * z[..., 0]).sin())

    axis = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis).unsqueeze(1)
    prior = torch.distributions.Normal(0.0, torch.ones((), dtype=torch.float64))
    cell = (axis[1] - axis[0]).item() ** 2
    log_density = log_likelihood(plane) + prior.log_prob(plane).sum(-1)
    exact = log_density.logsumexp(0) + math.log(cell)
    estimate = annealed_importance_sampling(
        log_likelihood, torch.randn(1502, 3, 2, dtype=torch.float64), num_temperatures=60
    )
    assert scores(estimate.log_likelihood, estimate.standard_error, exact)[0].abs().max() < 3
    assert estimate.standard_error.max() < 0.05


@pytest.mark.parametrize("temperatures", [2, 40])
def test_annealing_from_another_prior(temperatures):
    """The prior N(3, 2^2), x given z N(z, 1): x is N(3, 5), and two temperatures bias no weight."""
    x = torch.tensor([-1.0, 4.0], dtype=torch.float64)
    prior = torch.distributions.Normal(3.0, torch.tensor(2.0, dtype=torch.float64))
    unit = torch.distributions.Normal(0.0, torch.tensor(1.0, dtype=torch.float64))
    estimate = annealed_importance_sampling(
        lambda z: unit.log_prob(x - z.squeeze(-1)),
        prior.sample((4002, 2, 1)),
        lambda z: prior.log_prob(z).sum(-1),
        num_temperatures=temperatures,
    )
    exact = torch.distributions.Normal(3.0, 5**0.5).log_prob(x)
    assert scores(estimate.log_likelihood, estimate.standard_error, exact)[0].abs().max() < 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: importance_estimate([1.0]), TypeError, "log_weights is list"),
        (lambda: importance_estimate(torch.zeros(5)), ValueError, r"\(K, N\)"),
        (lambda: iwae_bound(torch.zeros(5, 1), 3), ValueError, "num_samples is 3"),
        (lambda: pareto_smooth(torch.zeros(24, 1)), ValueError, "at least 25"),
        (
            lambda: annealed_importance_sampling(lambda z: z, torch.zeros(3, 2, 2)),
            ValueError,
            "at least 4 chains",
        ),
        (
            lambda: annealed_importance_sampling(lambda z: z, torch.zeros(2, 2, 2).long()),
            TypeError,
            "prior_draws is torch.int64",
        ),
        (
            lambda: annealed_importance_sampling(
                lambda z: z, torch.zeros(4, 2, 2), num_temperatures=0
            ),
            ValueError,
            "num_temperatures is 0",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
