"""What people wrap a module in: the loss must go through it."""

import copy
import functools
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from ranks import WORLD, of_each_rank
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel

from vae_fast.models import VAE, AutoEncoder
from vae_fast.training import Trainer, TrainerConfig, load_run


def _model(kind=VAE, **settings):
    torch.manual_seed(3)
    return kind(64, 4, hidden=(16,), **settings)


def _data(rows=8):
    return torch.rand(rows, 64, generator=torch.Generator().manual_seed(1))


def _loss_and_gradients(model, call, x):
    model.zero_grad()
    torch.manual_seed(5)
    terms = call(x)
    terms.loss.backward()
    return terms.loss.detach(), [p.grad for p in model.parameters()]


def test_copies_and_files():
    """Of a whole model, of a Gaussian likelihood with a parameter of its own."""
    model, stored = _model(likelihood="gaussian"), io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    expected = _loss_and_gradients(model, model.loss, _data())
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(stored, weights_only=False),
    ):
        torch.testing.assert_close(_loss_and_gradients(other, other.loss, _data()), expected)


@pytest.mark.parametrize("kind", [VAE, AutoEncoder])
def test_forward_is_the_loss_and_hooks_fire(kind):
    model, seen = _model(kind), []
    expected = _loss_and_gradients(model, model.loss, _data())
    handle = model.register_forward_hook(lambda *_: seen.append(1))
    through = functools.partial(model, return_loss=True)
    torch.testing.assert_close(_loss_and_gradients(model, through, _data()), expected)
    model.loss(_data())
    handle.remove()
    assert len(seen) == 2


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", [VAE, AutoEncoder])
def test_compiled_loss(kind):
    model = _model(kind)
    expected = _loss_and_gradients(model, model.loss, _data())
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    through = functools.partial(compiled, return_loss=True)
    torch.testing.assert_close(_loss_and_gradients(model, through, _data()), expected)
    assert counter.frame_count == 1
    own = _model(kind)
    counter = CompileCounter()
    own.compile(backend=counter, fullgraph=True)
    torch.testing.assert_close(_loss_and_gradients(own, own.loss, _data()), expected)
    assert counter.frame_count == 1


def test_a_patched_forward_computes_in_its_precision():
    """As Accelerate does it."""
    model, seen = _model(), []
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    model.encoder[1].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    model.loss(_data()).loss.backward()
    assert seen == [torch.bfloat16]


def _of_ranks(make):
    """The mean over the ranks of each one's own gradients."""
    total = None
    for rank in range(WORLD):
        model = make()
        torch.manual_seed(100 + rank)
        model.loss(_data(16)[rank::WORLD]).loss.backward()
        own = [p.grad / WORLD for p in model.parameters()]
        total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
    return total


def _sharded(rank, likelihood):
    from torch.distributed.fsdp import fully_shard

    model = _model(likelihood=likelihood)
    mesh = dist.device_mesh.init_device_mesh("cpu", (WORLD,))
    fully_shard(model, mesh=mesh)
    torch.manual_seed(100 + rank)
    model.loss(_data(16)[rank::WORLD]).loss.backward()
    return [p.grad.full_tensor() for p in model.parameters()]


def _parallel(rank, likelihood):
    model = DistributedDataParallel(_model(likelihood=likelihood))
    torch.manual_seed(100 + rank)
    model(_data(16)[rank::WORLD], return_loss=True).loss.backward()
    return [p.grad for p in model.parameters()]


def _trained(rank, likelihood):
    """The trainer's own step through the wrapper: the ranks' weights stay the same."""
    model = DistributedDataParallel(_model(likelihood=likelihood))
    Trainer(model, TrainerConfig(epochs=2, batch_size=4, seed=rank, device="cpu")).fit(
        _data(16)[rank::WORLD]
    )
    return [p.detach() for p in model.parameters()]


def _of_a_rank(rank):
    return {
        (function.__name__, likelihood): function(rank, likelihood)
        for function in (_parallel, _sharded, _trained)
        for likelihood in ("bernoulli", "gaussian")
    }


