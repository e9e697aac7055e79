"""What PyTorch does with modules: a switched one keeps the loss and gradients of its own class."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import pythae.models
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, grad, vmap
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from tests.dropin.cases import CASES, SEED, of_diffusers, of_pythae, of_scvi
from tests.dropin.data import pictures
from tests.ranks import WORLD, of_each_rank
from vae_fast.integrations._switch import Switched

SWITCHES = {
    "diffusers, AutoencoderKL": of_diffusers,
    "scvi-tools, SCVI, nb": of_scvi,
    "pythae, VAE, bce": of_pythae,
}
OF = {str(case): case for case in CASES if str(case) in SWITCHES}
each_model = pytest.mark.parametrize("name", SWITCHES)


def loss_and_gradients(loss, module, step=0, whole=lambda x: x):
    torch.manual_seed(SEED + step)
    value = loss(step)
    value.backward()
    # scvi-tools' encoder of a cell's total has none, where that is observed.
    own = [whole(p.grad).flatten() for p in module.parameters() if p.grad is not None]
    return value.detach(), torch.cat(own)


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=0)
    assert (found[1] - expected[1]).norm() < 1e-5 * expected[1].norm()


# ---- two processes -------------------------------------------------------------------------------


class Loss(nn.Module):
    """A step's loss as a forward, which is what is wrapped."""

    def __init__(self, training):
        super().__init__()
        self.model, self.loss = training.module, training.loss

    def forward(self, step):
        return self.loss(step)


def replicated(loss, rank):
    wrapped = DistributedDataParallel(loss, find_unused_parameters=True)
    return loss_and_gradients(wrapped, wrapped, rank)


def sharded(loss, rank):
    fully_shard(loss, mesh=init_device_mesh("cpu", (WORLD,)))
    return loss_and_gradients(loss, loss, rank, lambda gradient: gradient.full_tensor())


def of_a_rank(rank):
    return {
        (wrap.__name__, name, is_switched): wrap(Loss(case.training(is_switched)), rank)
        for wrap in (replicated, sharded)
        for name, case in OF.items()
        for is_switched in (False, True)
    }


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory):
    return of_each_rank(of_a_rank, tmp_path_factory.mktemp("ranks"))


@each_model
@pytest.mark.parametrize("wrap", ["replicated", "sharded"])
def test_two_processes(of_ranks, wrap, name):
    for found in of_ranks:
        assert_same(found[wrap, name, True], found[wrap, name, False])
    first, second = (found[wrap, name, True] for found in of_ranks)
    assert first[0] != second[0]  # each of its own data
    assert torch.equal(first[1], second[1])  # and the mean of both


# ---- one process ---------------------------------------------------------------------------------


def both(name):
    return [OF[name].training(is_switched) for is_switched in (False, True)]


@each_model
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed(name, use_reentrant):
    plain, switched = both(name)
    on = torch.zeros((), requires_grad=True)  # the older kind wants an input with a gradient

    def again(step):
        return checkpoint(lambda _: switched.loss(step), on, use_reentrant=use_reentrant)

    expected = loss_and_gradients(plain.loss, plain.module)
    assert_same(loss_and_gradients(again, switched.module), expected)


def test_gradients_of_each_datum():
    """By torch.func's functional_call, grad and vmap."""

    def gradients(model):
        def loss(weights, x):
            return functional_call(model, weights, ({"data": x.unsqueeze(0)},))["loss"]

        torch.manual_seed(SEED)
        each = vmap(grad(loss), (None, 0), randomness="different")
        return each(dict(model.named_parameters()), pictures()[:4])

    plain, switched = (gradients(x.module) for x in both("pythae, VAE, bce"))
    assert all(g.shape[0] == 4 for g in switched.values())
    torch.testing.assert_close(switched, plain)


def test_one_graph_of_any_batch():
    model = OF["pythae, VAE, bce"].training(True).module
    counter, compiled_by_then = CompileCounterWithBackend("aot_eager"), []

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def compiled(x):
        return model({"data": x})["loss"]

    for rows in (5, 7, 12):
        x = pictures()[:rows]
        torch.manual_seed(SEED)
        expected = model({"data": x})["loss"]
        torch.manual_seed(SEED)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-6, atol=0)
        compiled_by_then.append(counter.frame_count)
    assert len(set(compiled_by_then)) == 1


# ---- copies and files ----------------------------------------------------------------------------


def file_of(thing):
    stored = io.BytesIO()
    torch.save(thing, stored)
    stored.seek(0)
    return stored


@each_model
def test_a_switched_model_is_copied_and_stored(name):
    model, switch = OF[name].training(True).module, SWITCHES[name]
    for other in (
        copy.deepcopy(model),
        copy.copy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file_of(model), weights_only=False),
    ):
        assert isinstance(other, Switched)
        assert type(other) is type(model)
        assert all(map(torch.equal, other.parameters(), model.parameters()))
        assert type(switch.revert(other)) is type(model).__bases__[1]
    assert isinstance(model, Switched)


@each_model
def test_weights_are_those_of_the_models_own_class(name):
    plain, switched = (training.module for training in both(name))
    for source, target in ((plain, switched), (switched, plain)):
        with torch.no_grad():
            for p in source.parameters():
                p.add_(1)
        target.load_state_dict(torch.load(file_of(source.state_dict())))
        torch.testing.assert_close(dict(target.state_dict()), dict(source.state_dict()))


LOAD = """
import sys, torch
sys.modules.update({name: None for name in sys.argv[2:]})
model = torch.load(sys.argv[1], weights_only=False)
torch.manual_seed(3)
print(model({"data": torch.full((2, 1, 4, 4), 0.3)})["loss"].item())
"""


def test_a_stored_model_is_switched_where_it_is_read(tmp_path):
    """In a process that switches nothing; one without the package says what it misses."""
    config = pythae.models.VAEConfig(input_dim=(1, 4, 4), latent_dim=2, reconstruction_loss="bce")
    model = of_pythae.apply(pythae.models.VAE(config))
    torch.save(model, tmp_path / "model.pt")
    torch.manual_seed(3)
    expected = model({"data": torch.full((2, 1, 4, 4), 0.3)})["loss"].item()
    command = [sys.executable, "-c", LOAD, tmp_path / "model.pt"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(found.stdout) == expected
    found = subprocess.run([*command, "vae_fast"], check=False, capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'vae_fast" in found.stderr


def test_a_class_over_the_switched_one():
    """As PyTorch lays it: it is no switched class, and what was laid over it is not taken off."""
    model = OF["scvi-tools, SCVI, nb"].training(True).module
    switched = type(model)
    parametrize.register_parametrization(model, "px_r", nn.Identity())
    assert type(copy.deepcopy(model)) is type(model)
    with pytest.raises(ValueError, match="switched already"):
        of_scvi.apply(model)
    with pytest.raises(ValueError, match="ParametrizedVAE, a class over the switched one"):
        of_scvi.revert(model)
    parametrize.remove_parametrizations(model, "px_r")
    assert type(model) is switched
    assert not isinstance(of_scvi.revert(model), Switched)
