"""Shapes, gradients, every architecture and likelihood, modules from outside."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from vae_fast import bernoulli_nll, discretized_logistic_nll
from vae_fast.engine.extension import C
from vae_fast.engine.likelihood import are_whole
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.likelihoods.discretized_logistic import DiscretizedLogisticLikelihood
from vae_fast.models import VAE, AutoEncoder, build
from vae_fast.models.base import HEADS
from vae_fast.models.wide import wide_decoder

pytestmark = pytest.mark.usefixtures("backend")

KINDS = [
    {"input_shape": 30},
    {"input_shape": (1, 8, 8), "hidden": ()},
    {"input_shape": (1, 8, 8), "hidden": (32, 16)},
    {"input_shape": (3, 9, 13), "architecture": "conv", "channels": (4, 8), "hidden": (16,)},
    {"input_shape": (1, 28, 28), "architecture": "conv", "channels": (4,), "hidden": ()},
]
LIKELIHOOD_KINDS = [
    *(
        {"likelihood": name, "num_classes": 9} if head.data == "classes" else {"likelihood": name}
        for name, head in HEADS.items()
    ),
    {"likelihood": "gaussian", "decoder_logvar": "pixel"},
    {"likelihood": "gaussian", "decoder_logvar": -1.5},
]
OF_PICTURES = {"likelihood": "discretized_logistic_mixture"}


def data(model, count=6, dtype=torch.float32):
    x = torch.rand(count, *model.input_shape)
    if are_whole(model.likelihood.data):
        return (x * 9).floor().to(dtype)
    return (x * 255).to(torch.uint8) if dtype == torch.uint8 else x.to(dtype)


@pytest.mark.parametrize("model_type", [AutoEncoder, VAE])
@pytest.mark.parametrize(
    ("kind", "likelihood"),
    [(k, x) for k in KINDS for x in LIKELIHOOD_KINDS if x != OF_PICTURES or k != KINDS[0]],
    ids=str,
)
def test_every_kind_trains_reconstructs_and_samples(model_type, kind, likelihood):
    model = model_type(**kind, **likelihood, latent_dim=5)
    x = data(model)
    loss, nll, kl = model.loss(x)
    assert loss.shape == nll.shape == kl.shape == ()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(3).shape == (3, *x.shape[1:])
    assert model.embed(x).shape == (6, 5)


def test_default_is_the_network_of_the_pytorch_examples():
    shapes = [tuple(p.shape) for p in VAE().parameters()]
    # Both heads, 20 means and 20 log-variances, are one layer of 40.
    assert shapes == [(400, 784), (400,), (40, 400), (40,), (400, 20), (400,), (784, 400), (784,)]
    head = VAE().encoder[-1].weight.detach()
    assert head.abs().max() <= 1 / math.sqrt(400)  # nn.Linear's own bound: by the inputs alone
    assert head.std() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.05)


def test_forward_gives_every_part():
    model = VAE(30, 4)
    x = data(model)
    output = model(x)
    mu, logvar = model.encode(x)
    assert output.params.shape == x.shape
    torch.testing.assert_close(output.mu, mu)
    torch.testing.assert_close(output.logvar, logvar)
    assert output.z.shape == (6, 4)
    torch.testing.assert_close(output.params, model.decode(output.z))
    posterior = Independent(Normal(mu, (logvar / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    torch.testing.assert_close(output.kl, kl_divergence(posterior, prior).mean())


@pytest.mark.parametrize("likelihood", LIKELIHOOD_KINDS, ids=str)
def test_loss_is_that_of_the_functions(likelihood):
    model = VAE((1, 8, 8), 4, **likelihood)
    x = data(model)
    loss, nll, kl = model.loss(x, beta=0.3, generator=torch.Generator().manual_seed(5))
    params = model(x, generator=torch.Generator().manual_seed(5)).params
    first, *others = params if isinstance(params, tuple) else (params,)
    if model.likelihood.data == "counts":  # test_counts.py has the rest
        first, *others = *model.likelihood.distribution(first, x.sum((1, 2, 3), True)), *others
    if model.likelihood.data == "classes":
        x = x.long()
        others = [model.likelihood.cutpoints] if model.likelihood.name == "ordinal" else []
    torch.testing.assert_close(nll, LIKELIHOODS[model.likelihood.name].function(first, x, *others))
    torch.testing.assert_close(loss, nll + 0.3 * kl)


@pytest.mark.parametrize("likelihood", LIKELIHOOD_KINDS, ids=str)
@pytest.mark.parametrize("model_type", [AutoEncoder, VAE])
def test_bytes_and_floats_are_the_same_data(model_type, likelihood):
    model = model_type((1, 8, 8), 4, **likelihood)
    x = data(model, dtype=torch.uint8)
    torch.manual_seed(1)
    from_bytes = model.loss(x)
    torch.manual_seed(1)
    from_floats = model.loss(model.prepare(x))
    torch.testing.assert_close(from_bytes, from_floats)


def test_float64_model():
    model = VAE(30, 4).double()
    assert model.loss(data(model, dtype=torch.uint8)).loss.dtype == torch.float64
    assert model.sample(2).dtype == torch.float64


def test_auto_encoder_has_no_kl():
    model = AutoEncoder(30, 4)
    x = data(model)
    loss, nll, kl = model.loss(x, beta=7.0)
    assert kl == 0
    assert loss == nll
    torch.testing.assert_close(model(x).z, model.encode(x))
    torch.testing.assert_close(model.mean(model(x).params), model.reconstruct(x))


def test_beta_and_free_bits():
    model = VAE(30, 4)
    x = data(model)
    with torch.no_grad():
        assert model.loss(x, free_bits=2.0).kl == pytest.approx(4 * 2.0)
        loss, nll, kl = model.loss(x, beta=0.0)
        assert loss == nll
        assert kl > 0


class Pair(nn.Module):
    """An encoder with two heads of its own."""

    def __init__(self):
        super().__init__()
        self.mu, self.logvar = nn.Linear(30, 4), nn.Linear(30, 4)

    def forward(self, x):
        return self.mu(x), self.logvar(x)


def test_modules_from_outside():
    model = VAE(30, 4, encoder=Pair(), decoder=nn.Linear(4, 30))
    x = data(model)
    model.loss(x).loss.backward()
    assert model.encoder.mu.weight.grad is not None
    assert model.decoder.weight.grad is not None
    assert model.config is None
    assert model.log_likelihood(x, 3).shape == (6,)


def test_codes_may_be_pictures():
    encoder = nn.Conv2d(1, 2 * 3, 4, stride=4)
    decoder = nn.ConvTranspose2d(3, 1, 4, stride=4)
    model = VAE((1, 16, 16), (3, 4, 4), encoder=encoder, decoder=decoder)
    x = data(model)
    output = model(x)
    assert output.z.shape == (6, 3, 4, 4)
    assert model.sample(2).shape == (2, 1, 16, 16)
    assert model.log_likelihood(x, 5, chunk=2).shape == (6,)


@pytest.mark.parametrize("likelihood", LIKELIHOOD_KINDS, ids=str)
def test_decode_takes_any_leading_dimensions(likelihood):
    model = VAE((1, 8, 8), 4, **likelihood)
    z = torch.randn(3, 2, 4)
    several, one = model.decode(z), model.decode(z[1])
    if isinstance(one, torch.Tensor):
        several, one = (several,), (one,)
    for whole, part in zip(several, one, strict=True):
        torch.testing.assert_close(whole[1] if whole.dim() else whole, part)


def test_importance_bound_of_one_sample_is_the_elbo():
    model = VAE(30, 3, likelihood="gaussian").double()
    draws = 20_000
    x = data(model, 1, torch.float64).expand(draws, 30)
    with torch.no_grad():
        bound = model.log_likelihood(x, 1)
        elbo = -model.loss(x).loss
    assert abs(bound.mean() - elbo) < 6 * bound.std() / math.sqrt(draws)


def test_importance_bound_reaches_the_exact_likelihood():
    """Of a linear model it is known: x ~ N(b, W W' + s^2 I)."""
    torch.manual_seed(0)
    model = VAE(
        5, 2, likelihood="gaussian", decoder_logvar=-1.0,
        encoder=nn.Linear(5, 4), decoder=nn.Linear(2, 5),
    ).double()  # fmt: skip
    x = torch.randn(7, 5, dtype=torch.float64)
    weight, bias = model.decoder.weight, model.decoder.bias
    covariance = weight @ weight.T + math.exp(-1.0) * torch.eye(5, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(bias, covariance).log_prob(x)
    with torch.no_grad():
        bound = model.log_likelihood(x, 20_000, chunk=10_000)
    torch.testing.assert_close(bound, exact, atol=0.1, rtol=0)


def test_importance_bound_has_a_gradient_and_does_not_depend_on_the_chunks():
    model = VAE(30, 3)
    x = data(model)
    values = []
    for chunk in (1, 4, 100):
        torch.manual_seed(2)
        values.append(model.log_likelihood(x, 10, chunk=chunk))
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])
    values[0].mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_samples_follow_the_generator():
    model = VAE(30, 3)
    one, two = (model.sample(4, generator=torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, model.sample(4))


def test_each_datum_may_have_its_generator():
    model = VAE(30, 3)

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (7, 8, 9, 10)]

    codes = model.sample(4, generator=generators())
    alone = [model.sample(1, generator=one) for one in generators()]
    torch.testing.assert_close(codes, torch.cat(alone))
    x = torch.rand(4, 30)
    z = model(x, generator=generators()).z
    alone = [model(x[k : k + 1], generator=one).z for k, one in enumerate(generators())]
    torch.testing.assert_close(z, torch.cat(alone))
    params = model.decode(z)
    nll = bernoulli_nll(params, x)
    torch.testing.assert_close(model.loss(x, generator=generators()).nll, nll)
    with pytest.raises(ValueError, match="sample: generator is a list of 4, expected 3: one for"):
        model.sample(3, generator=generators())


