"""The best variance of a Gaussian decoder, in closed form; and the decoder that has it."""

import copy
import math
import pickle

import pytest
import torch

import vae_fast as vf
from vae_fast.data import load
from vae_fast.likelihoods.gaussian import GaussianLikelihood

DIMS = {"all": (0, 1, 2), "feature": (0,), "datum": (1, 2)}


def pair(dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    mean, x = torch.randn(2, 7, 3, 4, generator=generator, dtype=torch.float64)
    return mean.to(dtype).requires_grad_(), (3 * x).to(dtype)


@pytest.mark.parametrize("per", DIMS)
def test_it_is_the_mean_square_and_no_variance_does_better(per):
    mean, x = pair()
    logvar = vf.optimal_logvar(mean, x, per=per)
    assert logvar.shape == torch.empty(7, 3, 4).sum(DIMS[per], keepdim=True).shape
    torch.testing.assert_close(logvar.exp(), (mean - x).square().mean(DIMS[per], keepdim=True))
    best = vf.gaussian_nll(mean, x, logvar, reduction="sum")
    free = logvar.detach().requires_grad_()
    (slope,) = torch.autograd.grad(vf.gaussian_nll(mean, x, free, reduction="sum"), free)
    assert slope.abs().max() < 1e-12 * x.numel()
    for other in (-0.1, 0.1):
        assert vf.gaussian_nll(mean, x, logvar + other, reduction="sum") > best


def test_the_nll_is_the_closed_form_with_its_gradient():
    mean, x = pair()
    nll = vf.gaussian_nll(mean, x, vf.optimal_logvar(mean, x))
    closed = 6 * ((mean - x).square().mean().log() + math.log(2 * math.pi) + 1)
    torch.testing.assert_close(nll, closed)
    slopes = [torch.autograd.grad(value, mean, create_graph=True)[0] for value in (nll, closed)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(*(torch.autograd.grad(g.square().sum(), mean)[0] for g in slopes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_half_precision_it_is_float32s(dtype):
    mean, x = pair(dtype)
    logvar = vf.optimal_logvar(mean, x)
    assert logvar.dtype == torch.float32
    torch.testing.assert_close(logvar, vf.optimal_logvar(mean.float(), x.float()))
    vf.gaussian_nll(mean, x, logvar).backward()
    assert mean.grad.isfinite().all()


def test_whole_numbers_are_numbers():
    mean, x = torch.zeros(2, 2), torch.tensor([[2, 0], [0, 2]], dtype=torch.uint8)
    assert vf.optimal_logvar(mean, x).exp() == 2.0


def test_one_datum_without_a_batch():
    mean, x = torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(vf.optimal_logvar(mean, x, batch_dims=0).exp(), torch.tensor([7.5]))
    per = vf.optimal_logvar(mean, x, per="feature", batch_dims=0)
    torch.testing.assert_close(per, 2 * x.log())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"per": "pixel"}, ValueError, "per is 'pixel', expected 'all', 'feature' or 'datum'"),
        ({"batch_dims": 4}, ValueError, "batch_dims is 4"),
        (
            {"target": torch.zeros(3, 4)},
            ValueError,
            r"target has shape \(3, 4\), expected mean's",
        ),
        ({"target": 1.0}, TypeError, "target is of type float"),
        ({"mean": torch.zeros(7, 3, 4).long()}, TypeError, "mean has dtype torch.int64"),
    ],
)
def test_wrong_arguments_are_named(settings, error, message):
    mean, x = pair()
    with pytest.raises(error, match=f"optimal_logvar: {message}"):
        vf.optimal_logvar(**{"mean": mean, "target": x, **settings})


# ---- of a decoder --------------------------------------------------------------------------------


def digits():
    return load("digits").train.float().reshape(-1, 64) / 255


def optimal_vae(**settings):
    torch.manual_seed(0)
    return vf.VAE(64, 5, hidden=(64,), likelihood="gaussian", decoder_logvar="optimal", **settings)


def test_in_training_a_batch_has_its_own_variance():
    model, x = optimal_vae(), digits()[:100]
    torch.manual_seed(1)
    nll = model.loss(x).nll
    torch.manual_seed(1)
    mean, _ = model(x).params
    closed = 32 * ((mean - x).square().mean().log() + math.log(2 * math.pi) + 1)
    torch.testing.assert_close(nll, closed)
    square = model.likelihood.mean_square
    torch.testing.assert_close(square, 0.9 + 0.1 * (mean - x).square().mean().detach())


def test_in_evaluation_it_is_trainings():
    """The test loss is of one distribution, whatever the batch; and it is close to the best one."""
    model, x = optimal_vae(), digits()
    config = vf.TrainerConfig(epochs=8, batch_size=100, device="cpu")
    trainer = vf.Trainer(model, config)
    history = trainer.fit(x[:1200], x[1200:])
    square = model.likelihood.mean_square.clone()
    model.eval()
    torch.manual_seed(1)
    nll = model.loss(x[1200:]).nll
    torch.manual_seed(1)
    mean, logvar = model(x[1200:]).params
    torch.testing.assert_close(logvar.exp(), square)
    torch.testing.assert_close(nll, vf.gaussian_nll(mean, x[1200:], square.log()))
    assert torch.equal(model.likelihood.mean_square, square)
    best = vf.gaussian_nll(mean, x[1200:], vf.optimal_logvar(mean, x[1200:]))
    assert best < nll < best + 0.5
    assert history[-1].test_nll < history[0].test_nll - 20


def test_its_variance_is_bounded_where_the_data_are_reproduced():
    model = optimal_vae(min_logvar=-6.0)
    x = torch.full((8, 64), 0.5)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    loss = model.loss(torch.zeros(8, 64))
    assert loss.nll.item() == pytest.approx(32 * (math.log(2 * math.pi) - 6.0), rel=1e-6)
    loss.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.loss(x).nll.isfinite()


def test_the_decoder_is_copied_and_stored_as_what_it_is():
    one = GaussianLikelihood("optimal")
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert type(other) is type(one) is not GaussianLikelihood
        assert other.state_dict().keys() == {"mean_square"}
    assert type(GaussianLikelihood()) is GaussianLikelihood
