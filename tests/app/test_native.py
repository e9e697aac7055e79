"""The step without autograd beside the one with it."""

import pytest
import torch
from torch import nn

from vae_fast.models import VAE, AutoEncoder
from vae_fast.training import Trainer, TrainerConfig
from vae_fast.training.native import native_gradients


def _with_one_relu():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(64, 9), relu, nn.Linear(9, 7), relu, nn.Linear(7, 8))


MODELS = {
    "bernoulli": lambda: VAE((1, 8, 8), 4, hidden=(32,)),
    "deep": lambda: VAE(64, 4, hidden=(32, 16)),
    "linear": lambda: VAE(64, 4, hidden=()),
    "learned variance": lambda: VAE(64, 4, hidden=(32,), likelihood="gaussian"),
    "fixed variance": lambda: VAE(64, 4, hidden=(32,), likelihood="gaussian", decoder_logvar=-1.0),
    "auto-encoder": lambda: AutoEncoder(64, 4, hidden=(32,)),
    "auto-encoder, learned variance": lambda: AutoEncoder(
        64, 4, hidden=(32,), likelihood="gaussian"
    ),
    "large enough for oneDNN": lambda: VAE(64, 4, hidden=(400,)),
    "one ReLU twice": lambda: VAE(64, 4, encoder=_with_one_relu()),
    "modules of one's own": lambda: VAE(
        64, 4, encoder=nn.Sequential(nn.Linear(64, 8)), decoder=nn.Sequential(nn.Linear(4, 64))
    ),
}


def _model(name):
    torch.manual_seed(3)
    return MODELS[name]()


def _data(model, dtype, rows=200):
    torch.manual_seed(4)
    x = torch.randint(0, 256, (rows, *model.input_shape), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x / 255


def _assert_same(one, two):
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients(name, dtype):
    model = _model(name)
    x = _data(model, dtype)
    native = native_gradients(model)
    assert native.takes(x)

    torch.manual_seed(5)
    expected = model.loss(x, beta=0.7)
    expected.loss.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters()}
    after = torch.get_rng_state()
    for p in model.parameters():  # it must not be added to
        p.grad.fill_(float("nan"))

    torch.manual_seed(5)
    terms = native(x, 0.7)
    assert not terms.loss.requires_grad
    for value, wanted in zip(terms, expected, strict=True):
        _assert_same(value, wanted.detach())
    for key, p in model.named_parameters():
        _assert_same(p.grad, gradients[key])
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("name", MODELS)
def test_a_run_ends_the_same(name):
    states = []
    for native in (True, False):
        model = _model(name)
        config = TrainerConfig(
            epochs=2, batch_size=64, device="cpu", native_step=native, kl_warmup=1.5,
            clip_norm=2.0, weight_decay=1e-3, schedule="cosine",
        )  # fmt: skip
        trainer = Trainer(model, config)
        assert (trainer._native is not None) == native
        trainer.fit(_data(model, torch.uint8))
        states.append(model.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-3, atol=1e-4)


def test_another_optimizer():
    losses = []
    for native in (True, False):
        model = _model("bernoulli")
        config = TrainerConfig(epochs=2, device="cpu", native_step=native)
        trainer = Trainer(model, config, optimizer=lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9))
        losses.append(trainer.fit(_data(model, torch.uint8))[-1].train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path):
    data = _data(_model("bernoulli"), torch.uint8)
    whole = Trainer(_model("bernoulli"), TrainerConfig(epochs=3, device="cpu"))
    whole.fit(data)
    Trainer(_model("bernoulli"), TrainerConfig(epochs=1, device="cpu"), out=tmp_path).fit(data)
    resumed = Trainer.resume(tmp_path, epochs=3)
    assert resumed._native is not None
    resumed.fit(data)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key])


def test_autocast_around_it_changes_nothing():
    model = _model("bernoulli")
    native, x = native_gradients(model), _data(model, torch.uint8)
    results = []
    for enabled in (False, True):
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append([*native(x, 1.0), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


class OwnLoss(VAE):
    """A model whose loss is its own affair."""


def _changed(change):
    model = _model("bernoulli")
    change(model)
    return model


def _tied():
    """The same layer twice: its gradient is a sum."""
    layer, relu = nn.Linear(64, 64), nn.ReLU()
    encoder = nn.Sequential(layer, relu, layer, relu, nn.Linear(64, 8))
    return VAE(64, 4, encoder=encoder)


def _tied_across():
    model = VAE(64, 4, hidden=(64,))
    model.decoder[2].bias = model.encoder[1].bias
    return model


OTHERS = {
    "a layer twice": _tied,
    "a bias twice": _tied_across,
    "another shape": lambda: VAE((1, 8, 8), 4, decoder=nn.Sequential(nn.Linear(4, 64))),
    "one number for all": lambda: VAE(64, 4, decoder=nn.Sequential(nn.Linear(4, 1))),
    "subclass": lambda: OwnLoss(64, 4),
    "convolutions": lambda: VAE((1, 8, 8), 4, architecture="conv", channels=(4,)),
    "pixel variance": lambda: VAE(64, 4, likelihood="gaussian", decoder_logvar="pixel"),
    "another activation": lambda: VAE(
        64, 4, encoder=nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8))
    ),
    "ReLU at the end": lambda: VAE(64, 4, decoder=nn.Sequential(nn.Linear(4, 64), nn.ReLU())),
    "no bias": lambda: VAE(64, 4, decoder=nn.Sequential(nn.Linear(4, 64, bias=False))),
    "float64": lambda: _changed(lambda model: model.double()),
    "frozen": lambda: _changed(lambda model: model.encoder.requires_grad_(False)),
    "hook": lambda: _changed(lambda model: model.decoder[0].register_forward_hook(print)),
    "hook of the whole": lambda: _changed(lambda model: model.register_forward_pre_hook(print)),
    "hook of a gradient": lambda: _changed(lambda m: m.decoder[0].bias.register_hook(print)),
    "hook of an accumulated gradient": lambda: _changed(
        lambda model: model.decoder[0].bias.register_post_accumulate_grad_hook(print)
    ),
    "method of its own": lambda: _changed(lambda model: setattr(model, "prepare", print)),
    "not a model of the package": lambda: nn.Linear(3, 3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_left_to_autograd(name):
    assert native_gradients(OTHERS[name]()) is None


def test_hooks_of_every_module():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert native_gradients(_model("bernoulli")) is None
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "settings", [{"free_bits": 0.1}, {"precision": "bfloat16"}, {"native_step": False}]
)
def test_settings_that_are_left_to_autograd(settings):
    config = TrainerConfig(device="cpu", epochs=1, **settings)
    assert Trainer(_model("bernoulli"), config)._native is None


def test_batches_that_are_left_to_autograd():
    model = _model("bernoulli")
    native, x = native_gradients(model), _data(model, torch.float32)
    assert native.takes(x)
    assert not native.takes(x.double())
    assert not native.takes(x[:0])
    assert not native.takes(x.flatten(1))
    assert not native.takes(x[:1].expand(10**6, 1, 8, 8))  # logits of 256 MB: linear_nll's
    with pytest.raises(RuntimeError, match="shape"):
        Trainer(model, TrainerConfig(device="cpu")).fit(torch.rand(20, 65))


def test_hooks_that_come_between_epochs_are_called():
    model, seen = _model("bernoulli"), []
    trainer = Trainer(model, TrainerConfig(device="cpu", epochs=1))
    assert trainer._native is not None
    model.decoder[0].register_forward_hook(lambda *_: seen.append(1))
    trainer.fit(_data(model, torch.uint8))
    assert seen
