"""Counts that were measured under several conditions, which a VAE is told."""

import json

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from vae_fast import VAE, AutoEncoder
from vae_fast.data import DataError, load
from vae_fast.data.sparse import rows
from vae_fast.models import build
from vae_fast.training import Trainer, TrainerConfig

CELLS, GENES, DONORS = 90, 40, ("a", "b", "c")


@pytest.fixture
def table():
    return np.random.default_rng(0).poisson(2.0, (CELLS, GENES)).astype(np.float32)


def donors():
    return np.array(DONORS)[np.arange(CELLS) % 3]


def save(path, table, values):
    obs = {"donor": values, "same": ["x"] * CELLS}
    index = [f"cell {i}" for i in range(CELLS)]
    data = anndata.AnnData(sparse.csr_matrix(table), obs=obs)
    data.obs_names = index
    data.write_h5ad(path)
    return path


def model_of(likelihood="zero_inflated_negative_binomial"):
    torch.manual_seed(0)
    return VAE(GENES, 3, hidden=(8,), likelihood=likelihood, conditions=DONORS)


# ---- the model -----------------------------------------------------------------------------------


def test_the_loss_is_that_of_networks_that_are_told(table):
    model, number = model_of(), torch.arange(CELLS) % 3
    counts = torch.from_numpy(table)
    x = torch.cat((counts, number[:, None]), 1)
    codes = functional.one_hot(number, 3).float()
    heads = model.encoder(torch.cat((counts.log1p(), codes), 1))
    mu, logvar = heads.chunk(2, dim=1)
    torch.testing.assert_close(model.encode(x), (mu, logvar))
    torch.manual_seed(1)
    terms = model.loss(x)
    torch.manual_seed(1)
    out = model(x)
    params = model.likelihood(model.decoder(torch.cat((out.z, codes), 1)))
    torch.testing.assert_close(out.params, params)
    nll = model.likelihood.nll(params, counts, counts, 1, "batchmean")
    torch.testing.assert_close((terms.nll, terms.kl), (nll, out.kl))
    terms.loss.backward()
    assert all(p.grad is not None for p in model.parameters())

    assert model.embed(x).shape == (CELLS, 3)
    expected = model.reconstruct(x)
    assert expected.shape == (CELLS, GENES)
    told_another = torch.cat((counts, (number[:, None] + 1) % 3), 1)
    assert not torch.allclose(model.reconstruct(told_another), expected)
    with torch.no_grad():
        bound = model.log_likelihood(x, 40).mean()
    assert -terms.loss - 5 < bound < -terms.loss + 50
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(x, return_loss=True).kl, terms.kl)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32], ids=str)
def test_a_batch_in_csr_is_read_as_it_is(table, dtype, monkeypatch):
    """Entries in any order, of one place or stored zeros, rows without any."""
    monkeypatch.setattr(torch.Tensor, "to_dense", lambda x: pytest.fail("made dense"))
    model, number = model_of().double(), torch.arange(CELLS) % 3
    dense = torch.cat((torch.from_numpy(table), number[:, None]), 1).to(dtype)
    dense[:6, :-1] = 0
    x = dense.to_sparse_csr()
    assert model.reads_csr

    def results(x):
        torch.manual_seed(1)
        terms = model.loss(x)
        slopes = torch.autograd.grad(terms.loss, list(model.parameters()))
        torch.manual_seed(1)
        bound = model.log_likelihood(x, 3).detach()
        return terms, slopes, bound, model.embed(x), model.reconstruct(x)

    expected = results(dense)
    torch.testing.assert_close(results(x), expected)
    # Each row's entries the other way round, with a zero in front of its own.
    starts, columns, values = x.crow_indices(), x.col_indices(), x.values()
    parts = [range(starts[i], starts[i + 1]) for i in range(CELLS)]
    order = torch.tensor([k for part in parts for k in reversed(part)])
    turned = torch.sparse_csr_tensor(starts, columns[order], values[order], x.shape)
    torch.testing.assert_close(results(turned), expected)
    values[starts[6]], dense[6, columns[starts[6]]] = 0, 0
    torch.testing.assert_close(results(x), results(dense))

    wrong = dense.clone()
    wrong[5, -1] = 3
    with pytest.raises(RuntimeError, match="Class values must be smaller"):
        model.loss(wrong.to_sparse_csr())


def test_the_trainer_gives_sparse_batches(table):
    few = np.where(np.random.default_rng(1).random(table.shape) < 0.05, table, 0)
    x = torch.from_numpy(np.concatenate((few, (np.arange(CELLS) % 3)[:, None]), 1)).float()
    seen, weights = set(), []
    for data in (x, x.to_sparse_csr()):
        model = model_of()
        forward = model.forward

        def watched(batch, forward=forward, **how):
            seen.add(batch.layout)
            return forward(batch, **how)

        model.forward = watched
        Trainer(model, TrainerConfig(epochs=2, batch_size=32, device="cpu")).fit(data, data)
        weights.append([p.detach() for p in model.parameters()])
    assert seen == {torch.strided, torch.sparse_csr}
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_samples_are_of_each_condition_in_turn():
    model = model_of("poisson")
    generators = [torch.Generator().manual_seed(5) for _ in range(4)]
    samples = model.sample(4, generator=generators)
    torch.testing.assert_close(samples[0], samples[3])  # the same code and condition
    assert not torch.allclose(samples[0], samples[1])