@pytest.mark.parametrize("model_type", [AutoEncoder, VAE])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_description_builds_the_model_again(model_type, kind):
    model = model_type(**kind, likelihood="gaussian", decoder_logvar="pixel")
    again = build(json.loads(json.dumps(model.config)))
    assert type(again) is model_type
    assert again.config == model.config
    again.load_state_dict(model.state_dict())


def test_models_can_be_copied():
    model = VAE(30, 4, likelihood="gaussian")
    x = data(model)
    torch.testing.assert_close(copy.deepcopy(model).reconstruct(x), model.reconstruct(x))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input_shape": 0}, "input_shape"),
        ({"input_shape": ()}, "input_shape"),
        ({"latent_dim": -1}, "latent_dim"),
        ({"hidden": (0,)}, "hidden"),
        ({"hidden": (1.5,)}, "hidden"),
        ({"architecture": "transformer"}, "architecture"),
        ({"architecture": "conv"}, "input_shape"),
        ({"input_shape": (1, 8, 8), "architecture": "conv", "channels": ()}, "channels"),
        ({"input_shape": (1, 8, 8), "architecture": "conv", "channels": (4,) * 4}, "channels"),
        ({"likelihood": "cauchy"}, "likelihood"),
        ({"likelihood": "gaussian", "decoder_logvar": "fixed"}, "decoder_logvar"),
        ({"likelihood": "gaussian", "decoder_logvar": math.nan}, "decoder_logvar"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        VAE(**arguments)


def test_bad_descriptions():
    with pytest.raises(ValueError, match="expected one of"):
        build({"model": "gan"})
    with pytest.raises(ValueError, match="does not fit"):
        build({"model": "vae", "layers": 3})
    with pytest.raises(ValueError, match="num_samples"):
        VAE(30).log_likelihood(torch.rand(2, 30), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("model_type", [AutoEncoder, VAE])
@pytest.mark.parametrize("likelihood", LIKELIHOOD_KINDS, ids=str)
def test_a_wide_last_layer_has_the_same_loss_and_gradients(
    model_type, likelihood, dtype, monkeypatch, request
):
    model = model_type((1, 8, 40), 5, **likelihood)
    x = data(model, dtype=dtype)

    def loss_and_gradients():
        torch.manual_seed(1)
        model.zero_grad()
        loss = model.loss(x).loss
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters())]

    usual = loss_and_gradients()
    assert wide_decoder(model.decoder, x) is None
    monkeypatch.setattr("vae_fast.models.wide._PAYS_FROM_BYTES", 0)
    request.addfinalizer(lambda: C.set_linear_chunks(0, 0))
    C.set_linear_chunks(64, 2)
    several = model.likelihood.raw_shape(model.input_shape) != model.input_shape
    assert (wide_decoder(model.decoder, x) is None) == several
    torch.testing.assert_close(loss_and_gradients(), usual)


