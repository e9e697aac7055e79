"""The trainer on the GPU: the recorded step, half precision, data that do not fit, resumption."""

import pytest
import torch

from vae_fast.data import load
from vae_fast.models import VAE
from vae_fast.training import Callback, Trainer, TrainerConfig, batches, load_run

# Much that changes from step to step, which a recorded step must read anew.
SETTINGS = {
    "epochs": 4, "batch_size": 100, "schedule": "cosine", "lr_warmup": 0.5, "kl_warmup": 2.0,
    "clip_norm": 5.0, "seed": 5, "device": "cuda",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _the_users_default_device():
    with torch.device("cpu"):
        yield


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def make_vae(digits):
    torch.manual_seed(3)
    return VAE(digits.shape, 4, hidden=(64,))


def train(digits, out=None, **settings):
    trainer = Trainer(make_vae(digits), TrainerConfig(**SETTINGS | settings), out=out)
    trainer.fit(digits.train, digits.test)
    return trainer


def losses(trainer):
    return [loss for m in trainer.history for loss in (m.train_loss, m.test_loss)]


@pytest.fixture(scope="module")
def plain(digits):
    with torch.device("cpu"):
        return train(digits, cuda_graphs=False)


def test_it_learns_what_it_learns_on_the_cpu(digits, plain):
    """The seed's noise is another one there: near, and no nearer."""
    assert losses(plain)[-1] < losses(plain)[0] - 5
    assert losses(plain)[-1] == pytest.approx(losses(train(digits, device="cpu"))[-1], rel=0.02)


@pytest.fixture(scope="module")
def recorded(digits):
    with torch.device("cpu"):
        return train(digits, cuda_graphs=True)


def test_the_recorded_step_is_the_step(plain, recorded):
    """What a graph draws from a seed are other numbers: near, and no nearer."""
    assert recorded._step_on._graph is not None
    assert losses(recorded) == pytest.approx(losses(plain), rel=0.02)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_learns_the_same(digits, recorded):
    """Recorded on the stream of a device that is not the current one."""
    graphed = train(digits, device="cuda:1", cuda_graphs=True)
    assert torch.cuda.current_device() == 0
    assert losses(graphed) == pytest.approx(losses(recorded), rel=1e-3)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_half_precision(digits, plain, cuda_graphs):
    trainer = train(digits, precision="bfloat16", cuda_graphs=cuda_graphs)
    assert losses(trainer)[-1] == pytest.approx(losses(plain)[-1], rel=0.02)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_data_that_do_not_fit_come_in_pinned_batches(digits, plain, monkeypatch):
    monkeypatch.setattr(batches, "_SHARE_FOR_DATA", 0)
    assert not batches.place(digits.train, torch.device("cuda")).is_cuda
    trainer = train(digits, cuda_graphs=False)
    assert losses(trainer) == pytest.approx(losses(plain), rel=1e-3)


class Interrupt(Callback):
    """The user's Ctrl-C, in the middle of the third epoch."""

    def on_steps(self, trainer, done, total, average):
        if trainer.epoch == 2:
            raise KeyboardInterrupt


def test_interrupted_and_resumed_here_and_elsewhere(digits, plain, tmp_path):
    config = TrainerConfig(**SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        Trainer(make_vae(digits), config, out=tmp_path, callbacks=[Interrupt()]).fit(digits.train)
    there = Trainer.resume(tmp_path, device="cpu")
    there.out = None
    there.fit(digits.train, digits.test)
    assert losses(there)[-1] == pytest.approx(losses(plain)[-1], rel=0.02)
    here = Trainer.resume(tmp_path)
    here.fit(digits.train, digits.test)
    assert here._step_on._graph is not None
    assert losses(here)[-1] == pytest.approx(losses(plain)[-1], rel=0.02)
    read = load_run(tmp_path).model
    assert next(read.parameters()).device.type == "cpu"
