"""torch's protocol of overrides: subclasses and modes of functions are asked, as by torch's own."""

import pytest
import torch
from cases import CASES
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.testing._internal.two_tensor import TwoTensor

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.engine.extension import C
from vae_fast.models.fused import FusedSequential

ops = torch.ops.vae_fast


class Plain(torch.Tensor):
    """What comes of it is of its class: torch's default."""


class Marked(torch.Tensor):
    """Answers this package's ops itself."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if str(function).startswith("vae_fast."):
            return (str(function),) * 3
        return super().__torch_function__(function, types, args, kwargs or {})


class Silent(torch.Tensor):
    """Asks for nothing."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Functions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


def _linear(likelihood):
    def call(h, target):
        return vf.linear_nll(h, torch.eye(h.shape[-1]), None, target, likelihood=likelihood)

    return call


def _of_two(case, x, y):
    operands = [*[x] * (len(case.names) - 1), y]
    return operands if case.has_target else case.domain(operands)


# The call of two tensors, and what computes it: an op, or a function.
CALLS = {
    **{
        case.op: (lambda x, y, case=case: case.public(*_of_two(case, x, y)), case.op)
        for case in CASES
    },
    "gaussian_nll of a number": (lambda x, y: vf.gaussian_nll(x, y, -1.0), "gaussian_nll"),
    "gaussian_nll of a scale": (lambda x, y: vf.gaussian_nll(x, y, scale=x), "gaussian_nll"),
    "masked": (lambda x, y: vf.bernoulli_nll(x, y, mask=x > 0.3), "bernoulli_nll"),
    "multinomial_nll": (vf.multinomial_nll, "multinomial_nll"),
    "multinomial_nll of all": (
        lambda x, y: vf.multinomial_nll(x, y, reduction="none").sum(),
        torch.log_softmax,  # plain PyTorch
    ),
    "free_bits": (lambda x, y: vf.gaussian_kl(x, y, free_bits=0.1), "standard_normal_kl"),
    "reparameterize": (vf.reparameterize, "reparameterize"),
    "samples": (lambda x, y: vf.reparameterize(x, y, num_samples=2), "reparameterize"),
    "of a seed": (lambda x, y: vf.reparameterize(x, y, seed=3), "reparameterize"),
    "reparameterize_kl": (vf.reparameterize_kl, "reparameterize_kl"),
    "linear_nll": (_linear("bernoulli"), vf.linear_nll),
    "linear_nll, multinomial": (_linear("multinomial"), vf.linear_nll),
    "elbo_loss": (lambda x, y: vf.elbo_loss(x, y, x, y), "bernoulli_nll"),
}
each_call = pytest.mark.parametrize("name", CALLS)


def _results(name, x, y):
    torch.manual_seed(3)
    results = CALLS[name][0](x, y)
    return results if isinstance(results, tuple) else (results,)


def _operands():
    """The target is the smaller one, as hits are of trials."""
    x = torch.rand(3, 8)
    return x, x * torch.rand(3, 8)


@each_call
@pytest.mark.parametrize("which", [0, 1])
def test_a_subclass_comes_back(name, which, backend):
    operands = [x.requires_grad_() for x in _operands()]
    expected = _results(name, *operands)
    gradients = torch.autograd.grad(sum(x.sum() for x in expected), operands, allow_unused=True)
    own = [x.detach().clone() for x in operands]
    own[which] = own[which].as_subclass(Plain)
    for x in own:
        x.requires_grad_()
    results = _results(name, *own)
    # A divergence of the codes alone has nothing of the other operand.
    assert any(type(x) is Plain for x in results)
    assert all(type(x) is Plain for x in results) or name in ("elbo_loss", "reparameterize_kl")
    torch.testing.assert_close([x.as_subclass(torch.Tensor) for x in results], list(expected))
    found = torch.autograd.grad(sum(x.sum() for x in results), own, allow_unused=True)
    for ours, theirs in zip(found, gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours.as_subclass(torch.Tensor), theirs)


