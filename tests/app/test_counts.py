"""Counts as a model's data: held and read as they are, dense or sparse, through every command."""

import json
import runpy
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse
from torch.distributions import NegativeBinomial, Poisson
from torch.nn import functional

import vae_fast as vf
from vae_fast.data import DataError, fingerprint, load
from vae_fast.data.sparse import rows
from vae_fast.models import VAE, build
from vae_fast.models.base import HEADS
from vae_fast.training import Trainer, TrainerConfig

COUNTS = [name for name, head in HEADS.items() if head.data == "counts"]
CELLS, GENES = 90, 40


@pytest.fixture(scope="module")
def table():
    """Cells of three types, some without a count: (CELLS, GENES) int64, a third of it not zero."""
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(GENES, 0.2), 3)[np.arange(CELLS) % 3]
    library = draw.lognormal(5, 0.5, (CELLS, 1)) * (np.arange(CELLS) % 30 > 0)[:, None]
    return draw.poisson(shares * library * draw.gamma(2, 0.5, (CELLS, GENES)))


def save(path: Path, x: np.ndarray) -> Path:
    """The same counts in the form that the file's name says."""
    if path.name == "dense.npy":
        np.save(path, x)
    elif path.name == "columns.npy":
        np.save(path, np.asfortranarray(x.astype(np.uint16)))
    elif path.name == "floats.npz":
        np.savez(path, data=x.astype(np.float64))
    elif path.name == "sparse.npz":
        sparse.save_npz(path, sparse.csr_matrix(x))
    elif path.name == "sparse.h5ad":
        anndata.AnnData(sparse.csc_matrix(x.astype(np.float32))).write_h5ad(path)
    else:
        assert path.name == "dense.h5ad"
        anndata.AnnData(x.astype(np.float32)).write_h5ad(path)
    return path


# ---- the model -----------------------------------------------------------------------------------


def by_hand(name, model, x, noise):
    """The loss in plain PyTorch, from the model's weights, as scVI writes it."""
    _, first, _, second = model.encoder
    hidden = torch.relu(first(torch.log1p(x.double().flatten(1))))
    mu, logvar = second(hidden).chunk(2, 1)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
    first, _, second, _ = model.decoder
    given = second(torch.relu(first(mu + (logvar / 2).exp() * noise)))
    logits, *zero_logits = given.chunk(model.likelihood.per_element, 1)
    counts = x.double().flatten(1)
    mean = torch.softmax(logits, 1) * counts.sum(1, keepdim=True)
    if "poisson" in name:
        log_p = Poisson(mean).log_prob(counts)
    else:
        theta = model.likelihood.log_theta.exp().flatten()
        log_p = NegativeBinomial(theta, logits=(mean / theta).log()).log_prob(counts)
    for logit in zero_logits:
        of_zero = torch.logaddexp(
            functional.logsigmoid(logit), functional.logsigmoid(-logit) + log_p
        )
        log_p = torch.where(counts == 0, of_zero, functional.logsigmoid(-logit) + log_p)
    return kl - log_p.sum(1).mean()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("shape", [(GENES,), (1, 5, 8)], ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_a_model_of_counts_is_the_one_written_by_hand(name, shape, table):
    torch.manual_seed(0)
    model = VAE(shape, 4, hidden=(16,), likelihood=name).double()
    if hasattr(model.likelihood, "log_theta"):
        torch.nn.init.normal_(model.likelihood.log_theta)
    x = torch.from_numpy(table[1:21]).unflatten(1, shape)  # row 0 is empty: torch's Poisson has NaN
    zero = torch.zeros(20, 4, dtype=torch.float64)
    noise = vf.reparameterize(zero, zero, generator=torch.Generator().manual_seed(1))
    expected = by_hand(name, model, x, noise)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    loss = model.loss(x, generator=torch.Generator().manual_seed(1)).loss
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, list(model.parameters())), wanted)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32], ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_any_dtype_are_the_same(name, dtype):
    torch.manual_seed(0)
    model = VAE(GENES, 4, likelihood=name)
    x = (torch.rand(8, GENES) < 0.3).long() * (1 if dtype == torch.bool else 200)
    losses = []
    for data in (x, x.to(dtype)):
        torch.manual_seed(1)
        losses.append(model.loss(data))
    torch.testing.assert_close(*losses)
    totals = model.reconstruct(x.to(dtype)).sum(1)
    if model.likelihood.per_element == 1:
        torch.testing.assert_close(totals, x.sum(1).float())
    else:
        assert (totals < x.sum(1)).all()


