"""VAEs by other estimators than the ELBO of one sample: the loss, the trainer, the errors."""

import json

import pytest
import torch
from scripted_runs import Interrupt, assert_same, state_of
from torch import nn

import vae_fast as vf
from vae_fast.bounds.estimators import ESTIMATORS, Settings
from vae_fast.models import VAE, AutoEncoder
from vae_fast.training import Trainer, TrainerConfig

pytestmark = pytest.mark.of_samples

SETTINGS = {
    "miwae": {"groups": 2}, "piwae": {"groups": 2}, "ciwae": {"alpha": 0.3},
    "renyi": {"alpha": 0.5}, "dreg": {"alpha": 0.2, "groups": 2},
}  # fmt: skip
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
# The KL term of a bound that is the ELBO may be weighed.
WITH_BETA = [(name, 1.0) for name in ESTIMATORS if name != "elbo"]
WITH_BETA += [(name, 0.4) for name, row in ESTIMATORS.items() if row.is_elbo and name != "elbo"]


def small(dtype=torch.float64, **arguments):
    torch.manual_seed(3)
    return VAE(12, 3, hidden=(8,), **arguments).to(dtype)


def data():
    return torch.rand(5, 12, dtype=torch.float64)


def gradients_of(loss, model):
    """Of all parameters, zero where there is none."""
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, parameters.values(), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }


def by_hand(model, x, estimator, noise, beta):
    """The loss and its gradient, each of the three parts by a backward of its own."""
    mu, logvar = model.encode(x)
    z = mu + (0.5 * logvar).exp() * noise
    leaf = z.detach().requires_grad_()

    def log_p(z):
        logits = model.decode(z)
        nll = nn.functional.binary_cross_entropy_with_logits(
            logits, x.expand_as(logits), reduction="none"
        )
        return -nll.sum(2)

    def log_normal(z, mu, logvar):
        return -0.5 * ((z - mu).square() * (-logvar).exp() + logvar).sum(2)

    zero = torch.zeros_like(leaf)
    ratio = log_normal(leaf, mu.detach(), logvar.detach()) - log_normal(leaf, zero, zero)
    log_weights = log_p(leaf) - beta * ratio
    given, row = SETTINGS.get(estimator, {}), ESTIMATORS[estimator]
    settings = Settings(given.get("alpha", row.alpha), given.get("groups", 1), 0.0)
    value, of_model, score, path = row.rule(row.bound, log_weights.detach(), settings)
    (of_z,) = torch.autograd.grad((path * log_weights).sum(), leaf)
    parts = (
        (of_model * log_p(z.detach())).sum(),
        (score * log_normal(z.detach(), mu, logvar)).sum(),
        (of_z * z).sum(),
    )
    gradients = [gradients_of(-part / len(x), model) for part in parts]
    whole = {name: sum(each[name] for each in gradients) for name in gradients[0]}
    return -value.mean(), whole


@pytest.mark.parametrize(("estimator", "beta"), WITH_BETA)
def test_the_loss_and_its_gradient(estimator, beta):
    model, x = small(), data()
    zero = torch.zeros(5, 3, dtype=torch.float64)
    torch.manual_seed(7)
    noise = vf.reparameterize(zero, zero, num_samples=4)
    torch.manual_seed(7)
    terms = model.loss(
        x, estimator=estimator, num_samples=4, beta=beta, **SETTINGS.get(estimator, {})
    )
    value, gradients = by_hand(model, x, estimator, noise, beta)
    torch.testing.assert_close(terms.loss, value)
    torch.testing.assert_close(gradients_of(terms.loss, model), gradients)
    assert not terms.nll.requires_grad
    torch.testing.assert_close(terms.kl, vf.gaussian_kl(*model.encode(x)).detach())


def test_the_elbo_has_its_kl_in_closed_form():
    model, x = small(), data()
    terms = model.loss(x, num_samples=4, beta=0.5, free_bits=0.1)
    torch.testing.assert_close(terms.loss, terms.nll + 0.5 * terms.kl)
    torch.testing.assert_close(terms.kl, vf.gaussian_kl(*model.encode(x), free_bits=0.1))
    many, one = (model.loss(x.repeat(300, 1), num_samples=k).nll for k in (5, 1))
    torch.testing.assert_close(many, one, rtol=5e-3, atol=0)


