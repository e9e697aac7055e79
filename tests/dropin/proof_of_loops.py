"""Lightning, Accelerate and Hugging Face's Trainer: the weights of a loop by hand."""

import copy

import accelerate
import lightning
import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vae_fast as vf
from examples import drop_in
from tests.dropin.data import pictures

ROWS, BATCH, RATE = 256, 64, 1e-3


class Steps(nn.Module):
    """The noise of the n-th step is the n-th seed's, whatever a loop draws between two of them."""

    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self, x):
        torch.manual_seed(self.step)
        self.step += 1
        return self.loss(x)


class OwnVAE(Steps):
    """Any module: its loss is its forward, and a line of it is vae_fast's."""

    def __init__(self, pixels):
        super().__init__()
        self.vae = drop_in.VAE(pixels)

    def loss(self, x):
        recon_x, mu, logvar = self.vae(x)
        return drop_in.fused_loss(recon_x, x, mu, logvar) / len(x)


class PackagesVAE(Steps):
    def __init__(self, pixels):
        super().__init__()
        self.vae = vf.VAE(pixels, 20)

    def loss(self, x):
        return self.vae(x, return_loss=True).loss


@pytest.fixture(params=[OwnVAE, PackagesVAE])
def model(request):
    torch.manual_seed(0)
    return request.param(data().shape[1])


def data():
    return pictures().flatten(1)[:ROWS]


def by_hand(model):
    """What all of them must end in."""
    model = copy.deepcopy(model)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    for x in data().split(BATCH):
        adam.zero_grad()
        model(x).backward()
        adam.step()
    return model.state_dict()


def assert_trained(model, expected):
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_lightning(model, tmp_path):
    expected = by_hand(model)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return self.model(*batch)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=RATE)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(TensorDataset(data()), batch_size=BATCH))
    assert_trained(model, expected)
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    stored = torch.load(tmp_path / "all.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(stored[f"model.{name}"], v) for name, v in model.state_dict().items())


@pytest.fixture
def _of_no_accelerator_yet():
    """One process has one, with one precision."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_of_no_accelerator_yet")
def test_accelerate(model, tmp_path):
    expected = by_hand(model)
    accelerator = accelerate.Accelerator(cpu=True)
    loader = DataLoader(TensorDataset(data()), batch_size=BATCH)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    prepared, adam, loader = accelerator.prepare(model, adam, loader)
    for (x,) in loader:
        adam.zero_grad()
        accelerator.backward(prepared(x))
        adam.step()
    assert_trained(accelerator.unwrap_model(prepared), expected)
    accelerator.save_state(tmp_path)
    accelerator.load_state(tmp_path)


@pytest.mark.usefixtures("_of_no_accelerator_yet")
def test_accelerate_in_bfloat16(model):
    """Mixed precision is what Accelerate wraps around forward: the loss is inside."""
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    whole = copy.deepcopy(model)(data()).item()
    prepared = accelerator.prepare(model)
    loss = prepared(data())
    assert loss.dtype == torch.float32
    assert 0 < abs(loss.item() - whole) < 0.02 * whole


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return {"x": data()[index]}


def test_hugging_face(model, tmp_path):
    expected = by_hand(model)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return {"loss": self.model(x)}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        output_dir=tmp_path,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    trainer = InOrder(Model(), arguments, train_dataset=Rows(), optimizers=(adam, None))
    assert trainer.train().global_step == ROWS // BATCH
    assert_trained(model, expected)
