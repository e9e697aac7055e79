"""What the peers do with a model of theirs: train it their way, store it, read it."""

import anndata
import diffusers
import pytest
import pythae.models
import scvi
import torch
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from tests.dropin.cases import CASES, of_diffusers, of_pythae, of_scvi
from tests.dropin.data import counts, pictures


def as_it_is(model):
    return model


def test_scvi_trains(tmp_path):
    """Two epochs of Lightning's, with warm-up, validation and early stopping."""
    bounds = []
    # The weight of the KL begins at 0 and is in the loss by its name alone.
    for switch in (as_it_is, of_scvi.apply):
        scvi.settings.seed = 0
        cells = anndata.AnnData(counts())
        scvi.model.SCVI.setup_anndata(cells)
        model = switch(scvi.model.SCVI(cells, gene_likelihood="zinb"))
        model.train(
            max_epochs=2,
            accelerator="cpu",
            early_stopping=True,
            enable_progress_bar=False,
            logger=False,
        )
        bounds.append(float(model.get_elbo()))
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-5)
    model.save(tmp_path / "model", save_anndata=True)
    again = scvi.model.SCVI.load(tmp_path / "model")
    assert type(again.module) is scvi.module.VAE
    model.module.load_state_dict(again.module.state_dict())


def test_pythae_trains(tmp_path):
    weights = []
    for switch in (as_it_is, of_pythae.apply):
        torch.manual_seed(0)
        x = pictures(8)[:256]
        config = pythae.models.VAEConfig(
            input_dim=tuple(x.shape[1:]), latent_dim=4, reconstruction_loss="bce"
        )
        model = switch(pythae.models.VAE(config))
        trainer = BaseTrainer(
            model,
            train_dataset=pythae.data.datasets.BaseDataset(x, torch.zeros(len(x))),
            training_config=BaseTrainerConfig(
                output_dir=str(tmp_path), num_epochs=2, no_cuda=True, learning_rate=1e-3
            ),
        )
        trainer.train()
        weights.append([p.detach() for p in trainer.model.parameters()])
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)
    model.save(str(tmp_path / "stored"))
    again = pythae.models.AutoModel.load_from_folder(str(tmp_path / "stored"))
    assert type(again) is pythae.models.VAE
    assert all(map(torch.equal, again.parameters(), model.parameters()))


def test_diffusers_stores(tmp_path):
    model = next(case for case in CASES if case.peer == "diffusers").training(False).module
    of_diffusers.apply(model).save_pretrained(tmp_path)
    again = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    assert type(again) is diffusers.AutoencoderKL
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    x = pictures(16)[:2].expand(-1, 3, -1, -1)
    assert type(model.encode(x).latent_dist) is of_diffusers.DiagonalGaussianDistribution
    (posterior,) = model.encode(x, return_dict=False)
    assert type(posterior) is of_diffusers.DiagonalGaussianDistribution
    torch.testing.assert_close(model(x).sample, again(x).sample)