def test_the_bound_is_the_importance_sampled_likelihood():
    model, x = small(), data()
    for one in (lambda: -model.loss(x, estimator="iwae", num_samples=7).loss,
                lambda: model.log_likelihood(x, 7).mean()):  # fmt: skip
        torch.manual_seed(2)
        value = one()
        torch.manual_seed(2)
        torch.testing.assert_close(value, model.log_likelihood(x, 7).mean())


@pytest.mark.parametrize(
    "arguments",
    [
        {"likelihood": "gaussian"},
        {"likelihood": "gaussian", "decoder_logvar": "pixel"},
        {"likelihood": "continuous_bernoulli"},
        {"likelihood": "negative_binomial"},
        {"likelihood": "categorical", "num_classes": 3},
        {"likelihood": "poisson", "conditions": ("a", "b")},
    ],
    ids=str,
)
@pytest.mark.parametrize("estimator", ["elbo", "iwae", "dreg", "vimco"])
def test_likelihoods_and_conditions(arguments, estimator):
    model = small(torch.float32, **arguments)
    kind = model.likelihood.data
    x = torch.randint(0, 2, (5, *model.data_shape)).to(torch.float32)
    x = x if kind in ("counts", "classes") else x * 0.5
    terms = model(x, return_loss=True, estimator=estimator, num_samples=3)
    terms.loss.backward()
    assert terms.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    tight = model.loss(x, estimator="iwae", num_samples=50).loss
    assert tight < terms.nll + terms.kl


def test_antithetic_codes():
    """Of a linear decoder and a quadratic loss, the noise in mu's gradient is odd: none is left."""
    model, x = small(likelihood="gaussian", decoder_logvar=0.0, encoder=nn.Linear(12, 6)), data()
    model.decoder = nn.Linear(3, 12).double()

    def spread(**settings):
        losses = (model.loss(x, num_samples=2, **settings).loss for _ in range(20))
        each = [gradients_of(loss, model)["encoder.bias"][:3] for loss in losses]
        return torch.stack(each).std(0)

    assert (spread(antithetic=True) < 1e-12).all()
    assert (spread() > 1e-3).all()
    terms = model.loss(x, estimator="iwae", num_samples=4, antithetic=True)
    assert gradients_of(terms.loss, model)["encoder.bias"].isfinite().all()


REFUSED = (
    ({"estimator": "naive"}, ValueError, "estimator is 'naive', expected 'elbo'"),
    ({"alpha": 0.5}, ValueError, "alpha is 0.5, which estimator 'elbo' lacks"),
    ({"num_samples": 0}, ValueError, "num_samples is 0, expected at least 1"),
    ({"estimator": "iwae", "beta": 0.5}, ValueError, "no KL term to weigh"),
    ({"estimator": "iwae", "beta": torch.ones(())}, ValueError, "no KL term to weigh"),
    ({"estimator": "stl", "free_bits": 0.1}, ValueError, "free_bits is 0.1, which"),
    ({"estimator": "iwae", "alpha": 0.5}, ValueError, "alpha is 0.5, which"),
    ({"estimator": "renyi", "num_samples": 2}, ValueError, "alpha is missing"),
    ({"estimator": "miwae", "num_samples": 2}, ValueError, "groups is missing"),
    ({"estimator": "miwae", "num_samples": 4, "groups": 3}, ValueError, "groups is 3, expected a"),
    ({"estimator": "vimco"}, ValueError, "there is one sample, expected at least 2"),
    (
        {"estimator": "dreg", "num_samples": 2, "antithetic": True},
        ValueError,
        "needs independent samples",
    ),
    ({"num_samples": 3, "antithetic": True}, ValueError, "num_samples is 3, expected an even"),
)


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_what_does_not_go_together_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        small().loss(data(), **arguments)
    if not isinstance(arguments.get("beta"), torch.Tensor):
        with pytest.raises(error, match="TrainerConfig"):
            TrainerConfig(**arguments)


def test_a_warm_up_is_of_a_kl_term():
    with pytest.raises(ValueError, match="no KL term to weigh"):
        TrainerConfig(estimator="iwae", num_samples=5, kl_warmup=1.0)
    TrainerConfig(estimator="stl", kl_warmup=1.0, beta=0.5)