def test_a_wide_output_that_someone_looks_at_is_made(monkeypatch):
    monkeypatch.setattr("vae_fast.models.wide._PAYS_FROM_BYTES", 0)
    model = VAE(30, 5)
    x = data(model)
    assert wide_decoder(model.decoder, x) is not None
    seen = []
    for module in (model.decoder, model.decoder[-1], model.decoder[-2]):
        with module.register_forward_hook(lambda *args: seen.append(args)):
            assert wide_decoder(model.decoder, x) is None
            model.loss(x)
    assert len(seen) == 3
    assert wide_decoder(nn.Sequential(nn.Linear(5, 30), nn.Sigmoid()), x) is None
    assert wide_decoder(nn.Sequential(nn.Linear(5, 10)), x) is None
    assert wide_decoder(nn.Sequential(), x) is None
    assert wide_decoder(nn.Linear(5, 30), x) is None


def test_a_bounded_variance():
    x = torch.full((6, 30), 0.5)
    for logvar in ("learned", "pixel"):
        model = VAE(30, 4, likelihood="gaussian", decoder_logvar=logvar, min_logvar=-3.0)
        assert build(json.loads(json.dumps(model.config))).likelihood.min_logvar == -3.0
        with torch.no_grad():
            if logvar == "learned":
                model.likelihood.slow_logvar.fill_(-50.0)
            else:
                model.decoder[-2].bias.fill_(-500.0)
        output = model(x).params[1]
        torch.testing.assert_close(output, torch.full_like(output, -3.0))
        model.loss(x).loss.backward()
    assert VAE(30, 4, likelihood="gaussian").likelihood.shared[0] == 0
    for settings, message in (
        ({"min_logvar": -3.0}, "bernoulli"),
        ({"likelihood": "gaussian", "min_logvar": float("nan")}, "min_logvar is nan"),
        ({"likelihood": "gaussian", "decoder_logvar": 0, "min_logvar": 0.0}, "not learned"),
    ):
        with pytest.raises(ValueError, match=message):
            VAE(30, 4, **settings)