@pytest.mark.parametrize("name", COUNTS)
def test_shares_of_nothing_are_no_nan(name):
    """Logits that leave a counted element no share in float32, and a datum without a count."""
    torch.manual_seed(0)
    model = VAE(3, 2, hidden=(4,), likelihood=name)
    with torch.no_grad():
        model.decoder[-2].bias[:3] = torch.tensor([300.0, 0.0, -300.0])
    x = torch.tensor([[5, 1000, 1e7], [0, 0, 0]])
    loss = model.loss(x).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (model.reconstruct(x)[1] < 1e-20).all()


def test_the_total_of_what_is_drawn():
    model = VAE(GENES, 4, likelihood="poisson", library=500.0)
    torch.testing.assert_close(model.sample(3).sum(1), torch.full((3,), 500.0))
    assert build(json.loads(json.dumps(model.config))).likelihood.library == 500
    torch.testing.assert_close(VAE(GENES, 4, likelihood="poisson").sample(3).sum(1), torch.ones(3))
    for library in (0.0, float("inf"), "many"):
        with pytest.raises(ValueError, match=r"library is .*; expected a finite number above 0"):
            VAE(GENES, 4, likelihood="poisson", library=library)
    with pytest.raises(ValueError, match=r"library is 3\.0, which likelihood 'gaussian' lacks"):
        VAE(GENES, 4, likelihood="gaussian", library=3.0)


# ---- the data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    ["dense.npy", "columns.npy", "floats.npz", "sparse.npz", "sparse.h5ad", "dense.h5ad"],
)
def test_counts_come_in_every_form(file, table, tmp_path):
    data = load(str(save(tmp_path / file, table)), counts=True)
    expected = load(str(save(tmp_path / "dense.npy", table)), counts=True)
    assert expected.train.dtype == torch.int64
    for part, wanted in ((data.train, expected.train), (data.test, expected.test)):
        assert (part.layout is torch.sparse_csr) == ("sparse" in file or "h5ad" in file)
        assert torch.equal(rows(part, torch.arange(len(part))).long(), wanted)
        index = torch.tensor([3, 0, 3])
        assert torch.equal(rows(part, index).long(), wanted[index])
    assert data.mean_total() == pytest.approx(expected.mean_total())
    assert data.shape == (GENES,)
    before = fingerprint(data)
    save(tmp_path / file, table + (table == table.max()))
    assert fingerprint(load(str(tmp_path / file), counts=True)) != before