@each_call
def test_a_subclass_answers_what_lies_below(name):
    """One that asks for nothing above autograd, as those that shard or quantize do."""
    (x, y), (other_x, other_y) = _operands(), _operands()
    pair = [TwoTensor(x, other_x).requires_grad_(), TwoTensor(y, other_y).requires_grad_()]
    results = _results(name, *pair)
    found = torch.autograd.grad(sum(r.sum() for r in results), pair, allow_unused=True)
    for part, operands in (("a", (x, y)), ("b", (other_x, other_y))):
        own = [operand.clone().requires_grad_() for operand in operands]
        expected = _results(name, *own)
        for ours, theirs in zip(results, expected, strict=True):
            torch.testing.assert_close(getattr(ours, part), theirs)
        gradients = torch.autograd.grad(sum(r.sum() for r in expected), own, allow_unused=True)
        for ours, theirs in zip(found, gradients, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(getattr(ours, part), theirs)


@each_call
def test_a_mode_is_asked(name):
    operands = _operands()
    with Functions() as functions:
        results = _results(name, *operands)
    assert all(map(torch.equal, results, _results(name, *operands)))
    asked = CALLS[name][1]
    assert (getattr(ops, asked) if isinstance(asked, str) else asked) in functions.seen


def test_an_override_replaces():
    x = torch.rand(3, 8)
    assert vf.bernoulli_nll(x.as_subclass(Marked), x) == "vae_fast.bernoulli_nll"
    assert vf.bernoulli_nll(x, x, mask=(x > 0).as_subclass(Marked)) == "vae_fast.bernoulli_nll"
    assert vf.reparameterize(x, x.as_subclass(Marked)) == "vae_fast.reparameterize"
    assert vf.reparameterize_kl(x, x, x, x.as_subclass(Marked))[1] == "vae_fast.reparameterize_kl"


def test_who_does_not_ask_is_not_asked():
    x = torch.rand(3, 8)
    assert type(vf.bernoulli_nll(x.as_subclass(Silent), x)) is torch.Tensor
    with torch._C.DisableTorchFunctionSubclass():
        assert type(vf.bernoulli_nll(x.as_subclass(Plain), x)) is torch.Tensor
    with Functions() as functions, torch._C.DisableTorchFunction():
        vf.bernoulli_nll(x, x)
    assert functions.seen == []


def test_mistakes_are_named_as_ever():
    x = torch.rand(3, 8).as_subclass(Plain)
    with pytest.raises(ValueError, match=r"bernoulli_nll: target has shape \(2, 8\)"):
        vf.bernoulli_nll(x, torch.rand(2, 8))
    with pytest.raises(ValueError, match=r"batch_dims is 3"), Functions():
        vf.bernoulli_nll(torch.rand(3, 8), torch.rand(3, 8), batch_dims=3)


@pytest.mark.parametrize("entry", [*C.LOSSES, "multinomial_nll", "reparameterize"])
def test_every_entry_leaves_it_to_torch(entry):
    x = torch.rand(3, 8)
    settings = {"reparameterize": [None], "multinomial_nll": [0, 1, 1]}.get(entry, [None, 0, 1, 1])
    operands = [x] * len(C.LOSSES.get(entry, (x, x)))
    assert getattr(extension.kernels, entry)(*operands, *settings) is not None
    operands[-1] = x.as_subclass(Plain)
    assert getattr(extension.kernels, entry)(*operands, *settings) is None


def test_a_layers_parameter_is_asked():
    net = FusedSequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 8)
    expected = net(x)
    net[2].weight = nn.Parameter(net[2].weight.detach().as_subclass(Plain))
    assert type(net(x)) is Plain
    torch.testing.assert_close(net(x).as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize("modes", [("cpu",), ("cpu", "meta")])
def test_a_default_device_is_not_asked(modes):
    """It makes tensors, and is on for whole programs: they would take the longer way."""
    x = torch.zeros(2, 3)
    with torch.device(modes[0]), torch.device(modes[-1]):
        assert C.bernoulli_nll(x, x, None, 0, 1, 1) is not None
        with Functions():
            assert C.bernoulli_nll(x, x, None, 0, 1, 1) is None
