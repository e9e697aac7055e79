"""Why z is reparameterized: the variance of the two gradient estimators, in closed form.

For f(z) = (z - k)^2 and z ~ N(mu, 1), with a = mu - k, the gradient of E f in mu has variance 4 by
reparameterization and 15 + 14 a^2 + a^4 by the score function.
"""

import pytest
import torch

import vae_fast as vf

SAMPLES = 4_000_000


@pytest.mark.parametrize(("mean", "k"), [(1.0, -3.0), (0.5, 0.5)])
def test_variance_of_gradient_estimators(mean, k):
    a = mean - k
    mu = torch.full((SAMPLES,), mean, requires_grad=True)
    z = vf.reparameterize(mu, torch.zeros(()), seed=11)
    loss = (z - k).square()
    (by_path,) = torch.autograd.grad(loss.sum(), mu)
    by_score = (loss * (z - mu)).detach().double()
    for estimator, variance in ((by_path.double(), 4.0), (by_score, 15 + 14 * a**2 + a**4)):
        assert abs(estimator.mean() - 2 * a) < 5 * (variance / SAMPLES) ** 0.5
        assert abs(estimator.var() / variance - 1) < 0.03