def test_numbers_of_numpy():
    model = VAE(np.int64(30), np.int32(4), hidden=(np.int64(7),))
    assert json.loads(json.dumps(model.config))["hidden"] == [7]
    assert model.loss(data(model), beta=np.float32(0.5)).loss.dtype == torch.float32
    assert model.config["latent_dim"] == 4


def test_the_mean_of_a_discretized_logistic():
    """That of the 256 levels' probabilities, to half a level."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = torch.tensor([-0.5, 0.0, 0.3, 0.501, 1.0, 1.7, 30.0], dtype=torch.float64)
    for log_scale in (-20.0, -7.0, -3.0, 0.0, 2.0):
        params = mean[:, None], torch.full((7, 1), log_scale, dtype=torch.float64)
        nll = discretized_logistic_nll(
            mean[:, None].expand(7, 256), levels.expand(7, 256), log_scale, reduction="none"
        )
        probability = torch.exp(-nll)
        torch.testing.assert_close(probability.sum(1), torch.ones(7, dtype=torch.float64))
        off = DiscretizedLogisticLikelihood().mean(params)[:, 0] - probability @ levels
        assert off.abs().max() <= 0.51 / 255


def test_a_vae_of_a_discretized_logistic():
    model = VAE(30, 4, likelihood="discretized_logistic")
    x = torch.randint(256, (6, 30)).to(torch.uint8)
    model.loss(x).loss.backward()
    assert model.loss(x).nll > 0
    assert all(p.grad.isfinite().all() for p in model.parameters())
    params = model(x).params
    expected = discretized_logistic_nll(params[0], x.float() / 255, params[1])
    torch.testing.assert_close(model.likelihood.nll(params, x, x / 255, 1, "batchmean"), expected)
