"""FusedSequential beside the nn.Sequential of the same modules."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from vae_fast.engine.extension import C
from vae_fast.models.fused import FusedSequential

# The last ones are large enough for oneDNN.
SIZES = [(5, 3), (7, 11, 5), (9, 8, 7, 6), (784, 400, 40), (20, 400, 784)]
BATCH = 128


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=[False, True])
def _either_library(request):
    before = C.uses_onednn()
    C.set_uses_onednn(request.param)
    yield
    C.set_uses_onednn(before)


def _layers(sizes, bias=True):
    modules = []
    for inputs, outputs in itertools.pairwise(sizes):
        modules += [nn.Linear(inputs, outputs, bias), nn.ReLU(inplace=True)]
    return modules[:-1]


def _both(*modules):
    return FusedSequential(*modules), nn.Sequential(*copy.deepcopy(modules))


def _is_fused(y):
    return "VaeFastBackward[mlp]" in _names(y.grad_fn)


def _names(node):
    """Of the nodes of a graph."""
    found, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is not None:
            found.add(node.name())
            todo += [following for following, _ in node.next_functions]
    return found


def _value_and_gradients(net, x, wanted=None):
    x = x.clone().requires_grad_()
    y = net(x)
    inputs = [x, *net.parameters()] if wanted is None else wanted
    upstream = torch.linspace(-1, 1, y.numel()).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, inputs, upstream)]


def _assert_same(fused, plain):
    """To rounding; where a ReLU's input is 0 to rounding, one of them may let it through."""
    for a, b in zip(fused, plain, strict=True):
        off = (a - b).abs() > 1e-4 * b.abs().max() + 1e-6
        assert off.double().mean() < 2e-3
        assert (a - b).norm() <= 1e-3 * b.norm()


@pytest.mark.of_the_fast_binding
@pytest.mark.usefixtures("_either_library")
@pytest.mark.parametrize("sizes", SIZES)
def test_value_and_gradients(sizes):
    fused, plain = _both(*_layers(sizes))
    x = torch.randn(BATCH, sizes[0])
    assert _is_fused(fused(x))
    _assert_same(_value_and_gradients(fused, x), _value_and_gradients(plain, x))
    with torch.no_grad():
        _assert_same([fused(x)], [plain(x)])
    with torch.inference_mode():
        _assert_same([fused(x)], [plain(x)])


@pytest.mark.of_the_fast_binding
@pytest.mark.parametrize(
    "modules",
    [
        lambda: [nn.Flatten(), *_layers((12, 5, 3)), nn.Unflatten(1, (3, 1))],
        lambda: [*_layers((12, 5, 3)), nn.ReLU(inplace=True), nn.Linear(3, 2)],
        lambda: [nn.Linear(12, 5), nn.Linear(5, 3), nn.ReLU()],
        lambda: [nn.ReLU(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)],
        lambda: [nn.Linear(12, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 3), nn.Dropout(0)],
    ],
)
def test_other_modules_around_and_between(modules):
    fused, plain = _both(*modules())
    x = torch.randn(6, 12)
    assert _is_fused(fused(x))
    _assert_same(_value_and_gradients(fused, x), _value_and_gradients(plain, x))
    assert list(fused.state_dict()) == list(plain.state_dict())


def test_only_what_is_wanted():
    fused, plain = _both(*_layers((9, 8, 7, 6)))
    x = torch.randn(5, 9)
    for index in range(6):
        pair = [[list(net.parameters())[index]] for net in (fused, plain)]
        _assert_same(
            _value_and_gradients(fused, x, pair[0]), _value_and_gradients(plain, x, pair[1])
        )
    fused[0].requires_grad_(False)
    fused(x).sum().backward()
    assert fused[0].weight.grad is None
    assert fused[2].weight.grad is not None


def test_backward_twice():
    fused = FusedSequential(*_layers((9, 8, 7)))
    y = fused(torch.randn(5, 9)).square().sum()
    first = torch.autograd.grad(y, list(fused.parameters()), retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(y, list(fused.parameters()))
    for a, b, c in zip(first, second, kept, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_weights_changed_in_place_before_the_backward():
    fused = FusedSequential(*_layers((9, 8, 7)))
    y = fused(torch.randn(5, 9)).sum()
    with torch.no_grad():
        fused[2].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.of_the_fast_binding
def test_second_derivatives():
    fused, plain = _both(*_layers((9, 8, 7)))
    x = torch.randn(5, 9)

    def second(net):
        inputs = [x.clone().requires_grad_(), *net.parameters()]
        y = net(inputs[0]).square().sum()
        first = torch.autograd.grad(y, inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    assert _is_fused(fused(x))
    _assert_same(second(fused), second(plain))


def test_torch_func_and_forward_mode():
    fused, plain = _both(*_layers((9, 8, 7)))
    x = torch.randn(5, 9)

    def jacobian(net, transform):
        return transform(lambda w: torch.func.functional_call(net, {"0.weight": w}, (x,)))(
            net[0].weight.detach()
        )

    for transform in (torch.func.jacrev, torch.func.jacfwd):
        _assert_same([jacobian(fused, transform)], [jacobian(plain, transform)])

    def batched(net):
        w = net[0].weight
        y = net(x)
        return torch.autograd.grad(y, w, torch.stack((y, 2 * y)).detach(), is_grads_batched=True)

    _assert_same(batched(fused), batched(plain))


def test_nan_is_not_lost():
    """oneDNN's own ReLU would make it zero, and hide that a run has diverged."""
    for width in (8, 400):
        fused = FusedSequential(*_layers((784, width, 10)))
        x = torch.randn(BATCH, 784)
        x[3, 5] = float("nan")
        assert fused(x)[3].isnan().all()


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net[0].register_forward_hook(lambda *_: None),
        lambda net: net[0].register_full_backward_hook(lambda *_: None),
        lambda net: parametrizations.weight_norm(net[0]),
        lambda net: net.double(),
        lambda net: net.bfloat16(),
        lambda net: net[0].register_parameter("bias", None),
    ],
)
def test_what_takes_the_ordinary_way(change):
    fused = FusedSequential(nn.Linear(9, 8))
    change(fused)
    x = torch.randn(5, 9, dtype=fused[0].weight.dtype)
    assert not _is_fused(fused(x))
    assert torch.equal(fused(x), fused[0](x))


def test_autocast_and_the_compiler(monkeypatch):
    fused, plain = _both(*_layers((9, 8, 7)))
    x = torch.randn(5, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert fused(x).dtype == torch.bfloat16
        assert torch.equal(fused(x), plain(x))
    _assert_same([torch.compile(fused, fullgraph=True, backend="eager")(x)], [plain(x)])
    _assert_same([torch.fx.symbolic_trace(fused)(x)], [plain(x)])


def test_bad_input_is_torchs_error():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        FusedSequential(*_layers((9, 8, 7)))(torch.randn(5, 10))