# ---- the trainer ---------------------------------------------------------------------------------


@each_estimator
def test_each_estimator_trains(make_vae, digits, estimator):
    settings = SETTINGS.get(estimator, {})
    config = TrainerConfig(
        epochs=4, batch_size=64, estimator=estimator, num_samples=4, device="cpu", **settings
    )
    trainer = Trainer(make_vae(), config)
    before = trainer.evaluate(digits.test)
    history = trainer.fit(digits.train, digits.test)
    assert history[-1].test_loss < before.loss - 3
    assert trainer.evaluate(digits.test).loss == history[-1].test_loss


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(make_vae, digits, tmp_path):
    config = TrainerConfig(
        epochs=3, estimator="ciwae", num_samples=4, alpha=0.25, antithetic=True, device="cpu"
    )
    whole = Trainer(make_vae(), config, out=tmp_path / "whole")
    whole.fit(digits.train, digits.test)
    broken = Trainer(make_vae(), config, out=tmp_path / "broken", callbacks=[Interrupt(1)])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(digits.train, digits.test)
    resumed = Trainer.resume(tmp_path / "broken")
    assert resumed.config == config
    resumed.fit(digits.train, digits.test)
    assert_same(state_of(whole), state_of(resumed))


def test_a_wrapped_model_is_told_too(make_vae, digits):
    config = TrainerConfig(epochs=1, estimator="dreg", num_samples=4, device="cpu")
    alone = Trainer(make_vae(), config)
    wrapped = Trainer(nn.DataParallel(make_vae()), config)
    for trainer in (alone, wrapped):
        trainer.fit(digits.train[:256], digits.test[:64])
    assert alone.history[0].train_loss == pytest.approx(wrapped.history[0].train_loss)


def test_a_model_without_estimators_is_refused(digits):
    config = TrainerConfig(estimator="iwae", num_samples=2, device="cpu")
    with pytest.raises(ValueError, match="AutoEncoder has no such argument"):
        Trainer(AutoEncoder(digits.shape, 2), config)


def test_the_command_line(tmp_path, run_cli, error_of):
    small = ["--hidden", "16", "--latent", "2", "--epochs", "2", "--device", "cpu", "--no-plots"]
    given = ["--estimator", "renyi", "--num-samples", "4", "--alpha", "0.5", "--antithetic"]
    run_cli("train", "--out", tmp_path / "run", *small, *given)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["trainer"]
    kept = {name: stored[name] for name in ("estimator", "num_samples", "alpha", "antithetic")}
    assert kept == {"estimator": "renyi", "num_samples": 4, "alpha": 0.5, "antithetic": True}
    said = run_cli("train", "--resume", "--out", tmp_path / "run", "--epochs", "3", "--no-plots")
    assert "after epoch 3" in said
    figures = json.loads(run_cli("evaluate", tmp_path / "run", "--device", "cpu", "--json"))
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert figures["test_loss"] == pytest.approx(last["test_loss"], rel=1e-6)
    assert "alpha is missing" in error_of("train", "--estimator", "renyi", *small, code=2)
    refused = error_of("train", "--model", "ae", "--num-samples", "2", *small, code=2)
    assert "AutoEncoder has no such argument" in refused


@pytest.mark.parametrize("estimator", ["elbo", "iwae", "dreg", "vimco"])
def test_in_bfloat16(make_vae, digits, estimator):
    config = TrainerConfig(
        epochs=2, estimator=estimator, num_samples=4, device="cpu", precision="bfloat16"
    )
    trainer = Trainer(make_vae(), config)
    before = trainer.evaluate(digits.test)
    assert trainer.fit(digits.train, digits.test)[-1].test_loss < before.loss - 2


@pytest.mark.parametrize("estimator", ["elbo", "iwae", "dreg", "reinforce_loo"])
def test_compiled_whole(estimator):
    torch.compiler.reset()
    model, x = small(torch.float32), data().float()

    def loss(model):
        torch.manual_seed(1)
        return model(x, return_loss=True, estimator=estimator, num_samples=4).loss

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    got, right = loss(compiled), loss(model)
    torch.testing.assert_close(got, right)
    torch.testing.assert_close(gradients_of(got, model), gradients_of(right, model))
