"""The classes for Pyro: what Pyro does with a distribution."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from vae_fast import distributions
from vae_fast.integrations import pyro as of_pyro

PAIRS = {
    "Normal": lambda a: (of_pyro.Normal(a, a), dist.Normal(a, torch.exp(0.5 * a))),
    "Bernoulli": lambda a: (of_pyro.Bernoulli(a), dist.Bernoulli(logits=a)),
    "Laplace": lambda a: (of_pyro.Laplace(a, a), dist.Laplace(a, torch.exp(a))),
    "Poisson": lambda a: (of_pyro.Poisson(a), dist.Poisson(torch.exp(a))),
}
each_pair = pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)


def test_all_are_there():
    assert set(distributions.__all__) <= set(of_pyro.__all__)
    for name in distributions.__all__:
        kind = getattr(of_pyro, name)
        assert issubclass(kind, getattr(distributions, name))
        assert issubclass(kind, dist.torch_distribution.TorchDistributionMixin)


@each_pair
@pytest.mark.parametrize("event_dims", [0, 1, 2, None])
def test_log_prob(make, event_dims):
    parameter = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    value = torch.bernoulli(torch.rand(4, 3, 5, dtype=torch.float64))
    found = []
    for p in make(parameter):
        p = p.to_event(event_dims)
        y = p.expand_by((2,)).log_prob(value)
        assert p.mask(torch.tensor(False)).log_prob(value).sum() == 0
        found.append((y, *torch.autograd.grad(y.square().sum(), parameter)))
    torch.testing.assert_close(*found)


def test_divergences():
    a, b = torch.randn(2, 4, 3)
    kl = torch.distributions.kl_divergence
    for p, q in ((a, b), (a, torch.zeros(3))):
        ours = kl(of_pyro.Normal(p, p).to_event(1), of_pyro.Normal(q, q).to_event(1))
        theirs = kl(PAIRS["Normal"](p)[1].to_event(1), PAIRS["Normal"](q)[1].to_event(1))
        torch.testing.assert_close(ours, theirs)
    ours = kl(of_pyro.Bernoulli(a).to_event(1), of_pyro.Bernoulli(b).to_event(1))
    theirs = kl(PAIRS["Bernoulli"](a)[1].to_event(1), PAIRS["Bernoulli"](b)[1].to_event(1))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "elbo",
    [
        pyro.infer.Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        pyro.infer.TraceMeanField_ELBO(),
    ],
    ids=["Trace_ELBO", "TraceMeanField_ELBO"],
)
def test_plates_and_scale(elbo):
    """A subsample of counts in a plate, scaled; the same by Pyro's, by ours and switched."""
    counts = torch.poisson(torch.full((20, 6), 3.0))
    loc = torch.zeros(3, requires_grad=True)
    weight = torch.randn(3, 6, requires_grad=True)
    part = torch.arange(8)

    def make(normal, poisson):
        def model(x):
            with pyro.plate("rows", 20, subsample=part), poutine.scale(scale=0.5):
                z = pyro.sample("z", normal(torch.zeros(8, 3), torch.zeros(8, 3)).to_event(1))
                pyro.sample("x", poisson(z @ weight).to_event(1), obs=x[part])

        def guide(x):
            with pyro.plate("rows", 20, subsample=part), poutine.scale(scale=0.5):
                pyro.sample("z", normal(loc.expand(8, 3), loc.expand(8, 3)).to_event(1))

        return model, guide

    def pyros():
        return make(
            lambda mean, logvar: dist.Normal(mean, torch.exp(0.5 * logvar)),
            lambda log_rate: dist.Poisson(torch.exp(log_rate)),
        )

    found = []
    for model, guide in (
        pyros(),
        make(of_pyro.Normal, of_pyro.Poisson),
        map(of_pyro.apply, pyros()),
    ):
        torch.manual_seed(1)
        loss = elbo.differentiable_loss(model, guide, counts)
        found.append((loss, *torch.autograd.grad(loss, (loc, weight))))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
