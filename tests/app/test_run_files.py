"""The files of a run: what is in them, and what is read from them."""

import json
import os

import pytest
import torch
from scripted_runs import Scripted, assert_same, state_of
from torch import nn

from vae_fast.models import VAE
from vae_fast.training import RunError, Trainer, TrainerConfig, load_run
from vae_fast.training.checkpoint import fitting_state
from vae_fast.training.files import read_tensors, tensors_bytes, write_atomically


def test_a_run_is_not_written_over(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=1, device="cpu")
    Trainer(make_vae(), config, out=tmp_path).fit(digits.train)
    with pytest.raises(RunError, match="holds a run already"):
        Trainer(make_vae(), config, out=tmp_path)


def test_a_run_can_be_loaded(make_vae, digits, tmp_path):
    trainer = Trainer(
        make_vae(), TrainerConfig(epochs=2, device="cpu"), out=tmp_path, info={"data": "digits"}
    )
    trainer.fit(digits.train, digits.test)
    run = load_run(tmp_path)
    torch.testing.assert_close(
        run.model.reconstruct(digits.test), trainer.model.reconstruct(digits.test)
    )
    assert run.history == trainer.history
    assert run.trainer == trainer.config
    assert run.info["data"] == "digits"


def test_damaged_runs_are_named(make_vae, digits, tmp_path):
    with pytest.raises(RunError, match="there is no run in"):
        load_run(tmp_path)
    with pytest.raises(RunError, match="there is no"):
        Trainer.resume(tmp_path)
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=r"model\.safetensors cannot be read"):
        load_run(tmp_path)
    with pytest.raises(RunError, match=r"checkpoint\.safetensors cannot be read"):
        Trainer.resume(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.safetensors"])
def test_a_flipped_bit_is_noticed(make_vae, digits, tmp_path, name):
    """In the weights, where every bit has a meaning of its own."""
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    content = bytearray((tmp_path / name).read_bytes())
    content[-100] ^= 4
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name} is damaged: its checksum is wrong"):
        (load_run if name == "model.safetensors" else Trainer.resume)(tmp_path)


def test_a_configuration_beyond_its_weights_gets_no_memory(make_vae, digits, tmp_path):
    """Of 16 TB here, which no allocator gives."""
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["hidden"] = [2_000_000, 2_000_000]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (load_run, Trainer.resume):
        with pytest.raises(RunError, match=r"config\.json cannot be read: the weights lack"):
            read(tmp_path)


def test_weights_keep_their_dtype(make_vae, digits, tmp_path):
    config = TrainerConfig(epochs=1, device="cpu")
    Trainer(make_vae().double(), config, out=tmp_path).fit(digits.train)
    assert load_run(tmp_path).model.encoder[1].weight.dtype == torch.float64
    assert Trainer.resume(tmp_path).optimizer.state_dict()["state"][0]["exp_avg"].dtype == (
        torch.float64
    )
    with pytest.raises(RunError, match=r"must be \(32,\) torch.float32, got \(32,\) torch.float64"):
        Trainer.resume(tmp_path, make_vae())


