"""torch.jit.trace: a traced function draws its noise anew at every call."""

import pytest
import torch

import vae_fast as vf

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def two_samples(mu, logvar):
    return vf.reparameterize(mu, logvar), vf.reparameterize_kl(mu, logvar)[0]


def traced(function, *arguments):
    # Tracing's own check runs the function twice and compares, which random functions fail.
    return torch.jit.trace(function, arguments, check_trace=False, strict=False)


def test_each_call_of_a_traced_function_draws_anew():
    mu, logvar = torch.randn(4, 5), torch.randn(4, 5)
    function = traced(two_samples, mu, logvar)
    samples = [z for _ in range(4) for z in function(mu, logvar)]
    for i, z in enumerate(samples):
        assert not any(z.equal(other) for other in samples[:i])


def test_a_traced_function_follows_the_seed():
    mu, logvar = torch.randn(4, 5), torch.randn(4, 5)
    function = traced(two_samples, mu, logvar)
    for call in (function, two_samples):
        torch.manual_seed(3)
        first = call(mu, logvar)
        torch.manual_seed(3)
        assert all(a.equal(b) for a, b in zip(first, call(mu, logvar), strict=True))


def test_a_traced_model_draws_anew():
    model = vf.VAE(12, 3)
    x = torch.rand(4, 12)
    function = traced(model, x)
    z = [function(x)[3] for _ in range(3)]
    assert not z[0].equal(z[1])
    assert not z[1].equal(z[2])
