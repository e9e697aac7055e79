"""Classes as a model's data: held and read as they are, through every command."""

import json

import numpy as np
import pytest
import torch
from scipy import sparse

import vae_fast as vf
from vae_fast.data import DataError, load
from vae_fast.models import VAE, AutoEncoder, build
from vae_fast.models.base import HEADS
from vae_fast.training import Trainer, TrainerConfig

NAMES = [name for name, head in HEADS.items() if head.data == "classes"]
CLASSES, FEATURES = 5, 6

each_name = pytest.mark.parametrize("name", NAMES)


def of_a_type(count, seed=0):
    """(count, FEATURES) classes, each feature's by the datum's type, one of two, 19 times of 20."""
    draw = np.random.default_rng(seed)
    usual = np.array([[0, 4, 2, 1, 3, 0], [4, 0, 3, 2, 1, 1]])[draw.integers(2, size=count)]
    return np.where(
        draw.random(usual.shape) < 0.95, usual, draw.integers(CLASSES, size=usual.shape)
    )


def test_there_are_two_of_them():
    assert NAMES == ["categorical", "ordinal"]


# ---- the model -----------------------------------------------------------------------------------


@each_name
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("backend")
def test_any_dtype_is_the_same_data(name, dtype):
    model = VAE(FEATURES, 2, hidden=(8,), likelihood=name, num_classes=256)
    x = torch.randint(256, (9, FEATURES))
    losses = []
    for given in (x, x.to(dtype)):
        torch.manual_seed(1)
        losses.append(model.loss(given))
    assert torch.equal(*(terms.loss for terms in losses))
    assert model.to(torch.bfloat16).loss(x).loss.isfinite()


@pytest.mark.usefixtures("backend")
def test_what_the_networks_are_given_and_give():
    x = torch.tensor([[0, 2, 1], [2, 2, 0]])
    model = VAE(3, 2, hidden=(8,), likelihood="categorical", num_classes=3)
    one_hot = model.likelihood.encoded(model.prepare(x))
    assert one_hot.tolist() == [[1, 0, 0, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1, 1, 0, 0]]
    logits = model(x).params
    assert logits.shape == (2, 3, 3)
    mu, logvar = model.encode(x)
    nll = vf.elbo_loss(logits, x, mu, logvar, likelihood="categorical").nll
    torch.testing.assert_close(nll, model.likelihood.nll(logits, x, x.float(), 1, "batchmean"))
    assert torch.equal(model.mean(logits), logits.argmax(-1).float())

    pictures = VAE((2, 8, 8), 2, architecture="conv", likelihood="categorical", num_classes=3)
    x = torch.randint(3, (4, 2, 8, 8))
    given = pictures.likelihood.encoded(pictures.prepare(x))
    assert torch.equal(given.unflatten(1, (2, 3)).argmax(2), x)
    raw = torch.randn(4, 6, 8, 8)
    assert torch.equal(pictures.likelihood(raw)[1, 1, 3, 4], raw[1, 3:6, 3, 4])

    model = VAE(3, 2, hidden=(8,), likelihood="ordinal", num_classes=3)
    assert (
        model.likelihood.encoded(model.prepare(x[0, 0, :2, :3])).tolist()
        == (x[0, 0, :2, :3] / 2).tolist()
    )
    torch.testing.assert_close(
        model.likelihood.cutpoints[1].sigmoid(), torch.tensor([1 / 3, 2 / 3])
    )
    torch.testing.assert_close(model.mean(torch.zeros(4, 3)), torch.ones(4, 3))
    with torch.no_grad():
        model.likelihood.slow_steps.normal_()
    assert (model.likelihood.cutpoints.diff() > 0).all()
    location = torch.randn(5, 3)
    costs = [
        vf.ordinal_nll(
            location, torch.full((5, 3), k), model.likelihood.cutpoints, reduction="none"
        )
        for k in range(3)
    ]
    expected = sum(k * torch.exp(-cost) for k, cost in enumerate(costs))
    torch.testing.assert_close(model.mean(location), expected)