def test_pictures_of_counts_are_not_intensities(tmp_path):
    digits = load("digits", counts=True)
    assert (digits.train.dtype, int(digits.train.max())) == (torch.uint8, 16)
    np.save(tmp_path / "x.npy", np.eye(6, dtype=bool))
    assert set(load(str(tmp_path / "x.npy"), counts=True).train.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[0.0, -2.0]] * 6), "holds -2, and counts and classes are whole numbers from 0"),
        (np.array([[3, 1.5]] * 6), "holds 1.5, and counts and classes are whole numbers: give"),
        (np.array([[3, np.nan]] * 6), "NaN or infinite"),
        (np.ones((6, 2), complex), "holds complex128; expected whole numbers"),
        (sparse.csr_matrix(np.log1p(np.eye(6))), "holds 0.693147182, and counts and classes are"),
        (sparse.csc_matrix(np.eye(6)), "holds a sparse table in 'csc'; expected CSR"),
        (sparse.coo_matrix(np.eye(6)), "holds a sparse table in 'coo'; expected CSR"),
    ],
    ids=["negative", "fraction", "nan", "complex", "logarithms", "csc", "coo"],
)
def test_what_are_no_counts(x, message, tmp_path):
    path = tmp_path / "x.npz"
    if sparse.issparse(x):
        sparse.save_npz(path, x)
    else:
        np.savez(path, data=x)
    with pytest.raises(DataError, match=message):
        load(str(path), counts=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("indices", [0, 1, 9]), ("indices", [0, -1, 1]), ("indptr", [0, 3, 2, 3]), ("shape", [3])],
)
def test_a_sparse_file_that_is_damaged(name, value, tmp_path):
    entries = {"indices": [0, 1, 1], "indptr": [0, 1, 2, 3], "shape": [3, 2], "format": b"csr"}
    good = {key: np.array(entry) for key, entry in entries.items()} | {"data": np.ones(3, "i4")}
    np.savez(tmp_path / "x.npz", **good)
    load(str(tmp_path / "x.npz"), counts=True, test_fraction=0.4)
    np.savez(tmp_path / "x.npz", **(good | {name: np.array(value)}))
    with pytest.raises(DataError, match=r"x\.npz"):
        load(str(tmp_path / "x.npz"), counts=True, test_fraction=0.4)


def test_files_of_counts_are_for_counts(tmp_path, table, monkeypatch):
    for file in ("sparse.npz", "sparse.h5ad"):
        path = str(save(tmp_path / file, table))
        with pytest.raises(DataError, match="is a table of counts: it needs a likelihood of"):
            load(path)
        with pytest.raises(DataError, match="--max-bytes"):
            load(path, counts=True, max_bytes=100)
    (tmp_path / "x.h5ad").write_text("no HDF5")
    with pytest.raises(DataError, match=r"cannot be read as AnnData's \.h5ad"):
        load(str(tmp_path / "x.h5ad"), counts=True)
    monkeypatch.setitem(sys.modules, "anndata.io", None)
    with pytest.raises(DataError, match="needs the package anndata: pip install anndata"):
        load(path, counts=True)


# ---- the example, the trainer and the command line -----------------------------------------------


def test_the_example_tells_the_types_of_cells_apart():
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "cells.py"))
    counts, types = example["synthetic"](1200, 300)
    model, losses = example["train"](counts, 40)
    assert losses[-1] < 0.9 * losses[0]
    assert example["agreement"](model, counts, types) > 0.9


def test_a_sparse_table_trains_as_a_dense_one(table):
    dense = torch.from_numpy(table)
    weights = []
    for x in (dense, dense.to_sparse_csr(), table):
        torch.manual_seed(0)
        model = VAE(GENES, 3, hidden=(8,), likelihood="negative_binomial")
        Trainer(model, TrainerConfig(epochs=2, batch_size=32, device="cpu")).fit(x, x)
        weights.append(model.state_dict())
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)
    gaussian = VAE(GENES, 3, likelihood="gaussian")
    with pytest.raises(TypeError, match=r"x is torch\.sparse_csr; expected a dense batch"):
        gaussian.loss(dense.to_sparse_csr())
    trainer = Trainer(gaussian, TrainerConfig(device="cpu"))
    with pytest.raises(DataError, match="is sparse, which is for likelihoods of counts"):
        trainer.fit(dense.float().to_sparse_csr())
    with pytest.raises(DataError, match="the data holds -1, and counts"):
        Trainer(model, TrainerConfig(device="cpu")).fit(dense - 1)