def test_a_number_that_earlier_releases_kept_without_dimensions(digits, tmp_path):
    torch.manual_seed(0)
    model = VAE(digits.shape, 2, hidden=(8,), likelihood="gaussian")
    Trainer(model, TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    index = [name for name, _ in model.named_parameters()].index("likelihood.slow_logvar")
    old = {"model.safetensors": ["likelihood.slow_logvar"]}
    states = [f"optimizer.{index}.{name}" for name in ("exp_avg", "exp_avg_sq")]
    old["checkpoint.safetensors"] = ["model.likelihood.slow_logvar", *states]
    for file, names in old.items():
        tensors, header = read_tensors(tmp_path / file)
        tensors |= {name: tensors[name].reshape(()) for name in names}
        (tmp_path / file).write_bytes(tensors_bytes(tensors, header or None))
    assert_same(load_run(tmp_path).model.state_dict(), model.state_dict())
    resumed = Trainer.resume(tmp_path, epochs=2)
    assert resumed.optimizer.state_dict()["state"][index]["exp_avg"].shape == (1,)
    resumed.fit(digits.train)


def test_another_models_checkpoint(make_vae, digits, tmp_path):
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    with pytest.raises(RunError, match="of another model"):
        Trainer.resume(tmp_path, VAE(digits.shape, 3))


@pytest.mark.parametrize("entry", ["exp_avg", "exp_avg_sq", "step"])
@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_checkpoints_states_are_of_their_parameters_sizes(
    make_vae, digits, tmp_path, entry, size
):
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    path = tmp_path / "checkpoint.safetensors"
    tensors, header = read_tensors(path)
    changed = {k: torch.zeros(size) if k.endswith(f".{entry}") else v for k, v in tensors.items()}
    path.write_bytes(tensors_bytes(changed, header))
    with pytest.raises(RunError, match=f"optimizer's {entry} must be"):
        Trainer.resume(tmp_path)


def test_models_from_outside_must_be_given_again(digits, tmp_path):
    def model():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, digits.shape))
        return VAE(digits.shape, 2, encoder=encoder, decoder=decoder)

    trainer = Trainer(model(), TrainerConfig(epochs=2, device="cpu"), out=tmp_path)
    trainer.fit(digits.train)
    with pytest.raises(ValueError, match="give it"):
        Trainer.resume(tmp_path)
    with pytest.raises(RunError, match="not of this package"):
        load_run(tmp_path)
    assert_same(state_of(Trainer.resume(tmp_path, model())), state_of(trainer))


def test_tied_weights_can_be_saved(tmp_path):
    model = Scripted([])
    model.also = model.weight
    Trainer(model, TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(torch.zeros(4, 1))
    tensors, _ = read_tensors(tmp_path / "model.safetensors")
    assert tensors["also"] == tensors["weight"] == model.weight


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(tmp_path, {"file": b"old"})

    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path, {"file": b"new"})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_nothing_can_replace_changes_nothing(tmp_path):
    (tmp_path / "file").mkdir()
    write_atomically(tmp_path, {"other": b"old"})
    with pytest.raises(IsADirectoryError, match="file"):
        write_atomically(tmp_path, {"other": b"new", "file": b"new"})
    assert (tmp_path / "other").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "other"}


def test_an_interruption_while_a_folder_is_made(tmp_path):
    """The handler writes into it what was not saved."""
    (tmp_path / ".vae_fast.writing").mkdir()
    write_atomically(tmp_path, {"file": b"content"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    events = []

    def noted(name):
        true = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given: (events.append(name), true(*given))[1])

    for name in ("fsync", "rename", "replace"):
        noted(name)
    write_atomically(tmp_path, {"file": b"content", "other": b"more"})
    # The contents of both and the folder that they are in; what decides; then both names.
    assert events == ["fsync", "fsync", "fsync", "rename", "fsync", "replace", "replace"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o22))


def test_a_checkpoint_cannot_run_code(make_vae, digits, tmp_path):
    """Nothing is unpickled: the files are safetensors and JSON from end to end."""
    Trainer(make_vae(), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(digits.train)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            size = int.from_bytes(content[:8], "little")
            json.loads(content[8 : 8 + size])
        else:
            [json.loads(part) for part in content.splitlines() if path.suffix == ".jsonl"]


def test_an_optimizers_state_lies_as_its_parameter_does():
    """Files hold rows; a fused kernel walks the state in the parameter's order in memory."""
    torch.manual_seed(0)
    lain = (
        torch.randn(6, 4).t(),  # as sparse_linear reads it
        torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
    )
    for start in lain:
        parameters = [nn.Parameter(start.clone()) for _ in range(2)]
        whole, resumed = (torch.optim.Adam([p], fused=True) for p in parameters)
        for parameter, optimizer in zip(parameters, (whole, resumed), strict=True):
            parameter.grad = torch.sin(start)
            optimizer.step()
        stored = resumed.state_dict()
        stored["state"][0] = {k: v.contiguous() for k, v in stored["state"][0].items()}
        resumed.load_state_dict(fitting_state(stored, resumed))
        for parameter, optimizer in zip(parameters, (whole, resumed), strict=True):
            parameter.grad = torch.cos(start)
            optimizer.step()
        assert torch.equal(*parameters)
