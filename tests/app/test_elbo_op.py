"""The loss of a VAE of linear layers as one node, beside nn.Sequential through autograd."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vae_fast.engine import extension
from vae_fast.models import VAE
from vae_fast.models.fused import FusedSequential

KINDS = {
    "bernoulli": {"input_shape": (1, 8, 8)},
    "deep": {"hidden": (32, 16)},
    "linear": {"hidden": ()},
    "learned variance": {"likelihood": "gaussian"},
    "bounded variance": {"likelihood": "gaussian", "min_logvar": -1.0},
    "fixed variance": {"likelihood": "gaussian", "decoder_logvar": -1.0},
    "large enough for oneDNN": {"hidden": (400,)},
}


def _model(name="bernoulli"):
    torch.manual_seed(3)
    return VAE(**{"input_shape": 64, "latent_dim": 4, "hidden": (32,)} | KINDS[name])


def _plain(model):
    """The same with nn.Sequential, which nothing fuses."""
    plain = copy.deepcopy(model)
    plain.encoder = nn.Sequential(*plain.encoder)
    plain.decoder = nn.Sequential(*plain.decoder)
    return plain


def _data(model, dtype=torch.float32, rows=20):
    torch.manual_seed(4)
    x = torch.randint(0, 256, (rows, *model.input_shape), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x / 255


def _names(node):
    found, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is not None:
            found.add(node.name())
            todo += [following for following, _ in node.next_functions]
    return found


def _is_one_node(model, x=None):
    terms = model.loss(_data(model) if x is None else x)
    return "VaeFastBackward[elbo]" in _names(terms.loss.grad_fn)


def _terms_and_gradients(model, x, upstream=lambda terms: terms.loss, **weights):
    model.zero_grad()
    torch.manual_seed(5)
    terms = model.loss(x, **weights)
    upstream(terms).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return [term.detach() for term in terms], gradients


def _assert_same(one, two, **tolerance):
    torch.testing.assert_close(one, two, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


@pytest.mark.of_the_fast_binding
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", KINDS)
def test_terms_and_gradients(name, dtype):
    model = _model(name)
    x = _data(model, dtype)
    assert _is_one_node(model, x)
    _assert_same(
        _terms_and_gradients(model, x, beta=0.7), _terms_and_gradients(_plain(model), x, beta=0.7)
    )
    with torch.no_grad():
        torch.manual_seed(5)
        terms = model.loss(x)
        torch.manual_seed(5)
        _assert_same(terms, _plain(model).loss(x))
    assert not terms.loss.requires_grad


@pytest.mark.parametrize(
    "upstream",
    [
        lambda terms: terms.nll,
        lambda terms: terms.kl,
        lambda terms: -3 * terms.nll + terms.kl.square() + terms.loss,
    ],
)
def test_any_upstream(upstream):
    model = _model("learned variance")
    x = _data(model)
    _assert_same(
        _terms_and_gradients(model, x, upstream),
        _terms_and_gradients(_plain(model), x, upstream),
    )


def test_gradients_are_added_and_a_retained_graph_gives_them_again():
    model = _model("learned variance")
    terms = model.loss(_data(model))
    terms.loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    terms.loss.backward()
    for p, gradient in zip(model.parameters(), first, strict=True):
        _assert_same(p.grad, 2 * gradient)


def test_a_tensor_as_beta_has_a_gradient():
    model = _model()
    beta = torch.tensor(0.3, requires_grad=True)
    terms = model.loss(_data(model), beta=beta)
    terms.loss.backward()
    _assert_same(beta.grad, terms.kl.detach())


def _tied(model):
    model.decoder[0].bias = model.encoder[1].bias


def _frozen(model):
    model.encoder.requires_grad_(False)


def _transposed(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())


@pytest.mark.of_the_fast_binding
@pytest.mark.parametrize("change", [_tied, _frozen, _transposed])
def test_parameters_of_every_kind(change):
    model = _model("learned variance")
    change(model)
    x = _data(model)
    assert _is_one_node(model)
    mine, theirs = _terms_and_gradients(model, x), _terms_and_gradients(_plain(model), x)
    _assert_same(mine, theirs)
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.stride() == p.stride(), name  # as the optimizer reads it


def test_second_derivatives_also_of_what_is_shared():
    def second(model):
        torch.manual_seed(5)
        parameters = list(model.parameters())
        first = torch.autograd.grad(model.loss(_data(model)).loss, parameters, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), parameters)

    model = _model("learned variance")
    _tied(model)
    _assert_same(second(model), second(_plain(model)), rtol=1e-3, atol=1e-3)


def test_batched_upstream_gradients():
    def batched(model):
        torch.manual_seed(5)
        nll = model.loss(_data(model)).nll
        weight = model.encoder[1].weight
        return torch.autograd.grad(nll, weight, torch.tensor([1.0, -2.0]), is_grads_batched=True)

    _assert_same(batched(_model()), batched(_plain(_model())))


@pytest.mark.of_the_fast_binding
def test_hooks_of_accumulators_gradients_and_saved_tensors_fire():
    model, seen = _model(), []
    weight = model.encoder[1].weight
    accumulator = weight.view_as(weight).grad_fn.next_functions[0][0]
    accumulator.register_hook(lambda *_: seen.append("accumulated"))
    weight.register_hook(lambda gradient: seen.append("gradient"))
    model.register_forward_hook(lambda *_: seen.append("model"))

    def pack(tensor):
        seen.append("saved")
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = model.loss(_data(model))
    assert "VaeFastBackward[elbo]" in _names(terms.loss.grad_fn)
    terms.loss.backward()
    assert {"accumulated", "gradient", "model", "saved"} <= set(seen)


def test_anomaly_mode_finds_nan():
    model = _model()
    with torch.no_grad():
        model.decoder[0].weight.fill_(float("nan"))
    with torch.autograd.set_detect_anomaly(True):
        terms = model.loss(_data(model))
        with pytest.raises(RuntimeError, match="returned nan values"):
            terms.loss.backward()


def _replaced_forward(model):
    layer, own = model.decoder[0], model.decoder[0].forward
    layer.forward = lambda z: 2 * own(z)


def _replaced_network(model):
    own = model.decoder.forward
    model.decoder.forward = lambda z: own(2 * z)


def _replaced_decode(model):
    own = model.decode
    model.decode = lambda z: own(2 * z)


def _hook(model):
    model.decoder[0].register_forward_hook(lambda _, __, output: 2 * output)


def _hook_of_the_encoder(model):
    model.encoder.register_forward_pre_hook(lambda _, x: (2 * x[0],))


def _hook_of_the_likelihood(model):
    model.likelihood.register_forward_hook(lambda _, __, output: 2 * output)


def _parametrized(model):
    parametrizations.weight_norm(model.encoder[1])


def _subclass(model):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model.decoder[0].__class__ = Doubled


def _other_activation(model):
    model.decoder[1] = nn.Tanh()


CHANGES = [
    _replaced_forward, _replaced_network, _replaced_decode, _hook, _hook_of_the_encoder,
    _hook_of_the_likelihood, _parametrized, _subclass, _other_activation,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_on_the_way_is_heard(change):
    model, plain = _model(), _plain(_model())
    change(model)
    change(plain)
    assert not _is_one_node(model)
    x = _data(model)
    mine, theirs = _terms_and_gradients(model, x), _terms_and_gradients(plain, x)
    _assert_same(mine, theirs)
    unchanged, _ = _terms_and_gradients(_model(), x)
    if change is not _parametrized:
        assert mine[0][0] != unchanged[0]


def test_methods_replaced_on_a_class_are_heard(monkeypatch):
    own = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * own(self, x))
    model = _model()
    assert not _is_one_node(model)
    x = _data(model)
    _assert_same(_terms_and_gradients(model, x), _terms_and_gradients(_plain(model), x))
    monkeypatch.undo()
    encode = VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, x: encode(self, x * 0))
    assert not _is_one_node(model)


def test_hooks_of_every_module_fire():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(type(m)))
    try:
        _model().loss(_data(_model()))
    finally:
        handle.remove()
    assert {VAE, FusedSequential, nn.Linear} <= set(seen)


class Functions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


class Ops(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_modes_see_torchs_own_ops():
    model = _model()
    with Functions() as functions:
        model.loss(_data(model))
    assert functions.seen.count("linear") == 4
    with Ops() as ops:
        model.loss(_data(model))
    assert sum("addmm" in op for op in ops.seen) == 4


def test_autocast_and_torch_func():
    model, x = _model(), _data(_model())
    with torch.autocast("cpu", torch.bfloat16):
        assert not _is_one_node(model)
        _assert_same(_terms_and_gradients(model, x), _terms_and_gradients(_plain(model), x))

    def gradients(net):
        def loss(parameters):
            torch.manual_seed(5)
            return torch.func.functional_call(net, parameters, (x,), {"return_loss": True}).loss

        return torch.func.grad(loss)({k: p.detach() for k, p in net.named_parameters()})

    _assert_same(gradients(model), gradients(_plain(model)))


def test_the_same_noise_as_the_modules_draw():
    model, x = _model(), _data(_model())
    terms = model.loss(x, generator=torch.Generator().manual_seed(7))
    _assert_same(terms, _plain(model).loss(x, generator=torch.Generator().manual_seed(7)))


@pytest.mark.of_the_fast_binding
def test_half_a_layer_is_refused():
    x, weight = torch.rand(3, 4), torch.rand(5, 4)
    for parameters in ([], [weight], [weight, torch.rand(5), weight]):
        with pytest.raises(ValueError, match="expected weight and bias"):
            extension.C.mlp(x, parameters)


def test_second_derivatives_of_a_layer_that_is_there_twice():
    layer = nn.Linear(6, 6)
    modules = [layer, nn.ReLU(), layer]

    def second(net):
        torch.manual_seed(1)
        y = net(torch.randn(5, 6)).square().sum()
        (first,) = torch.autograd.grad(y, layer.weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), layer.weight)

    _assert_same(second(FusedSequential(*modules)), second(nn.Sequential(*modules)))
