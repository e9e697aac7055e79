"""What an encoder gives for each posterior, samples with divergences, and priors."""

import builtins
import copy
import pickle

import pytest
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.testing import assert_close

import vae_fast as vf
from tests.test_distributions import is_mean
from vae_fast.latent import POSTERIORS, posteriors, priors, rsample_kl

pytestmark = pytest.mark.of_samples

SIZE = 4
NUMBERS = {"full_normal": 14, "low_rank_normal": 16, "von_mises_fisher": 5, "power_spherical": 5}
NUMBERS |= dict.fromkeys(("diagonal_normal", "flow", "gamma", "beta"), 8)
each_name = pytest.mark.parametrize("name", POSTERIORS)


# ---- heads ---------------------------------------------------------------------------------------


@each_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_head(name, dtype):
    if name == "flow" and dtype in (torch.bfloat16, torch.float16):
        dtype = torch.float32  # networks, as any other's
    head = POSTERIORS[name](SIZE).to(dtype)
    assert head.numbers == NUMBERS.get(name, SIZE)
    raw = torch.randn(6, head.numbers).to(dtype).requires_grad_()
    q, prior = head(raw), head.prior().to(dtype)
    assert (q.batch_shape, q.event_shape) == ((6,), (SIZE,))
    z, kl = rsample_kl(q, prior)
    assert (z.shape, kl.shape, z.dtype) == ((6, SIZE), (6,), dtype)
    (slope,) = torch.autograd.grad(z.float().sum() + kl.float().sum(), raw)
    assert slope.isfinite().all()
    assert prior.sample((3,)).shape == (3, SIZE)
    assert prior.log_prob(prior.sample((3,))).shape == (3,)
    assert not list(prior.parameters())


@each_name
@pytest.mark.parametrize("scale", [1e-6, 20.0, 80.0])
def test_extreme_numbers(name, scale):
    head = POSTERIORS[name](SIZE)
    if name == "flow":
        scale = min(scale, 20.0)  # the networks' weights multiply them
    raw = (scale * torch.randn(100, head.numbers)).clamp(-80, 80).requires_grad_()
    z, kl = rsample_kl(head(raw), head.prior())
    assert z.isfinite().all()
    assert kl.isfinite().all()
    (slope,) = torch.autograd.grad(kl.sum(), raw)
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(POSTERIORS) - {"flow"}))
def test_densities_and_divergences_have_second_derivatives(name):
    head = POSTERIORS[name](3).double()
    raw = torch.randn(2, head.numbers, dtype=torch.float64, requires_grad=True)
    p = head.prior().double().distribution()
    z = head(raw).sample()

    def values(raw):
        q = head(raw)
        exact = () if name in ("concrete", "binary_concrete") else (kl_divergence(q, p),)
        return q.log_prob(z), *exact

    assert torch.autograd.gradcheck(values, raw)
    assert torch.autograd.gradgradcheck(values, raw)


def test_how_a_full_factor_is_given():
    head = POSTERIORS["full_normal"](3)
    q = head(torch.arange(1.0, 10.0))
    assert q.loc.tolist() == [1, 2, 3]
    assert q.logvar.tolist() == [4, 5, 6]
    assert torch.tril(q.tril, -1).tolist() == [[0, 0, 0], [7, 0, 0], [8, 9, 0]]
    assert POSTERIORS["full_normal"](1)(torch.zeros(5, 2)).sample().shape == (5, 1)


def test_mistakes():
    for make in (POSTERIORS["gamma"], priors.StandardNormal, priors.DiagonalNormal, priors.Flow):
        with pytest.raises(TypeError, match="latent_dim is of type float, expected int"):
            make(2.0)
        with pytest.raises(ValueError, match="latent_dim is 0, expected at least 1"):
            make(0)
    with pytest.raises(ValueError, match=r"raw has shape \(2, 3\), expected \(\*batch, 8\)"):
        POSTERIORS["gamma"](SIZE)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="rank is 0"):
        POSTERIORS["low_rank_normal"](SIZE, rank=0)
    with pytest.raises(ValueError, match="temperature is 0, expected a positive number"):
        POSTERIORS["concrete"](SIZE, temperature=0)
    with pytest.raises(ValueError, match="num_components is 0"):
        priors.MixtureOfGaussians(2, 0)
    with pytest.raises(TypeError, match="generator is of type int"):
        priors.StandardNormal(2).sample(generator=1)


