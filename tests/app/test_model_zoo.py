"""Every model by its name: the command line, files, settings, networks."""

import json
import math

import pytest
import torch
from small_models import COUNT, INPUTS, LATENT, data, made, seeded

import vae_fast as vf
from vae_fast.models import (
    CIWAE,
    DIPVAE,
    FSQVAE,
    MODELS,
    PIWAE,
    VAE,
    VQVAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    DenoisingAutoEncoder,
    FactorVAE,
    InfoVAE,
    MixtureVAE,
    PosteriorVAE,
    SphericalVAE,
    VampVAE,
    WassersteinAutoEncoder,
    build,
)
from vae_fast.models.networks import ResidualBlock
from vae_fast.models.settings import settings_of


@pytest.fixture
def small_run(tmp_path, run_cli, few_codes):
    def run(kind, *more, out="run", epochs=2):
        arguments = ["--data", "digits", "--model", kind, "--epochs", epochs, "--latent", 8]
        if "hidden" not in more and kind != "linear_vae":
            arguments += ["--hidden", "16"]
        run_cli("train", *arguments, "--out", tmp_path / out, *more)
        return tmp_path / out

    return run


@pytest.mark.parametrize("kind", MODELS)
def test_a_run_of_each(kind, small_run, run_cli, tmp_path):
    """Trains, resumes bit for bit as if it had not been interrupted, and is used."""
    run = small_run(kind)
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["train_loss"]) for line in history)
    pictures = ("curves.png", "reconstructions.png", "samples.png", "latent.png")
    assert all((run / name).stat().st_size > 1000 for name in pictures)

    short = small_run(kind, "--no-plots", out="short", epochs=1)
    run_cli("train", "--resume", "--out", short, "--epochs", 2, "--no-plots")
    assert (short / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()

    shown = json.loads(run_cli("evaluate", run, "--json"))
    assert shown["test_loss"] == pytest.approx(history[-1]["test_loss"], rel=1e-4)
    if issubclass(MODELS[kind], VAE | PosteriorVAE):
        bounded = json.loads(run_cli("evaluate", run, "-k", 5, "--json"))["log_likelihood"]
        assert math.isfinite(bounded)
    run_cli("sample", run, "-n", 4, "--out", tmp_path / "s.npy")
    run_cli("reconstruct", run, "-n", 4, "--out", tmp_path / "r.npy")
    assert (tmp_path / "s.npy").exists()
    assert (tmp_path / "r.npy").exists()


def test_own_settings_on_the_command_line(small_run, error_of):
    run = small_run("vq_vae", "--set", "num_codes=16", "--set", "update=gradient", "--no-plots")
    described = json.loads((run / "config.json").read_text())["model"]
    assert (described["num_codes"], described["update"]) == (16, "gradient")
    run = small_run("fsq_vae", "--set", "levels=3,5", "--no-plots", out="fsq")
    assert json.loads((run / "config.json").read_text())["model"]["levels"] == [3, 5]
    run = small_run("beta_tc_vae", "--set", "stratified=false", "--no-plots", out="tc")
    described = json.loads((run / "config.json").read_text())["model"]
    assert (described["stratified"], described["dataset_size"]) == (False, 1497)
    for said, *given in (
        ("beta_vae has beta, not gamma", "beta_vae", "gamma=1"),
        ("vae has none of its own", "vae", "beta=1"),
        ("beta is 'much', expected a number", "beta_vae", "beta=much"),
        ("beta is 'nan', expected a number", "beta_vae", "beta=nan"),
        ("update is 'sgd', expected ema or gradient", "vq_vae", "update=sgd"),
        ("expected true or false", "beta_tc_vae", "stratified=1"),
        ("expected a whole number or none", "beta_tc_vae", "dataset_size=many"),
        ("is not NAME=VALUE", "beta_vae", "beta"),
        ("BetaVAE: beta is -1.0", "beta_vae", "beta=-1"),
    ):
        assert said in error_of("train", "--model", given[0], "--set", given[1], code=2)


@pytest.mark.parametrize("kind", MODELS)
def test_a_description_builds_the_same_again(kind):
    torch.manual_seed(0)
    model = MODELS[kind](INPUTS, 4 if kind in ("vq_vae", "fsq_vae") else LATENT)
    again = build(json.loads(json.dumps(model.config)))
    assert again.config == model.config
    assert set(settings_of(MODELS[kind])) <= set(model.config)
    assert [(n, p.shape) for n, p in again.named_parameters()] == [
        (n, p.shape) for n, p in model.named_parameters()
    ]


def test_residual_networks():
    """Blocks that give 0 leave the convolutional networks as they were; odd sizes, colour."""
    torch.manual_seed(0)
    settings = {"channels": (8, 16), "hidden": (32,), "likelihood": "gaussian"}
    model = VAE((3, 13, 10), LATENT, architecture="resnet", **settings)
    plain = VAE((3, 13, 10), LATENT, architecture="conv", **settings)
    x = torch.rand(2, 3, 13, 10)
    model.loss(x).loss.backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())
    layers = [m for net in (model.encoder, model.decoder) for m in net]
    blocks = [m for m in layers if isinstance(m, ResidualBlock)]
    assert len(blocks) == 8
    with torch.no_grad():
        for block in blocks:
            block.body[-1].weight.zero_()
            block.body[-1].bias.zero_()
    own = [m for m in layers if not isinstance(m, ResidualBlock) and [*m.parameters()]]
    others = [m for net in (plain.encoder, plain.decoder) for m in net if [*m.parameters()]]
    for ours, theirs in zip(own, others, strict=True):
        theirs.load_state_dict(ours.state_dict())
    plain.likelihood.load_state_dict(model.likelihood.state_dict())
    torch.testing.assert_close(model.loss(x, generator=seeded()), plain.loss(x, generator=seeded()))
    assert build(model.config).config == model.config


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (BetaVAE, {"beta": -1.0}, "beta is -1"),
        (AnnealedVAE, {"rise": 0}, "rise is 0"),
        (BetaTCVAE, {"dataset_size": 0}, "dataset_size is 0"),
        (FactorVAE, {"discriminator_hidden": ()}, "discriminator_hidden is empty"),
        (DIPVAE, {"variant": "iii"}, "variant is 'iii'"),
        (InfoVAE, {"alpha": 2.0}, "alpha is 2"),
        (InfoVAE, {"alpha": 0.0, "weight": 0.5}, "weight is 0.5"),
        (InfoVAE, {"kernel": "linear"}, "kernel is 'linear'"),
        (WassersteinAutoEncoder, {"kernel": "linear"}, "kernel is 'linear'"),
        (DenoisingAutoEncoder, {"corruption": "salt"}, "corruption is 'salt'"),
        (DenoisingAutoEncoder, {"corruption": "masking", "level": 1.0}, "level is 1"),
        (VQVAE, {"code_dim": 3}, "not made of vectors of 3"),
        (FSQVAE, {"levels": (3, 3, 3)}, "not made of vectors of 3"),
        (PIWAE, {"num_samples": 5}, "groups"),
        (CIWAE, {"alpha": 2.0}, "alpha"),
        (SphericalVAE, {"posterior": "full_normal"}, "posterior is 'full_normal'"),
        (VampVAE, {"posterior": "full_normal"}, "posterior is 'full_normal'"),
        (VampVAE, {"likelihood": "poisson"}, "likelihood is 'poisson'"),
        (PosteriorVAE, {"posterior": "cauchy"}, "posterior is 'cauchy'"),
    ],
)
def test_settings_out_of_range(kind, settings, said):
    with pytest.raises(ValueError, match=said):
        made(kind, **settings)


