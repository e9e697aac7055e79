"""Estimators of a q that is no Gaussian, by torch's own distributions: rsample and log_prob.

A Poisson count with a Gamma prior, whose posterior is a Gamma distribution: log p(x) is known, and
so is where the log weights no longer depend on z. A normal with a full covariance, and Beta codes.
"""

import math

import pytest
import torch
from torch.distributions import (
    Beta,
    Gamma,
    Independent,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
)

import vae_fast as vf
from vae_fast.bounds.estimators import ESTIMATORS

pytestmark = pytest.mark.of_samples

X, SHAPE, RATE = 3.0, 2.0, 1.5


def doubles(*numbers):
    return [torch.full((), x, dtype=torch.float64) for x in numbers]


def gamma_joint(z):
    return Gamma(*doubles(SHAPE, RATE)).log_prob(z) + Poisson(z).log_prob(torch.full_like(z, X))


def gamma_posterior(concentration, rate):
    return Gamma(concentration, rate)


def beta_joint(z):
    return Beta(*doubles(2.0, 1.0)).log_prob(z) + 3 * z.log() + (1 - z).log()


def beta_posterior(a, b):
    return Beta(a, b)


def normal_joint(z):
    of_x = Normal(z.prod(-1), 1.0).log_prob(torch.full_like(z[..., 0], 0.5))
    return Independent(Normal(torch.zeros_like(z), 1.0), 1).log_prob(z) + of_x


def normal_posterior(mean, scale, off):
    zero = torch.zeros_like(scale)
    rows = torch.stack((scale, zero), -1), torch.stack((off, scale), -1)
    return MultivariateNormal(
        torch.stack((mean, -mean), -1), scale_tril=torch.stack(rows, -2), validate_args=False
    )


MODELS = {
    "gamma": (gamma_joint, gamma_posterior, (4.0, 2.0)),
    "beta": (beta_joint, beta_posterior, (3.0, 1.7)),
    "full covariance": (normal_joint, normal_posterior, (0.3, 0.8, 0.2)),
}


def estimates(model, estimator, count, samples=2, parameters=None):
    """One estimate for each of many data in each parameter, (parameters, count)."""
    joint, posterior, usual = MODELS[model]
    torch.manual_seed(11)
    leaves = [x.expand(count).clone().requires_grad_() for x in doubles(*(parameters or usual))]
    q, row, parts = posterior(*leaves), ESTIMATORS[estimator], {}
    z = q.rsample((samples,))
    if "log_q" in row.wants:
        parts["log_q"] = q.log_prob(z.detach())
    if "path" in row.wants:
        z, parts["path"] = vf.mark_path(z, batch_dims=2)
    if not row.has_path:
        z = z.detach()
    log_weights = joint(z) - q.log_prob(z)
    loss = vf.importance_weighted_loss(log_weights, estimator=estimator, reduction="sum", **parts)
    return torch.stack(torch.autograd.grad(loss, leaves)), -loss.detach() / count


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("estimator", "like"),
    [("dreg", "iwae"), ("vimco", "iwae"), ("stl", "elbo"), ("reinforce_loo", "elbo")],
)
def test_the_same_mean_as_the_bounds_own_gradient(model, estimator, like):
    """To three standard errors of the difference, of draws that both have in common."""
    count = 100_000
    (one, _), (other, _) = (estimates(model, each, count) for each in (estimator, like))
    assert not torch.equal(one, other)
    difference = one - other
    error = difference.std(1) / math.sqrt(count)
    assert (difference.mean(1).abs() <= 3 * error).all(), difference.mean(1) / error


@pytest.mark.parametrize("estimator", ["stl", "dreg"])
def test_the_posterior_itself_has_no_variance(estimator):
    exact = (SHAPE + X, RATE + 1)
    gradients, value = estimates("gamma", estimator, 100, parameters=exact)
    assert gradients.abs().max() < 1e-12
    evidence = NegativeBinomial(*doubles(SHAPE, 1 / (1 + RATE))).log_prob(*doubles(X))
    torch.testing.assert_close(value, evidence)
    total, _ = estimates("gamma", "iwae", 100, parameters=exact)
    assert total.std(1).min() > 1e-2


def test_codes_without_a_path():
    """Bernoulli codes have no rsample: the score function needs none."""
    logits = torch.full((50_000,), 0.4, dtype=torch.float64, requires_grad=True)
    q = torch.distributions.Bernoulli(logits=logits)

    def joint(z):
        return -math.log(2) - 0.5 * (2.0 - z).square()

    z = q.sample((3,))
    log_q = q.log_prob(z)
    losses = {
        name: vf.importance_weighted_loss(
            joint(z) - log_q, estimator=name, log_q=log_q, reduction="sum"
        )
        for name in ("reinforce", "reinforce_loo")
    }
    # The ELBO by enumeration of the two codes.
    leaf = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    both = torch.tensor([0.0, 1.0], dtype=torch.float64)
    log_two = torch.distributions.Bernoulli(logits=leaf).log_prob(both)
    (right,) = torch.autograd.grad((log_two.exp() * (joint(both) - log_two)).sum(), leaf)
    spread = []
    for loss in losses.values():
        (each,) = torch.autograd.grad(-loss, logits, retain_graph=True)
        assert abs(each.mean() - right) <= 3 * each.std() / math.sqrt(len(each))
        spread.append(each.var().item())
    assert spread[1] < 0.5 * spread[0]
