"""What the command line says of a run: figures, and what its codes make of data."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vae_fast.evaluation import Evaluation, evaluate_model
from vae_fast.models import VAE
from vae_fast.training import Trainer, TrainerConfig

COUNTED = ["--count", 40, "-k", 30]


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """A small run of a VAE on digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    torch.manual_seed(0)
    model = VAE(digits.shape, 3, hidden=(24,))
    info = {"data": {"source": "digits"}}
    Trainer(model, TrainerConfig(epochs=4, device="cpu"), out=out, info=info).fit(digits.train)
    return out


@pytest.fixture
def few(monkeypatch):
    """Annealing is short, and pictures of codes show few of them."""
    for name, value in {"annealed": 3, "chains": 3, "temperatures": 10}.items():
        monkeypatch.setitem(evaluate_model.__kwdefaults__, name, value)
    monkeypatch.setattr("vae_fast.plots.explore._SHOWN", 60)


def is_drawn(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    return pixels.std() > 5 and min(pixels.shape) > 200


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_figures_and_their_pictures(run, tmp_path, run_cli, few):
    said = run_cli("evaluate", run, "--out", tmp_path, "--beside", run, *COUNTED)
    for text in ("log p(x), 30 samples", "active units", "total correlation", "informativeness"):
        assert text in said
    names = {"evaluation.json", "kl.png", "pareto_k.png", "rate_distortion.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(is_drawn(tmp_path / name) for name in names if name.endswith(".png"))
    content = json.loads((tmp_path / "evaluation.json").read_text())
    figures = Evaluation.from_dict(content["evaluation"])
    assert figures.count == 40
    assert figures.importance.samples == 30
    assert None not in (figures.annealing, figures.decomposition, figures.disentanglement)
    (point,) = content["runs"].values()  # the same run twice
    assert point["rate"] > 0
    as_json = json.loads(run_cli("evaluate", run, "--all", "--json", *COUNTED))
    assert Evaluation.from_dict(as_json["evaluation"]) == figures
    assert as_json["count"] == 300  # of the loss, which is of all
    assert as_json["test_loss"] == content["test_loss"]


def test_some_figures(run, tmp_path, run_cli, error_of):
    said = json.loads(run_cli("evaluate", run, "--metric", "units", "--json"))["evaluation"]
    assert len(said["units"]["kl"]) == 3
    assert (said["importance"], said["annealing"]) == (None, None)
    run_cli("evaluate", run, "--metric", "units", "--out", tmp_path / "units")
    names = {path.name for path in (tmp_path / "units").iterdir()}
    assert names == {"evaluation.json", "kl.png"}
    assert "at least 2" in error_of("evaluate", run, "--metric", "importance", "-k", 1, code=2)
    factors = np.random.default_rng(0).normal(size=(300, 2))
    np.save(tmp_path / "factors.npy", factors)
    asked = ["evaluate", run, "--metric", "disentanglement", "--json", "--factors"]
    said = json.loads(run_cli(*asked, tmp_path / "factors.npy"))["evaluation"]["disentanglement"]
    assert said["mig"] is None  # these are no classes
    assert said["sap"] < 0.2
    np.save(tmp_path / "short.npy", factors[:5])
    assert "a row for each held-out datum" in error_of(*asked, tmp_path / "short.npy", code=1)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    assert "holds no array of numbers" in error_of(*asked, tmp_path / "text.npy", code=1)
    (tmp_path / "none.npy").write_text("none")
    assert "is no .npy file" in error_of(*asked, tmp_path / "none.npy", code=1)


def test_traverse(run, tmp_path, run_cli, error_of):
    run_cli("traverse", run, "--steps", 5, "--out", tmp_path)
    assert np.load(tmp_path / "traversal.npy").shape == (3, 5, 1, 8, 8)
    assert is_drawn(tmp_path / "traversal.png")
    run_cli("traverse", run, "-d", 2, "-d", 0, "--steps", 3, "--index", 4, "--out", tmp_path)
    turned = np.load(tmp_path / "traversal.npy")
    assert turned.shape == (2, 3, 1, 8, 8)
    assert not np.allclose(turned[0, 0], turned[0, 2])
    assert "not one of the code's 3 dimensions" in error_of("traverse", run, "-d", 3, code=2)
    assert "no held-out datum 999" in error_of("traverse", run, "--index", 999, code=2)


def test_interpolate(run, tmp_path, run_cli):
    run_cli("interpolate", run, "--between", 0, 5, "--steps", 7, "--out", tmp_path)
    between = np.load(tmp_path / "interpolation.npy")
    assert between.shape == (1, 7, 1, 8, 8)
    assert is_drawn(tmp_path / "interpolation.png")
    run_cli("reconstruct", run, "-n", 6, "--out", tmp_path / "ends.npy")
    ends = np.load(tmp_path / "ends.npy")[1]
    np.testing.assert_allclose(between[0, [0, -1]], ends[[0, 5]], atol=1e-5)


@pytest.mark.parametrize("missing", ["left", "top", "middle", "random"])
def test_impute(run, tmp_path, run_cli, missing):
    said = run_cli("impute", run, "-n", 3, "-k", 40, "--missing", missing, "--out", tmp_path)
    assert "effective sample size" in said
    filled = np.load(tmp_path / "imputed.npy")
    assert filled.shape == (4, 3, 1, 8, 8)
    assert is_drawn(tmp_path / "imputed.png")
    run_cli("reconstruct", run, "-n", 3, "--out", tmp_path / "x.npy")
    kept = np.isclose(filled, np.load(tmp_path / "x.npy")[0], atol=1e-6).all((0, 1, 2))
    hidden = {
        "left": np.s_[:, :4], "top": np.s_[:4], "middle": np.s_[2:-2, 2:-2],
        "random": ~kept,
    }[missing]  # fmt: skip
    known = np.ones((8, 8), bool)
    known[hidden] = False
    assert kept[known].all()
    assert 16 <= (~known).sum() <= 48


def test_impute_by_a_mask(run, tmp_path, run_cli, error_of):
    mask = np.zeros((1, 8, 8))
    mask[0, 0] = 1
    np.save(tmp_path / "mask.npy", mask)
    run_cli("impute", run, "-n", 2, "--mask", tmp_path / "mask.npy", "--out", tmp_path)
    np.save(tmp_path / "mask.npy", mask[:, :5])
    message = error_of("impute", run, "-n", 2, "--mask", tmp_path / "mask.npy", code=2)
    assert "observed has shape (1, 5, 8)" in message


@pytest.mark.parametrize("score", ["elbo", "iwae"])
def test_anomaly_finds_what_is_none(run, tmp_path, run_cli, digits, score):
    """Digits with one picture of noise among them."""
    x = digits.test[:60].clone()
    x[17] = torch.randint(0, 256, x.shape[1:], dtype=torch.uint8)
    np.save(tmp_path / "x.npy", x.numpy())
    run_cli("anomaly", run, "--data", tmp_path / "x.npy", "--score", score, "--out", tmp_path)
    found = rows_of(tmp_path / "anomaly.csv")
    assert found[0]["index"] == "17"
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 60
    assert is_drawn(tmp_path / "anomaly.png")


def test_cluster(run, tmp_path, run_cli, few):
    said = run_cli("cluster", run, "--out", tmp_path)
    assert "adjusted Rand index" in said
    found = rows_of(tmp_path / "clusters.csv")
    assert len(found) == 300
    assert {int(row["cluster"]) for row in found} <= set(range(10))
    assert is_drawn(tmp_path / "clusters.png")


def test_data_that_are_no_pictures(tmp_path, run_cli, error_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(120, 5)))
    run_cli(
        "train", "--data", "x.npy", "--likelihood", "gaussian", "--hidden", 8, "--latent", 2,
        "--epochs", 1, "--no-plots", "--out", "r",
    )  # fmt: skip
    for command, names in (
        ("traverse", ["traversal.npy"]),
        ("interpolate", ["interpolation.npy"]),
        ("anomaly", ["anomaly.csv", "anomaly.png"]),
        ("cluster", ["clusters.csv", "clusters.png"]),
    ):
        run_cli(command, "r", "--out", command)
        assert sorted(path.name for path in (tmp_path / command).iterdir()) == names
    run_cli("impute", "r", "--missing", "random", "--out", "impute")
    assert "no pictures" in error_of("impute", "r", "--missing", "left", code=2)
    assert "no labels" in error_of("evaluate", "r", "--metric", "disentanglement", code=2)
    assert "give --out" in error_of("evaluate", "r", "--beside", "r", code=2)


def test_an_auto_encoder_has_no_distribution(tmp_path, run_cli, error_of):
    run_cli(
        "train", "--model", "ae", "--data", "digits", "--hidden", 8, "--latent", 2, "--epochs", 1,
        "--no-plots", "--out", tmp_path / "ae",
    )  # fmt: skip
    run_cli("interpolate", tmp_path / "ae")
    for arguments in (["traverse"], ["impute"], ["anomaly"], ["evaluate", "--all"]):
        assert "VAE" in error_of(arguments[0], tmp_path / "ae", *arguments[1:], code=2)