@each_name
@pytest.mark.parametrize("model_type", [VAE, AutoEncoder])
def test_what_is_no_class_is_refused(name, model_type):
    model = model_type(FEATURES, 2, likelihood=name, num_classes=CLASSES)
    x = torch.zeros(3, FEATURES)
    for wrong, shown in ((5, "5"), (-1, "-1"), (1.5, r"1\.5"), (float("nan"), "nan")):
        x[1, 2] = wrong
        message = rf"x holds {shown}, expected whole numbers from 0 to 4"
        with pytest.raises(ValueError, match=message):
            model.loss(x)
        with pytest.raises(ValueError, match=message):
            model.reconstruct(x)
        with pytest.raises(DataError, match=f"the data holds? .*{'nan|NaN' * (wrong != wrong)}"):
            Trainer(model, TrainerConfig(epochs=1, device="cpu")).fit(x)


@each_name
def test_the_number_of_classes(name):
    for wrong in (None, 1, 257, 2.0, True, "2"):
        with pytest.raises(
            ValueError, match=r"num_classes is .*needs a whole number from 2 to 256"
        ):
            VAE(FEATURES, 2, likelihood=name, num_classes=wrong)
    with pytest.raises(ValueError, match="num_classes is 3, which likelihood 'gaussian' lacks"):
        VAE(FEATURES, 2, likelihood="gaussian", num_classes=3)
    model = VAE(FEATURES, 2, likelihood=name, num_classes=np.int64(3))
    again = build(json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert again.likelihood.num_classes == 3


def test_the_number_of_mixtures():
    model = VAE((3, 8, 8), 2, likelihood="discretized_logistic_mixture", num_mixtures=3)
    assert model(torch.rand(2, 3, 8, 8)).params.shape == (2, 30, 8, 8)
    assert build(json.loads(json.dumps(model.config))).likelihood.num_mixtures == 3
    for wrong in (0, 2.0):
        with pytest.raises(ValueError, match=r"num_mixtures is .*; expected a whole number from 1"):
            VAE((3, 8, 8), 2, likelihood="discretized_logistic_mixture", num_mixtures=wrong)


@pytest.mark.usefixtures("fresh_compiler")
@each_name
def test_compiled(name):
    model = VAE(FEATURES, 2, hidden=(8,), likelihood=name, num_classes=CLASSES)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randint(CLASSES, (9, FEATURES))
    losses = []
    for forward in (model, compiled):
        torch.manual_seed(1)
        losses.append(forward(x, return_loss=True).nll)
    torch.testing.assert_close(*losses)
    with pytest.raises((IndexError, RuntimeError)):
        compiled(x + 1, return_loss=True)


# ---- training ------------------------------------------------------------------------------------


@each_name
def test_training_goes_down_to_the_entropy(name):
    """Of independent features, whose entropy is known."""
    torch.manual_seed(0)
    p = torch.softmax(1.5 * torch.randn(FEATURES, CLASSES), -1)
    x = torch.multinomial(p, 20_000, replacement=True).T.contiguous()
    shares = torch.nn.functional.one_hot(x).float().mean(0)
    entropy = float(torch.special.entr(shares).sum())
    model = VAE(FEATURES, 2, hidden=(32,), likelihood=name, num_classes=CLASSES)
    settings = TrainerConfig(epochs=6, batch_size=128, schedule="linear", device="cpu")
    last = Trainer(model, settings).fit(x)[-1]
    assert entropy - 0.01 < last.train_loss < entropy + 0.03


@each_name
def test_the_code_tells_what_depends(name):
    """Of features that hang together by a type: less than they cost one by one."""
    torch.manual_seed(0)
    x = of_a_type(4000)
    p = np.stack([(x == k).mean(0) for k in range(CLASSES)])
    apart = -(p * np.log(p)).sum()
    model = VAE(FEATURES, 2, hidden=(32,), likelihood=name, num_classes=CLASSES)
    history = Trainer(model, TrainerConfig(epochs=10, batch_size=64, device="cpu")).fit(x)
    assert history[-1].train_loss < apart - 1.5
    usual = torch.tensor([[0, 4, 2, 1, 3, 0], [4, 0, 3, 2, 1, 1]])
    assert (model.reconstruct(usual).round() == usual).all()


@each_name
def test_a_run(name, tmp_path, run_cli, error_of, few_codes):
    source = tmp_path / "answers.npy"
    np.save(source, of_a_type(120).astype(np.float64))
    told = ("train", "--data", source, "--likelihood", name, "--hidden", 8, "--latent", 2)
    run, whole = tmp_path / "run", tmp_path / "whole"
    run_cli(*told, "--out", run, "--epochs", 2)
    config = json.loads((run / "config.json").read_text())
    assert (config["model"]["num_classes"], config["data"]["counts"]) == (CLASSES, True)
    figures = json.loads(run_cli("evaluate", run, "--json", "-k", 3))
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert figures["test_loss"] == history[-1]["test_loss"]
    run_cli("reconstruct", run, "-n", 5, "--out", tmp_path / "pairs.npy")
    data, made = np.load(tmp_path / "pairs.npy")
    assert np.isin(data, range(CLASSES)).all()
    assert name == "ordinal" or np.isin(made, range(CLASSES)).all()
    run_cli("sample", run, "-n", 4, "--out", tmp_path / "drawn.npy")
    assert np.load(tmp_path / "drawn.npy").shape == (4, FEATURES)

    run_cli("train", "--resume", "--out", run, "--epochs", 4, "--no-plots")
    run_cli(*told, "--out", whole, "--epochs", 4, "--no-plots")
    one, other = ((folder / "model.safetensors").read_bytes() for folder in (run, whole))
    assert one == other

    run_cli(*told, "--num-classes", 7, "--out", tmp_path / "seven", "--epochs", 1, "--no-plots")
    config = json.loads((tmp_path / "seven" / "config.json").read_text())
    assert config["model"]["num_classes"] == 7
    said = error_of(*told, "--num-classes", 3, "--out", tmp_path / "no", "--epochs", 1, code=1)
    assert (
        "answers holds 4, and num_classes is 3: classes are the whole numbers from 0 to 2" in said
    )
    more = tmp_path / "more.npy"
    np.save(more, 1 + of_a_type(20))
    assert "more holds 5, and num_classes is 5" in error_of("evaluate", run, "--data", more, code=1)


@each_name
def test_pictures_of_classes(name, tmp_path, run_cli, few_codes):
    """Of the digits' 17 levels, as they are."""
    told = ("--likelihood", name, "--hidden", 8, "--latent", 2, "--epochs", 1)
    said = run_cli("train", "--data", "digits", *told, "--out", tmp_path)
    assert "uint8" in said
    assert json.loads((tmp_path / "config.json").read_text())["model"]["num_classes"] == 17
    for picture in ("reconstructions", "samples", "latent"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 5000


@each_name
def test_other_data_are_refused(name, tmp_path, error_of):
    told = ("--likelihood", name, "--out", tmp_path / "run", "--epochs", 1)
    for x, said in (
        (np.full((9, 3), 0.5), "holds 0.5, and counts and classes are whole numbers"),
        (np.full((9, 3), -1), "holds -1, and counts and classes are whole numbers from 0 on"),
    ):
        np.save(tmp_path / "x.npy", x)
        assert said in error_of("train", "--data", tmp_path / "x.npy", *told, code=1)
    np.save(tmp_path / "x.npy", np.full((9, 3), 300))
    said = error_of("train", "--data", tmp_path / "x.npy", *told, code=2)
    assert f"num_classes is 301; likelihood '{name}' needs a whole number from 2 to 256" in said
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(np.eye(9)))
    said = error_of("train", "--data", tmp_path / "x.npz", *told, code=1)
    assert "is sparse, which is for likelihoods of counts" in said
    said = error_of("train", "--data", "digits", *told, "--standardize", code=2)
    assert f"--standardize is for real values, and {name} takes whole numbers" in said


def test_as_many_classes_as_there_are():
    assert load("digits", counts=True).num_classes() == 17