def test_what_does_not_fit_is_refused(table):
    model = model_of()
    assert build(model.config).conditions == DONORS
    assert "conditions" not in VAE(GENES, likelihood="poisson").config
    with pytest.raises(ValueError, match=r"x has shape \(90, 40\); expected \(batch, 41\)"):
        model.loss(torch.from_numpy(table))
    x = torch.cat((torch.from_numpy(table), torch.full((CELLS, 1), 3.0)), 1)
    with pytest.raises(RuntimeError, match="Class values must be smaller"):
        model.loss(x)
    for kind, settings, message in (
        (VAE, {"likelihood": "gaussian"}, "are for a VAE of counts"),
        (AutoEncoder, {"likelihood": "poisson"}, "are for a VAE of counts"),
        (VAE, {"likelihood": "poisson", "input_shape": (1, 8, 8)}, r"with conditions it is \(D,\)"),
        (VAE, {"likelihood": "poisson", "conditions": ["a"]}, "conditions has 1 names"),
        (VAE, {"likelihood": "poisson", "conditions": ["a", "a"]}, "1 different ones"),
        (VAE, {"likelihood": "poisson", "conditions": "ab"}, "'ab'; expected names"),
        (VAE, {"likelihood": "poisson", "conditions": [1, 2]}, "expected names"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(**{"input_shape": GENES, "conditions": DONORS, **settings})


# ---- data, trainer and command line --------------------------------------------------------------


def test_data_with_conditions(tmp_path, table):
    source = save(tmp_path / "cells.h5ad", table, donors())
    data, plain = (load(str(source), counts=True, batch_key=key) for key in ("donor", None))
    assert (data.conditions, data.shape) == (DONORS, (GENES,))
    assert data.mean_total() == plain.mean_total()
    whole = rows(data.train, torch.arange(len(data.train)))
    assert torch.equal(whole[:, :-1], plain.train.to_dense())
    assert set(whole[:, -1].tolist()) == {0, 1, 2}
    told = load(str(source), counts=True, batch_key="donor", label_key="donor")
    assert torch.equal(told.train_labels, whole[:, -1].long())
    assert plain.test_labels is None
    few = save(tmp_path / "bytes.h5ad", table.astype(np.uint8), donors())
    assert load(str(few), counts=True, batch_key="donor").train.dtype == torch.uint8

    Trainer(model_of(), TrainerConfig(epochs=1, device="cpu")).fit(data.train, data.test)
    with pytest.raises(DataError, match=r"obs of .* has no 'batch'; it has donor, same"):
        load(str(source), counts=True, batch_key="batch")
    with pytest.raises(DataError, match="has one value, 'x': leave it out"):
        load(str(source), counts=True, batch_key="same")
    unknown = save(tmp_path / "unknown.h5ad", table, np.where(donors() == "a", None, donors()))
    with pytest.raises(DataError, match=r"'donor' of .* has no value for 30 of the cells"):
        load(str(unknown), counts=True, batch_key="donor")
    with pytest.raises(DataError, match="is a column of an AnnData file's obs, and digits is none"):
        load("digits", counts=True, batch_key="donor")


def test_a_run_under_conditions(tmp_path, table, run_cli, error_of, few_codes):
    source = save(tmp_path / "cells.h5ad", table, donors())
    settings = ("--likelihood", "negative_binomial", "--hidden", 16, "--latent", 2)
    told = ("train", "--data", source, *settings, "--batch-key", "donor", "--batch-size", 16)
    told += ("--label-key", "same")
    run, whole = tmp_path / "run", tmp_path / "whole"
    said = run_cli(*told, "--out", run, "--epochs", 2)
    assert "40 float32 in CSR, under 3 conditions" in said
    config = json.loads((run / "config.json").read_text())
    assert (config["data"]["batch_key"], config["data"]["label_key"]) == ("donor", "same")
    assert config["model"]["conditions"] == list(DONORS)
    figures = json.loads(run_cli("evaluate", run, "--json", "-k", 3))
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert figures["test_loss"] == history[-1]["test_loss"]
    assert json.loads(run_cli("evaluate", run, "--json", "--data", source))["count"] == CELLS
    run_cli("reconstruct", run, "-n", 5, "--out", tmp_path / "pairs.npy")
    assert np.load(tmp_path / "pairs.npy").shape == (2, 5, GENES)
    run_cli("sample", run, "-n", 4, "--out", tmp_path / "drawn.npy")
    assert np.load(tmp_path / "drawn.npy").shape == (4, GENES)

    run_cli("train", "--resume", "--out", run, "--epochs", 4, "--no-plots")
    run_cli(*told, "--out", whole, "--epochs", 4, "--no-plots")
    one, other = ((folder / "model.safetensors").read_bytes() for folder in (run, whole))
    assert one == other
    others = save(tmp_path / "others.h5ad", table, np.where(donors() == "c", "d", donors()))
    said = error_of("evaluate", run, "--data", others, code=1)
    assert "was measured under ('a', 'b', 'd'), and the model knows ('a', 'b', 'c')" in said
    save(source, table, donors()[::-1].copy())
    assert "is not what" in error_of("train", "--resume", "--out", run, "--epochs", 5, code=1)
    said = error_of(*told, "--model", "ae", "--out", tmp_path / "no", "--epochs", 1, code=2)
    assert "conditions are for a VAE of counts" in said
