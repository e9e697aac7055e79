"""Each method of the posterior against diffusers' own, where it clamps, too."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Theirs

from vae_fast.integrations.diffusers import DiagonalGaussianDistribution as Ours

CALLS = {
    "kl": lambda p, _, __: p.kl(),
    "kl of two": lambda p, q, _: p.kl(q),
    "nll": lambda p, _, x: p.nll(x),
    "nll of some": lambda p, _, x: p.nll(x, dims=(1, 2)),
    "mode": lambda p, _, __: p.mode(),
    "std": lambda p, _, __: p.std,
    "var": lambda p, _, __: p.var,
    "sample": lambda p, _, __: p.sample(torch.Generator().manual_seed(1)),
}


def moments(shape=(3, 8, 4, 4), scale=1.0, dtype=torch.float32):
    """Those of two posteriors, and what the first is asked about."""
    torch.manual_seed(0)
    x = torch.randn(2, *shape) * scale
    sample = torch.randn(shape[0], shape[1] // 2, *shape[2:])
    return [y.to(dtype).requires_grad_() for y in (*x, sample)]


def results(kind, call, given, deterministic=False):
    first, second, sample = given
    y = CALLS[call](kind(first, deterministic), kind(second), sample)
    if not y.requires_grad:
        return y, ()
    upstream = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y, torch.autograd.grad((y * upstream).sum(), given, allow_unused=True)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["ordinary", "clamped"])
def test_values_and_gradients(call, scale):
    given = moments(scale=scale)
    exact = results(Theirs, call, [x.detach().double().requires_grad_() for x in given])
    if call == "sample":
        noise = results(Ours, call, [torch.zeros_like(x) for x in given])[0].double()
        doubles = [x.detach().double().requires_grad_() for x in given]
        p = Theirs(doubles[0])
        y = p.mean + p.std * noise
        upstream = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)
        exact = y, torch.autograd.grad((y * upstream).sum(), doubles, allow_unused=True)
    value, gradients = results(Ours, call, given)
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-6, atol=1e-6)
    for found, expected in zip(gradients, exact[1], strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6)
            outside = given[0].chunk(2, dim=1)[1].clamp(-30, 20) != given[0].chunk(2, dim=1)[1]
            if found is gradients[0]:
                assert (found.chunk(2, dim=1)[1][outside] == 0).all()


@pytest.mark.parametrize("shape", [(3, 8, 4, 4), (2, 8, 3, 4, 4)], ids=["pictures", "videos"])
@pytest.mark.parametrize("call", ["kl", "kl of two", "nll"])
def test_dimensions(call, shape):
    given = moments(shape)
    torch.testing.assert_close(results(Ours, call, given), results(Theirs, call, given))


@pytest.mark.parametrize("call", CALLS)
def test_without_a_variance(call):
    given = moments()
    ours, theirs = (results(kind, call, given, deterministic=True)[0] for kind in (Ours, Theirs))
    torch.testing.assert_close(ours, theirs)


def test_a_list_of_generators():
    given = moments()[0].detach()
    seeds = [torch.Generator().manual_seed(i) for i in (5, 6, 5)]
    z = Ours(given).sample(seeds)
    alone = Ours(given[1:2]).sample([torch.Generator().manual_seed(6)])
    assert torch.equal(z[1:2], alone)
    noise = Ours(torch.zeros_like(given)).sample([torch.Generator().manual_seed(5) for _ in seeds])
    assert torch.equal(noise[0], noise[1])


def test_half_precision_is_summed_in_float32():
    (given, *_) = moments((2, 8, 16, 16), dtype=torch.bfloat16)
    exact = Theirs(given.double()).kl()
    ours, theirs = Ours(given).kl(), Theirs(given).kl()
    assert (ours.double() - exact).abs().max() < 1e-6 * exact.max()
    assert (theirs.double() - exact).abs().max() > 1e-4 * exact.max()
