"""What switches, what does not, and what is said then."""

import subprocess
import sys

import diffusers
import multivae
import pyro
import pytest
import pythae.models
import scvi
import torch

from tests.dropin.cases import CASES, of_diffusers, of_multivae, of_pyro, of_pythae, of_scvi
from vae_fast.integrations._switch import Peer

SWITCHES = {
    "diffusers": of_diffusers,
    "scvi-tools": of_scvi,
    "pythae": of_pythae,
    "MultiVae": of_multivae,
}
each_switch = pytest.mark.parametrize(("peer", "switch"), SWITCHES.items(), ids=SWITCHES)


def model_of(peer):
    return next(case for case in CASES if case.peer == peer).training(False).module


@each_switch
def test_back_to_what_it_was(peer, switch):
    model = model_of(peer)
    own, state = type(model), {k: v.clone() for k, v in model.state_dict().items()}
    assert switch.apply(model) is model
    assert isinstance(model, own)
    assert type(model) is not own
    assert type(model).__name__ == own.__name__  # what diffusers and pythae write into files
    with pytest.raises(ValueError, match="switched already"):
        switch.apply(model)
    assert switch.revert(model) is model
    assert type(model) is own
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match="is not switched"):
        switch.revert(model)


@each_switch
def test_others_are_refused(peer, switch):
    with pytest.raises(TypeError, match=r"model is a torch\.nn\.modules\.linear\.Linear"):
        switch.apply(torch.nn.Linear(2, 2))


def test_a_loss_of_ones_own_is_not_lost():
    class Own(pythae.models.VAE):
        def loss_function(self, *args):
            raise AssertionError

    for kind in (Own, pythae.models.BetaTCVAE):
        config = pythae.models.BetaTCVAEConfig(input_dim=(1, 8, 8), latent_dim=2)
        with pytest.raises(TypeError, match=r"expected one of BetaVAE, .*, VAE, VAMP of pythae"):
            of_pythae.apply(kind(config))


def test_a_pyro_function():
    def model():
        return pyro.sample("x", pyro.distributions.Normal(0.0, 1.0).to_event(0))

    switched = of_pyro.apply(model)
    assert of_pyro.revert(switched) is model
    with pytest.raises(ValueError, match="switched already"):
        of_pyro.apply(switched)
    with pytest.raises(ValueError, match="not switched"):
        of_pyro.revert(model)
    with pytest.raises(TypeError, match="expected a function"):
        of_pyro.apply(3)


def test_a_peer_is_imported_when_it_is_asked_for():
    peers = ("diffusers", "scvi", "pythae", "multivae", "pyro")
    code = (
        "import sys, vae_fast, vae_fast.integrations;"
        f"sys.exit(bool({set(peers)} & {{name.split('.')[0] for name in sys.modules}}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_said_of_another_release():
    missing = Peer("vae-fast-nothing", tried="1.0")
    with pytest.raises(ImportError, match="pip install vae-fast-nothing"):
        missing.module("vae_fast_nothing")
    peer = Peer("pythae", tried="0.1.2")
    tried = "in pythae .*; vae_fast was tried with pythae 0.1.2"
    with pytest.raises(ImportError, match=f"no pythae.models.Nothing {tried}"):
        peer.names("pythae.models", "VAE", "Nothing")
    with pytest.raises(ImportError, match=f"no pythae.nothing {tried}"):
        peer.module("pythae.nothing")
    with pytest.raises(ImportError, match=rf"expected \(self, x\), {tried}"):
        peer.expect(pythae.models.VAE.loss_function, "self", "x")


def test_what_is_tried_here_is_what_is_said():
    assert multivae.__name__  # its stand-in of torchvision is gone
    assert "torchvision" not in sys.modules
    for module, peer in ((diffusers, of_diffusers), (scvi, of_scvi), (pyro, of_pyro)):
        assert module.__version__ >= peer._PEER.tried