def test_two_processes(tmp_path):
    results = of_each_rank(_of_a_rank, tmp_path)
    for likelihood in ("bernoulli", "gaussian"):
        expected = _of_ranks(functools.partial(_model, likelihood=likelihood))
        for result in results:
            torch.testing.assert_close(result["_parallel", likelihood], expected)
            torch.testing.assert_close(result["_sharded", likelihood], expected)
        first, second = (result["_trained", likelihood] for result in results)
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b)


def test_replicas_and_quantized_models_have_no_parameters():
    model = _model(likelihood="gaussian").double()
    replica = model._replicate_for_data_parallel()
    replica._parameters = {}
    assert next(replica.parameters(recurse=False), None) is None
    for module in replica.modules():
        module._parameters = {}
    assert replica.prepare(_data()).dtype == torch.float64
    plain = _model()
    quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, torch.qint8)
    assert quantized.reconstruct(_data()).shape == (8, 64)


def test_exported_outputs_can_be_saved():
    for kind in (VAE, AutoEncoder):
        file = io.BytesIO()
        torch.export.save(torch.export.export(_model(kind), (_data(),)), file)
        file.seek(0)
        output = torch.export.load(file).module()(_data())
        torch.testing.assert_close(output[0].shape, _data().shape)


def test_a_fixed_variance_survives_a_start_without_memory():
    model = _model(likelihood="gaussian", decoder_logvar=-2.0)
    expected = _loss_and_gradients(model, model.loss, _data())
    with torch.device("meta"):
        empty = VAE(64, 4, hidden=(16,), likelihood="gaussian", decoder_logvar=-2.0)
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    torch.testing.assert_close(_loss_and_gradients(empty, empty.loss, _data()), expected)


def test_a_log_variance_without_dimensions_is_read():
    model = _model(likelihood="gaussian")
    state = model.state_dict()
    assert state["likelihood.slow_logvar"].shape == (1,)
    state["likelihood.slow_logvar"] = torch.tensor(-0.25)
    model.load_state_dict(state)
    assert model.likelihood.slow_logvar.tolist() == [-0.25]


class Own(nn.Module):
    """A module whose forward is the loss; with a configuration that is not this package's."""

    def __init__(self):
        super().__init__()
        self.inner = _model()
        self.config = object()

    def forward(self, x, *, beta=1.0, free_bits=0.0):
        return self.inner.loss(x, beta=beta, free_bits=free_bits)


class OnlyALoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = _model()

    def loss(self, x, *, beta=1.0, free_bits=0.0):
        return self.inner.loss(x, beta=beta, free_bits=free_bits)


def _fitted(model, **settings):
    return Trainer(model, TrainerConfig(epochs=1, device="cpu"), **settings).fit(_data(32))


def test_the_trainer_takes_what_people_have(tmp_path):
    expected = _fitted(_model())[0].train_loss
    for model in (nn.DataParallel(_model()), Own(), OnlyALoss()):
        assert _fitted(model)[0].train_loss == expected
    _fitted(Own(), out=tmp_path / "own")
    with pytest.raises(TypeError, match="hides the method loss of OnlyALoss"):
        _fitted(nn.DataParallel(OnlyALoss()))
    with pytest.raises(TypeError, match="expected an ELBO"):
        _fitted(OnlyATensor())


class OnlyATensor(nn.Linear):
    def __init__(self):
        super().__init__(64, 64)

    def forward(self, x, **_):
        return super().forward(x).sum()


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_models_run_is_that_of_the_model_inside(tmp_path):
    model = _model()
    compiled = torch.compile(model, backend=CompileCounter())
    _fitted(compiled, out=tmp_path / "run")
    state = Trainer.resume(tmp_path / "run").model.state_dict()
    torch.testing.assert_close(state, model.state_dict())
    load_run(tmp_path / "run")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("kind", [VAE, AutoEncoder])
def test_data_of_another_shape_are_refused(kind, likelihood):
    model = kind((1, 8, 8), 4, hidden=(16,), likelihood=likelihood)
    calls = [model, model.loss, model.encode, model.embed, model.reconstruct]
    calls += [model.log_likelihood] if kind is VAE else []
    for call in calls:
        for shape in ((5, 8, 8), (5, 64), (1, 8, 8), ()):
            with pytest.raises(ValueError, match=r"expected \(batch, 1, 8, 8\)"):
                call(torch.rand(shape))
        with pytest.raises(TypeError, match="expected a tensor"):
            call([0.5])