def test_a_missing_zuko_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name.startswith("zuko"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    for make in (POSTERIORS["flow"], priors.Flow):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'vae_fast\[flows\]'"):
            make(2)


# ---- samples with divergences --------------------------------------------------------------------


def test_closed_forms_where_there_are_some():
    q = td.Independent(td.Normal(torch.randn(5, SIZE), torch.full((5, SIZE), 0.5)), 1)
    z, kl = rsample_kl(q, priors.StandardNormal(SIZE))
    standard = td.Independent(td.Normal(torch.zeros(SIZE), torch.ones(SIZE)), 1)
    assert_close(kl, kl_divergence(q, standard))
    assert z.shape == (5, SIZE)
    assert_close(rsample_kl(q, standard)[1], kl)


@pytest.mark.parametrize("name", ["diagonal_normal", "full_normal", "low_rank_normal", "flow"])
@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_estimates_elsewhere(name, kind):
    """Of a prior without closed forms: log q - log p at the sample, unbiased."""
    prior = priors.Flow(2) if kind == "flow" else priors.MixtureOfGaussians(2, 3)
    head = POSTERIORS[name](2)
    raw = torch.randn(head.numbers)
    torch.manual_seed(1)
    z, kl = rsample_kl(head(raw), prior)
    assert_close(kl, head(raw).log_prob(z) - prior.log_prob(z), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        _, kls = rsample_kl(head(raw.expand(40_000, -1)), prior)
        z = head(raw).sample((40_000,))
        expected = head(raw).log_prob(z) - prior.log_prob(z)
    is_mean(kls - expected, torch.zeros(()))


def test_a_flows_sample_takes_one_pass():
    head = POSTERIORS["flow"](3)
    q = head(torch.randn(5, head.numbers))
    z, log_q = q.rsample_and_log_prob()
    assert_close(q.log_prob(z), log_q, rtol=1e-4, atol=1e-4)


# ---- priors --------------------------------------------------------------------------------------


def _priors():
    layer = torch.nn.Linear(6, 4)
    encode = _Encoder(layer)
    return {
        "standard": priors.StandardNormal(2),
        "diagonal": priors.DiagonalNormal(2),
        "mixture": priors.MixtureOfGaussians(2, 5),
        "vamp": priors.VampPrior.from_data(encode, torch.rand(30, 6), 7),
        "flow": priors.Flow(2),
    }


class _Encoder(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).chunk(2, -1)


each_prior = pytest.mark.parametrize("name", _priors())


@each_prior
def test_a_prior_is_a_density_of_its_samples(name):
    """Its integral is 1, and its samples have its moments, by a grid."""
    prior = _priors()[name]
    for parameter in prior.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    side = torch.linspace(-12, 12, 481)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        share = prior.log_prob(grid).exp().double() * 0.05**2
    assert_close(share.sum(), torch.ones((), dtype=torch.float64), rtol=1e-3, atol=0)
    z = prior.sample((40_000,)).double()
    is_mean(z, share @ grid.double())
    is_mean(z**2, share @ grid.double() ** 2)


@each_prior
def test_samples_of_a_generator(name):
    prior = _priors()[name]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = (prior.sample((3, 4), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a, b)
    assert a.shape == (3, 4, 2)
    assert not a.requires_grad
    assert not torch.equal(a, prior.sample((3, 4)))
    assert prior.sample().shape == (2,)


@each_prior
def test_a_prior_is_kept(name):
    prior = _priors()[name]
    z = torch.randn(5, 2)
    for again in (copy.deepcopy(prior), pickle.loads(pickle.dumps(prior))):
        assert_close(again.log_prob(z), prior.log_prob(z))
    fresh = _priors()[name]
    fresh.load_state_dict(prior.state_dict())
    if name != "vamp":  # whose encoder is another's
        assert_close(fresh.log_prob(z), prior.log_prob(z))


def test_what_is_learned():
    z = torch.randn(50, 2)
    for name, prior in _priors().items():
        slopes = (
            torch.autograd.grad(prior.log_prob(z).sum(), list(prior.parameters()))
            if list(prior.parameters())
            else ()
        )
        assert len(slopes) == len(list(prior.parameters()))
        assert all(slope.abs().sum() > 0 for slope in slopes if name != "flow")
    assert not list(_priors()["standard"].parameters())


def test_a_vamp_prior():
    torch.manual_seed(0)
    encode = _Encoder(torch.nn.Linear(6, 4))
    data = torch.rand(30, 6)
    prior = priors.VampPrior.from_data(encode, data, 7, generator=torch.Generator().manual_seed(1))
    assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]
    chosen = prior.pseudo_inputs.unsqueeze(1) == data
    assert chosen.all(-1).any(-1).all()
    z = torch.randn(5, 2)
    mu, logvar = encode(prior.pseudo_inputs)
    assert_close(prior.log_prob(z), vf.gaussian_mixture_log_prob(z, mu, logvar))
    prior.log_prob(z).sum().backward()
    assert encode.layer.weight.grad.abs().sum() > 0
    noisy = priors.VampPrior.from_noise(encode, data.mean(0), 500, std=0.1)
    is_mean(noisy.pseudo_inputs.detach(), data.mean(0))
    assert_close(noisy.pseudo_inputs.std(0), torch.full((6,), 0.1), rtol=0.2, atol=0)
    with pytest.raises(ValueError, match="count is 31, expected at most 30"):
        priors.VampPrior.from_data(encode, data, 31)
    with pytest.raises(ValueError, match=r"pseudo_inputs has shape \(6,\)"):
        priors.VampPrior(encode, data[0])
    with pytest.raises(TypeError, match="pseudo_inputs has dtype"):
        priors.VampPrior(encode, data.long())


def test_a_mixture_is_torchs():
    prior = priors.MixtureOfGaussians(3, 5)
    prior.logits.data.normal_()
    parts = posteriors.DiagonalNormal(prior.loc, prior.logvar)
    theirs = td.MixtureSameFamily(td.Categorical(logits=prior.logits), parts)
    z = torch.randn(7, 3)
    assert_close(prior.log_prob(z), theirs.log_prob(z))
    assert prior.distribution() is None


def test_a_prior_moves_with_its_module():
    prior = priors.StandardNormal(2).double()
    assert prior.sample().dtype == torch.float64
    assert prior.distribution().loc.dtype == torch.float64