def test_what_a_loss_cannot_have():
    x = data()
    with pytest.raises(ValueError, match="free_bits"):
        made(BetaTCVAE).loss(x, free_bits=0.1)
    with pytest.raises(ValueError, match="free_bits"):
        made(MixtureVAE).loss(x, free_bits=0.1)
    with pytest.raises(ValueError, match="generator is a list"):
        made(InfoVAE).loss(x, generator=[seeded(i) for i in range(COUNT)])
    with pytest.raises(TypeError, match="beta is of type str"):
        made(BetaVAE, beta="4")
    with pytest.raises(TypeError, match="rise is of type float"):
        made(AnnealedVAE, rise=4.0)


def test_what_a_model_has_learned_is_in_its_state():
    """Moving averages, the discriminator, steps and priors."""
    for kind, names in (
        (VQVAE, {"quantizer.codebook", "quantizer.counts", "quantizer.started"}),
        (FactorVAE, {"discriminator.0.weight"}),
        (AnnealedVAE, {"steps"}),
        (VampVAE, {"prior.pseudo_inputs"}),
        (MixtureVAE, {"prior.loc", "prior.logvar", "prior.logits"}),
    ):
        assert names <= set(made(kind).state_dict())


def test_the_plain_models_are_fused_as_before(monkeypatch):
    """A preset of the VAE's own terms takes the whole op, where there is one."""
    called = []
    whole = vf.models.vae.whole_terms
    monkeypatch.setattr(
        "vae_fast.models.vae.whole_terms", lambda *given: called.append(1) or whole(*given)
    )
    for kind in (VAE, BetaVAE, AnnealedVAE):
        made(kind, torch.float32).loss(data().float())
    assert len(called) == 3