@pytest.mark.parametrize("name", COUNTS)
def test_a_batch_in_csr_is_read_as_it_is(name, table, monkeypatch):
    """By every method that takes data, in every dtype, and by the trainer where few are stored."""
    dense = torch.from_numpy(table)
    torch.manual_seed(0)
    model = VAE(GENES, 3, hidden=(8,), likelihood=name).double()
    assert model.reads_csr
    assert not VAE((1, 8, 8), 3, architecture="conv", likelihood=name).reads_csr

    def results(x):
        torch.manual_seed(0)
        terms = model.loss(x)
        found = torch.autograd.grad(terms.loss, [*model.parameters()])
        seen = model.reconstruct(x), model.embed(x), model.log_likelihood(x, 3)
        return [*terms, *found, *seen]

    expected = results(dense)
    for dtype in (torch.float32, torch.int32):
        for ours, theirs in zip(results(dense.to(dtype).to_sparse_csr()), expected, strict=True):
            torch.testing.assert_close(ours, theirs)

    read = []
    monkeypatch.setattr(VAE, "prepare", lambda self, x: read.append(x.layout) or prepare(self, x))
    few = torch.where(torch.rand(dense.shape) < 0.1, dense, 0).to_sparse_csr()
    for x, layout in ((few, torch.sparse_csr), (dense.to_sparse_csr(), torch.strided)):
        model = VAE(GENES, 3, hidden=(8,), likelihood=name)
        Trainer(model, TrainerConfig(epochs=1, batch_size=32, device="cpu")).fit(x)
        assert set(read) == {layout}
        read.clear()


prepare = VAE.prepare


def test_a_run_on_counts(tmp_path, table, run_cli, error_of, few_codes):
    source = save(tmp_path / "sparse.npz", table)
    settings = ("--likelihood", "zero_inflated_negative_binomial", "--hidden", 16, "--latent", 3)
    told = ("train", "--data", source, *settings, "--batch-size", 16)
    run, whole = tmp_path / "run", tmp_path / "whole"
    said = run_cli(*told, "--out", run, "--epochs", 2)
    assert "75 to train on, 15 held out, 40 int64 in CSR" in said
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["counts"] is True
    assert config["model"]["library"] == load(str(source), counts=True).mean_total()
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[1]["train_loss"] < history[0]["train_loss"]
    figures = json.loads(run_cli("evaluate", run, "--json", "-k", 3))
    assert figures["test_loss"] == history[-1]["test_loss"]
    assert np.isfinite(figures["log_likelihood"])
    dense = save(tmp_path / "dense.h5ad", table)  # all of it, read as counts because the run is
    assert json.loads(run_cli("evaluate", run, "--json", "--data", dense))["count"] == CELLS

    run_cli("reconstruct", run, "-n", 5, "--out", tmp_path / "pairs.npy")
    held_out = load(str(source), counts=True).test
    first = rows(held_out, torch.arange(5)).float().numpy()
    assert np.array_equal(np.load(tmp_path / "pairs.npy")[0], first)
    run_cli("sample", run, "-n", 4, "--out", tmp_path / "drawn.npy")
    assert np.load(tmp_path / "drawn.npy").shape == (4, GENES)

    run_cli("train", "--resume", "--out", run, "--epochs", 4, "--no-plots")
    run_cli(*told, "--out", whole, "--epochs", 4, "--no-plots")
    one, other = ((folder / "model.safetensors").read_bytes() for folder in (run, whole))
    assert one == other
    sparse.save_npz(source, sparse.csr_matrix(table + 1))
    assert "is not what" in error_of("train", "--resume", "--out", run, "--epochs", 5, code=1)
    said = error_of(*told, "--standardize", "--out", tmp_path / "no", code=2)
    assert "--standardize is for real values, and zero_inflated_negative_binomial takes" in said


def test_pictures_of_counts_are_drawn_by_their_largest(tmp_path, run_cli, few_codes, monkeypatch):
    shown = []
    kept = vf.plots.run.plot_reconstructions
    monkeypatch.setattr(
        "vae_fast.plots.run.plot_reconstructions",
        lambda path, rows, *rest: (shown.append(rows), kept(path, rows, *rest)),
    )
    settings = ("--likelihood", "poisson", "--epochs", 1, "--hidden", 16, "--latent", 2)
    run_cli("train", "--data", "digits", *settings, "--out", tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} >= {"samples.png", "latent.png"}
    (pictures,) = shown
    assert pictures["Data"].max() == 1
    assert 0.1 < pictures["VAE"].mean() / pictures["Data"].mean() < 10
