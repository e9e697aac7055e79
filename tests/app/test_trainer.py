"""The loop: learning, resuming bit for bit, checkpoints, early stopping, errors."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scripted_runs import Interrupt, Scripted, assert_same, state_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vae_fast.models import VAE
from vae_fast.plots import TrainedRun, plot_run
from vae_fast.training import (
    Callback,
    Trainer,
    TrainerConfig,
    TrainingDiverged,
)
from vae_fast.training.batches import batches
from vae_fast.training.devices import require_precision
from vae_fast.training.files import read_tensors
from vae_fast.training.randomness import derived_seed

# What makes a run depend on as much as there is.
EVERYTHING = {
    "schedule": "cosine", "lr_warmup": 0.5, "kl_warmup": 2.5, "clip_norm": 5.0,
    "weight_decay": 1e-3, "free_bits": 0.01, "seed": 5, "device": "cpu",
}  # fmt: skip


def without_seconds(history):
    return [{k: v for k, v in m.to_dict().items() if k != "seconds"} for m in history]


def test_learns_and_evaluates_the_same_again(make_vae, digits):
    trainer = Trainer(make_vae(), TrainerConfig(epochs=5, device="cpu"))
    before = trainer.evaluate(digits.test)
    history = trainer.fit(digits.train, digits.test)
    assert [metrics.epoch for metrics in history] == [1, 2, 3, 4, 5]
    assert history[-1].test_loss < before.loss - 5
    assert history[-1].train_loss == pytest.approx(history[-1].train_nll + history[-1].train_kl)
    assert trainer.evaluate(digits.test).loss == history[-1].test_loss


def test_evaluation_is_the_average_over_the_data(make_vae, digits):
    trainer = Trainer(make_vae(), TrainerConfig(device="cpu", eval_batch_size=7, beta=0.5))
    terms = trainer.evaluate(digits.test)
    with torch.no_grad():
        exact = trainer.model.loss(digits.test)
    # Other noise, the same quantity.
    assert terms.kl == pytest.approx(exact.kl.item(), rel=1e-4)
    assert terms.nll == pytest.approx(exact.nll.item(), rel=0.02)
    assert terms.loss == pytest.approx(terms.nll + 0.5 * terms.kl, rel=1e-6)


@pytest.mark.parametrize("interrupted_in", [0, 1, 3])
def test_an_interrupted_run_ends_as_one_that_was_not(make_vae, digits, tmp_path, interrupted_in):
    config = TrainerConfig(epochs=5, patience=4, **EVERYTHING)
    whole = Trainer(make_vae(), config, out=tmp_path / "whole")
    whole.fit(digits.train, digits.test)

    broken = Trainer(
        make_vae(), config, out=tmp_path / "broken", callbacks=[Interrupt(interrupted_in)]
    )
    with pytest.raises(KeyboardInterrupt):
        broken.fit(digits.train, digits.test)
    torch.manual_seed(12345)  # whatever happens to the generators in between
    resumed = Trainer.resume(tmp_path / "broken")
    assert resumed.epoch == interrupted_in
    resumed.fit(digits.train, digits.test)

    assert_same(state_of(whole), state_of(resumed))
    assert without_seconds(whole.history) == without_seconds(resumed.history)
    for name in ("model.safetensors", "config.json"):
        files = [(tmp_path / run / name).read_bytes() for run in ("whole", "broken")]
        assert files[0] == files[1]
    lines = (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5]


class Copied(Callback):
    """What is left of a run that is killed after an epoch."""

    def __init__(self, epoch, folder):
        self.epoch, self.folder = epoch, folder

    def on_epoch(self, trainer, metrics):
        if trainer.epoch == self.epoch:
            shutil.copytree(trainer.out, self.folder)


def test_resuming_between_checkpoints_does_the_lost_epochs_again(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=5, checkpoint_every=2, **EVERYTHING)
    killed = tmp_path / "killed"
    whole = Trainer(make_vae(), config, out=tmp_path / "whole", callbacks=[Copied(3, killed)])
    whole.fit(digits.train, digits.test)
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == 3
    resumed = Trainer.resume(killed)
    assert resumed.epoch == 2
    resumed.fit(digits.train, digits.test)
    assert_same(state_of(whole), state_of(resumed))


def test_an_interruption_between_checkpoints_loses_no_epoch(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=5, checkpoint_every=50, patience=4, **EVERYTHING)
    whole = Trainer(make_vae(), config)
    whole.fit(digits.train, digits.test)
    trainer = Trainer(make_vae(), config, out=tmp_path, callbacks=[Interrupt(3)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(digits.train, digits.test)
    assert trainer.saved_epoch == 3
    resumed = Trainer.resume(tmp_path)
    assert resumed.epoch == 3
    resumed.fit(digits.train, digits.test)
    assert_same(state_of(whole), state_of(resumed))


def test_a_loader_with_its_own_generator_resumes(make_vae, digits, tmp_path):
    def loader():
        return DataLoader(
            TensorDataset(digits.train), 64, shuffle=True,
            generator=torch.Generator().manual_seed(8),
        )  # fmt: skip

    config = TrainerConfig(epochs=3, device="cpu")
    whole = Trainer(make_vae(), config)
    whole.fit(loader())
    with pytest.raises(KeyboardInterrupt):
        Trainer(make_vae(), config, out=tmp_path, callbacks=[Interrupt(2)]).fit(loader())
    resumed = Trainer.resume(tmp_path)
    resumed.fit(loader())
    assert_same(state_of(whole), state_of(resumed))


class InOrder:
    """A sampler of the order that the trainer gives a tensor."""

    def __init__(self, count, seed):
        self.count, self.seed, self.epoch = count, seed, 0

    def __iter__(self):
        seed = derived_seed(self.seed, "training", "order", self.epoch)
        self.epoch += 1
        yield from torch.randperm(
            self.count, generator=torch.Generator().manual_seed(seed)
        ).tolist()

    def __len__(self):
        return self.count


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_of_the_same_order_gives_the_same_run(make_vae, digits, workers):
    config = TrainerConfig(epochs=2, batch_size=100, **EVERYTHING)
    one = Trainer(make_vae(), config)
    one.fit(digits.train, digits.test)
    two = Trainer(make_vae(), config)
    dataset = TensorDataset(digits.train, digits.train_labels)
    loader = DataLoader(
        dataset, 100, sampler=InOrder(len(dataset), config.seed), num_workers=workers
    )
    two.fit(loader, DataLoader(digits.test, 100))
    assert_same(state_of(one), state_of(two))


def test_shuffled_loaders_are_reproducible(make_vae, digits):
    states = []
    for _ in range(2):
        torch.rand(len(states) + 1)  # the global generator must not matter
        trainer = Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"))
        trainer.fit(DataLoader(digits.train, 64, shuffle=True))
        states.append(state_of(trainer))
    assert_same(*states)


def test_training_leaves_the_global_generator_alone(make_vae, digits):
    trainer = Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    trainer.fit(digits.train, digits.test)
    assert torch.equal(torch.rand(3), expected)


def test_batches_hold_every_datum_once():
    data = torch.arange(103, dtype=torch.uint8)
    for shuffle in (None, 7):
        parts = list(batches(data, 10, torch.device("cpu"), shuffle))
        assert [len(part) for part in parts] == [10] * 10 + [3]
        assert torch.equal(torch.cat(parts).sort().values, data)
        assert parts[0].dtype == torch.uint8


@pytest.mark.parametrize(
    "collate",
    [torch.stack, lambda b: [torch.stack(b), 1], lambda b: {"x": torch.stack(b)}],
    ids=["tensor", "list", "mapping"],
)
def test_loaders_of_every_kind_of_batch(make_vae, digits, collate):
    loader = DataLoader(digits.test, 100, collate_fn=collate)
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu")).fit(loader)


def test_a_loader_without_tensors(make_vae):
    loader = DataLoader([1, 2], collate_fn=lambda batch: "text")
    with pytest.raises(TypeError, match="the DataLoader gives str"):
        Trainer(make_vae(), TrainerConfig(device="cpu")).fit(loader)


def test_no_data(make_vae, digits):
    trainer = Trainer(make_vae(), TrainerConfig(device="cpu"))
    with pytest.raises(ValueError, match="no data for training"):
        trainer.fit(digits.train[:0])
    with pytest.raises(ValueError, match="no data for evaluation"):
        trainer.evaluate(digits.train[:0])


def test_early_stopping_keeps_the_best(tmp_path):
    model = Scripted([5.0, 4.0, 3.95, 4.5, 3.96, 1.0])
    config = TrainerConfig(
        epochs=6, batch_size=4, patience=3, min_delta=0.1, learning_rate=1.0, device="cpu"
    )
    trainer = Trainer(model, config, out=tmp_path)
    trainer.fit(torch.zeros(4, 1), torch.zeros(4, 1))
    assert trainer.finished
    assert trainer.epoch == 5
    assert model.weight.item() == pytest.approx(2.0)  # of the second epoch
    assert read_tensors(tmp_path / "model.safetensors")[0]["weight"] == model.weight
    resumed = Trainer.resume(tmp_path, Scripted([]))
    assert resumed.finished
    resumed.fit(torch.zeros(4, 1), torch.zeros(4, 1))
    assert resumed.model.weight == model.weight


def test_early_stopping_needs_test_data(make_vae, digits):
    with pytest.raises(ValueError, match="patience"):
        Trainer(make_vae(), TrainerConfig(patience=1, device="cpu")).fit(digits.train)


def test_kl_warmup_weighs_the_steps(digits):
    seen = []

    class Watched(VAE):
        def loss(self, x, *, beta, free_bits, generator=None):
            if self.training:
                seen.append(beta)
            return super().loss(x, beta=beta, free_bits=free_bits, generator=generator)

    model = Watched(digits.shape, 2, hidden=(8,))
    config = TrainerConfig(epochs=3, batch_size=375, beta=2.0, kl_warmup=2.0, device="cpu")
    Trainer(model, config).fit(digits.train)
    assert seen == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2])


def test_the_kl_is_held_at_its_capacity(digits):
    """Burgess et al. 2018: it rises with the capacity, and the loss is nll + beta |KL - C|."""
    seen = []

    class Watched(VAE):
        def loss(self, x, *, beta, free_bits, generator=None):
            seen.append(beta)
            return super().loss(x, beta=beta, free_bits=free_bits, generator=generator)

    torch.manual_seed(0)
    config = TrainerConfig(
        epochs=12, batch_size=50, beta=100.0, kl_capacity=6.0, kl_capacity_warmup=6.0, device="cpu",
        learning_rate=3e-3,
    )  # fmt: skip
    trainer = Trainer(Watched(digits.shape, 4, hidden=(64,)), config)
    history = trainer.fit(digits.train, digits.test)
    assert set(seen) == {0.0}  # the KL is not in the model's own loss, too
    risen = [history[i].train_kl for i in (1, 3, 5, -1)]
    assert risen == pytest.approx([1.5, 3.5, 5.5, 6], abs=0.3)
    terms = trainer.evaluate(digits.test)  # one batch, whose KL it is that is held
    assert terms.loss == pytest.approx(terms.nll + 100 * abs(terms.kl - 6.0), rel=1e-6)


def test_cycles_that_jump_are_said(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=3, batch_size=1000, kl_warmup=1.0, kl_cycles=3, device="cpu")
    Trainer(make_vae(), config, out=tmp_path).fit(digits.train)
    with pytest.warns(UserWarning, match="now over 12 epochs and not 3: .* at 0?[.0-9]+, and was"):
        Trainer.resume(tmp_path, epochs=12)


def test_schedule_moves_the_learning_rate(make_vae, digits):
    rates = []

    class Watch(Callback):
        def on_steps(self, trainer, done, total, average):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    config = TrainerConfig(
        epochs=2, batch_size=len(digits.train), learning_rate=0.01, schedule="linear", device="cpu"
    )
    Trainer(make_vae(), config, callbacks=[Watch()]).fit(digits.train)
    assert rates == pytest.approx([0.01, 0.005])


def test_clipping_bounds_the_gradient(make_vae, digits):
    norms = []
    config = TrainerConfig(epochs=1, clip_norm=0.01, device="cpu")

    class Measured(torch.optim.SGD):
        def step(self, closure=None):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(nn.utils.get_total_norm(gradients).item())
            return super().step(closure)

    Trainer(make_vae(), config, optimizer=lambda p: Measured(p, 1e-3)).fit(digits.train)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_the_optimizer_computes_as_the_device_asks(make_vae, digits, tmp_path):
    """A checkpoint from a GPU says "capturable", which a recorded step needs and a CPU has not."""
    trainer = Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path)
    trainer.fit(digits.train)
    trainer.optimizer.param_groups[0]["capturable"] = True
    trainer._unsaved = trainer._checkpoint(digits.train)
    trainer._save_unsaved()
    resumed = Trainer.resume(tmp_path, epochs=2)
    assert resumed.optimizer.param_groups[0]["capturable"] is False
    assert resumed.optimizer.param_groups[0]["fused"] is True
    resumed.fit(digits.train)


def test_another_optimizer_resumes_too(make_vae, digits, tmp_path):
    def sgd(parameters):
        return torch.optim.SGD(parameters, 1e-3, momentum=0.9)

    config = TrainerConfig(epochs=3, device="cpu")
    whole = Trainer(make_vae(), config, optimizer=sgd)
    whole.fit(digits.train)
    with pytest.raises(KeyboardInterrupt):
        Trainer(
            make_vae(), config, out=tmp_path, optimizer=sgd, callbacks=[Interrupt(1)]
        ).fit(digits.train)  # fmt: skip
    resumed = Trainer.resume(tmp_path, optimizer=sgd)
    resumed.fit(digits.train)
    assert_same(state_of(whole), state_of(resumed))


def test_more_epochs_can_be_added(make_vae, digits, tmp_path):
    whole = Trainer(make_vae(), TrainerConfig(epochs=4, device="cpu"))
    whole.fit(digits.train)
    Trainer(make_vae(), TrainerConfig(epochs=2, device="cpu"), out=tmp_path).fit(digits.train)
    longer = Trainer.resume(tmp_path, epochs=4)
    longer.fit(digits.train)
    assert_same(state_of(whole), state_of(longer))
    assert json.loads((tmp_path / "config.json").read_text())["trainer"]["epochs"] == 4


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(make_vae, digits, tmp_path):
    class Poison(Callback):
        def on_epoch(self, trainer, metrics):
            if trainer.epoch == 2:
                with torch.no_grad():
                    next(trainer.model.parameters()).fill_(math.nan)

    trainer = Trainer(
        make_vae(), TrainerConfig(epochs=4, device="cpu"), out=tmp_path, callbacks=[Poison()]
    )
    with pytest.raises(TrainingDiverged, match=r"epoch 3: the training loss is nan, by step"):
        trainer.fit(digits.train, digits.test)
    resumed = Trainer.resume(tmp_path)
    assert resumed.epoch == 2
    assert math.isfinite(resumed.evaluate(digits.test).loss)


def test_weights_that_are_not_finite_are_never_saved(make_vae, digits, tmp_path):
    """The last step's gradient may be what ends them, unseen by any loss."""

    class Last(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            self.param_groups[0]["params"][0].fill_(math.inf)

    config = TrainerConfig(epochs=2, batch_size=len(digits.train), device="cpu")
    trainer = Trainer(make_vae(), config, out=tmp_path, optimizer=lambda p: Last(p, 0.1))
    with pytest.raises(TrainingDiverged, match="a weight is no longer finite"):
        trainer.fit(digits.train)
    assert Trainer.resume(tmp_path).epoch == 0


def test_tensorboard_needs_its_package_and_a_folder(make_vae, tmp_path, monkeypatch):
    config = TrainerConfig(tensorboard=True, device="cpu")
    with pytest.raises(ValueError, match="needs a folder"):
        Trainer(make_vae(), config)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        Trainer(make_vae(), config, out=tmp_path)


def test_tensorboard_gets_every_figure(make_vae, digits, tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, *entry):
            written.append(entry)

        def close(self):
            written.append("closed")

    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", module)
    config = TrainerConfig(epochs=1, tensorboard=True, device="cpu")
    Trainer(make_vae(), config, out=tmp_path).fit(digits.train, digits.test)
    tags = [entry[0] for entry in written[:-1]]
    assert tags == [
        "loss/train", "nll/train", "kl/train", "loss/test", "nll/test", "kl/test", "seconds",
    ]  # fmt: skip
    assert written[-1] == "closed"


def test_tensorboard_can_read_it(make_vae, digits, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainerConfig(epochs=2, tensorboard=True, device="cpu")
    history = Trainer(make_vae(), config, out=tmp_path).fit(digits.train, digits.test)
    log = events.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    read = [event.value for event in log.Scalars("loss/test")]
    assert read == pytest.approx([metrics.test_loss for metrics in history])


def test_a_run_with_curves_resumes_and_goes_on_with_them(make_vae, digits, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainerConfig(epochs=1, tensorboard=True, device="cpu")
    Trainer(make_vae(), config, out=tmp_path).fit(digits.train, digits.test)
    resumed = Trainer.resume(tmp_path, epochs=2)
    assert resumed.config == replace(config, epochs=2)
    history = resumed.fit(digits.train, digits.test)
    log = events.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    read = [event.value for event in log.Scalars("loss/test")]
    assert read == pytest.approx([metrics.test_loss for metrics in history])


def test_the_default_device_is_the_users(make_vae, digits, tmp_path):
    """Where torch.set_default_device names another one, nothing of a run ends up on it."""
    config, vae = TrainerConfig(epochs=1, device="cpu"), make_vae()
    with torch.device("meta"):
        trainer = Trainer(vae, config, out=tmp_path)
        trainer.fit(digits.train, digits.test)
        plot_run(tmp_path, [TrainedRun(vae, trainer.history)], digits)
    assert_same(state_of(Trainer.resume(tmp_path)), state_of(trainer))


def test_a_device_that_is_not_there(make_vae):
    with pytest.raises(ValueError, match="warp"):
        Trainer(make_vae(), TrainerConfig(device="warp"))


def test_half_precision_learns_as_full_precision_does(make_vae, digits):
    losses = {}
    for precision in ("float32", "bfloat16"):
        trainer = Trainer(make_vae(), TrainerConfig(epochs=3, device="cpu", precision=precision))
        losses[precision] = trainer.fit(digits.train, digits.test)[-1].test_loss
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_a_precision_that_the_device_has_not():
    with pytest.raises(ValueError, match=r"TrainerConfig\.precision is 'bfloat16', which meta"):
        require_precision("bfloat16", torch.device("meta"))


def test_a_device_that_holds_no_values(make_vae):
    with pytest.raises(ValueError, match="the device 'meta' is not to be had here"):
        Trainer(make_vae(), TrainerConfig(device="meta"))
