"""linear_nll beside the layer and its likelihood in two steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import profile

import vae_fast as vf
from vae_fast.engine.extension import C

BATCH, IN, OUT = 7, 5, 150  # more than two chunks: see `small_chunks`
LOGVARS = {"number": 0.3, "learned": (), "per feature": (OUT,)}


@pytest.fixture(autouse=True)
def small_chunks():
    """Of 64 features, or of two rows."""
    C.set_linear_chunks(64, 2)
    yield
    C.set_linear_chunks(0, 0)


def _inputs(dtype=torch.float64, logvar="number", batch=(BATCH,)):
    torch.manual_seed(0)
    leaves = [torch.randn(*batch, IN), torch.randn(OUT, IN), torch.randn(OUT)]
    if logvar != "number":
        leaves.append(0.2 * torch.randn(LOGVARS[logvar]))
    leaves = [x.to(dtype).requires_grad_() for x in leaves]
    return leaves, torch.rand(*batch, OUT).to(dtype)


def _fused(leaves, target, likelihood="bernoulli", **settings):
    return vf.linear_nll(*leaves[:3], target, *leaves[3:], likelihood=likelihood, **settings)


def _two_steps(leaves, target, likelihood="bernoulli", **settings):
    nll = getattr(vf, f"{likelihood}_nll")
    output = functional.linear(*leaves[:3])
    settings.setdefault("batch_dims", output.dim() - 1)
    return nll(output, target, *leaves[3:], **settings)


def _with_gradients(function, leaves, target, **settings):
    value = function(leaves, target, **settings)
    weights = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return [value, *torch.autograd.grad((value * weights).sum(), leaves)]


CASES = [("bernoulli", "number"), ("gaussian", "learned"), ("gaussian", "per feature")]
ROWWISE = [("multinomial", "number")]
MASKED = [(*case, masked) for case in CASES for masked in (False, True)]


@pytest.mark.parametrize("reduction", ["none", "sample", "sum", "batchmean", "mean"])
@pytest.mark.parametrize(("likelihood", "logvar", "masked"), [*MASKED, (*ROWWISE[0], False)])
def test_same_as_in_two_steps(likelihood, logvar, reduction, masked):
    """The sums of samples under an upstream gradient of each sample's own, too."""
    leaves, target = _inputs(logvar=logvar)
    mask = torch.rand(BATCH, OUT) < 0.8
    settings = {"likelihood": likelihood, "reduction": reduction}
    if masked:
        settings["mask"] = mask
    got = _with_gradients(_fused, leaves, target, **settings)
    expected = _with_gradients(_two_steps, leaves, target, **settings)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_float32_is_as_exact_as_two_steps(likelihood):
    leaves, target = _inputs()
    exact = _with_gradients(_two_steps, leaves, target, likelihood=likelihood)
    singles = [x.detach().float().requires_grad_() for x in leaves]
    got = _with_gradients(_fused, singles, target.float(), likelihood=likelihood)
    peer = _with_gradients(_two_steps, singles, target.float(), likelihood=likelihood)
    for x, y, z in zip(got, peer, exact, strict=True):
        error, peers = (x - z).abs().max(), (y - z).abs().max()
        assert error <= 2 * peers + 1e-6 * z.abs().max()


def test_more_batch_dimensions_and_no_bias():
    leaves, target = _inputs(batch=(2, 3))
    for reduction, shape in (("sample", (2, 3)), ("none", (2, 3, OUT)), ("batchmean", ())):
        for likelihood in ("bernoulli", "multinomial"):
            value = vf.linear_nll(
                leaves[0], leaves[1], None, target, likelihood=likelihood, reduction=reduction
            )
            expected = getattr(vf, f"{likelihood}_nll")(
                leaves[0] @ leaves[1].t(), target, batch_dims=2, reduction=reduction
            )
            assert value.shape == shape
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_bytes_as_target(dtype):
    leaves, target = _inputs()
    coded = (target * 255).to(torch.uint8) if dtype == torch.uint8 else target > 0.5
    torch.testing.assert_close(_fused(leaves, coded), _two_steps(leaves, coded))


@pytest.mark.parametrize("reduction", ["sample", "sum"])
@pytest.mark.parametrize(("likelihood", "logvar"), [*CASES, *ROWWISE])
def test_derivatives(likelihood, logvar, reduction):
    leaves, target = _inputs(logvar=logvar)
    rows = 3 if likelihood == "multinomial" else 2  # more than a chunk of them
    target = target[:rows]
    leaves[0] = leaves[0].detach()[:rows].requires_grad_()

    def function(*leaves):
        return _fused(leaves, target, likelihood, reduction=reduction)

    # A second backward makes the gradients anew, a sum for each row, which a GPU adds up in another
    # order than the forward's one sum.
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True, nondet_tol=1e-12)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True, nondet_tol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("wanted", range(8))
def test_only_the_gradients_that_are_wanted(wanted, likelihood):
    leaves, target = _inputs()
    for k, leaf in enumerate(leaves):
        leaf.requires_grad_(bool(wanted >> k & 1))
    value = _fused(leaves, target, likelihood)
    assert value.requires_grad == bool(wanted)
    if wanted:
        value.backward()
    for k, leaf in enumerate(leaves):
        assert (leaf.grad is not None) == bool(wanted >> k & 1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_backward_twice_accumulates(likelihood):
    leaves, target = _inputs()
    value = _fused(leaves, target, likelihood)
    value.backward(retain_graph=True)
    once = [leaf.grad.clone() for leaf in leaves]
    (3 * value).backward()
    for leaf, first in zip(leaves, once, strict=True):
        torch.testing.assert_close(leaf.grad, 4 * first)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_a_batch_of_upstream_gradients(likelihood):
    """What torch.autograd.functional.jacobian(vectorize=True) asks for."""
    leaves, target = _inputs()
    value = _fused(leaves, target, likelihood)
    upstream = torch.tensor([1.0, 2.0], dtype=value.dtype)
    batch = torch.autograd.grad(value, leaves, upstream, is_grads_batched=True, retain_graph=True)
    for two, one in zip(batch, torch.autograd.grad(value, leaves), strict=True):
        torch.testing.assert_close(two, torch.stack([one, 2 * one]))


def test_under_the_compiler_and_autocast():
    leaves, target = _inputs(torch.float32)
    expected = _fused(leaves, target)
    compiled = torch.compile(_fused, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(leaves, target), expected)
    with torch.autocast(expected.device.type, torch.bfloat16):
        half = _fused(leaves, target)
        half.backward()
        # As the layer before it gives its input:
        from_half = _fused([leaves[0].bfloat16(), *leaves[1:]], target)
        torch.testing.assert_close(from_half, half)
    assert half.dtype == torch.float32
    assert leaves[0].grad.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=2e-2, atol=0)


@pytest.mark.of_the_fast_binding
def test_memory_stays_small():
    """What autograd keeps between forward and backward: nothing of the size of the output."""
    layer = nn.Linear(4, 4096)
    h, target = torch.randn(64, 4, requires_grad=True), torch.rand(64, 4096)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
    with hooks, torch.device(h.device):  # a default device is a mode, which changes nothing
        vf.linear_nll(h, layer.weight, layer.bias, target).backward()
    assert all(x.numel() <= 4 * 4096 for x in kept if x is not target and x.shape != target.shape)
    assert sum(x.shape == target.shape for x in kept) == 1  # the target itself


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_torch_func(likelihood):
    """Above one chunk: gradients, of each sample too, directions, and layers in a batch."""
    leaves, target = _inputs()
    leaves = [x.detach() for x in leaves]
    directions = [torch.randn_like(x) for x in leaves]

    def transformed(function):
        def loss(h, weight, bias, target):
            return function((h, weight, bias), target, likelihood, reduction="sum")

        every = tuple(range(3))
        of_each = torch.func.vmap(torch.func.grad(loss, every), (0, None, None, 0))
        layers = torch.stack([leaves[1], directions[1]])
        tangents = (*directions, torch.zeros_like(target))
        return (
            torch.func.grad(loss, every)(*leaves, target),
            of_each(leaves[0][:, None], *leaves[1:], target[:, None]),
            torch.func.jvp(loss, (*leaves, target), tangents),
            torch.func.vmap(loss, (None, 0, None, None))(leaves[0], layers, leaves[2], target),
            torch.func.hessian(loss, 2)(*leaves, target),
        )

    torch.testing.assert_close(transformed(_fused), transformed(_two_steps))


@pytest.mark.of_the_fast_binding
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("likelihood", "reduction"),
    [("bernoulli", "sum"), ("bernoulli", "sample"), ("multinomial", "sum")],
)
def test_half_precision_is_rounded_once_in_any_number_of_chunks(dtype, likelihood, reduction):
    """Sums over chunks in half precision would lose digits with each one."""
    leaves, target = _inputs(dtype)
    target = target.round() if likelihood == "multinomial" else target
    exact = [x.detach().double().requires_grad_() for x in leaves]
    settings = {"likelihood": likelihood, "reduction": reduction}
    expected = _with_gradients(_two_steps, exact, target.double(), **settings)
    for features, rows in ((64, 4), (8, 2), (1, 1)):
        C.set_linear_chunks(features, rows)
        value, *gradients = _with_gradients(_fused, leaves, target, **settings)
        torch.testing.assert_close(value.double(), expected[0], rtol=1e-5, atol=0)
        for actual, right in zip(gradients, expected[1:], strict=True):
            assert actual.dtype == dtype
            size = right.abs().max().item()
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(actual.double(), right, rtol=eps, atol=1e-5 * size)


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_meta_tensors(likelihood):
    leaves, target = _inputs(torch.float32)
    leaves = [x.detach().to("meta").requires_grad_() for x in leaves]
    for reduction, shape in (("none", (BATCH, OUT)), ("sample", (BATCH,)), ("mean", ())):
        value = _fused(leaves, target.to("meta"), likelihood, reduction=reduction)
        assert (value.shape, value.device.type, value.dtype) == (shape, "meta", torch.float32)
        for gradient, leaf in zip(torch.autograd.grad(value.sum(), leaves), leaves, strict=True):
            assert (gradient.shape, gradient.device.type) == (leaf.shape, "meta")


@pytest.mark.of_the_fast_binding
@pytest.mark.torch_devices_only  # the profiler sees no other device's memory
@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
def test_samples_share_a_target(likelihood):
    """Those of z, each with a batch: a copy of the target for each of them would be the largest."""
    leaves, _ = _inputs(batch=(40, 4))
    target = torch.rand(4, OUT).double().expand(40, 4, OUT)
    settings = {"likelihood": likelihood, "reduction": "sum"}
    expected = _with_gradients(_two_steps, leaves, target, **settings)
    torch.testing.assert_close(_with_gradients(_fused, leaves, target, **settings), expected)
    with profile(profile_memory=True) as recorded:
        _with_gradients(_fused, leaves, target, **settings)
    memory = [e.self_cpu_memory_usage + e.self_device_memory_usage for e in recorded.events()]
    assert 0 < max(memory) < target.numel() * target.element_size() // 2


@pytest.mark.parametrize("likelihood", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("reduction", ["sum", "sample"])
def test_a_sign_beside_the_memory(likelihood, reduction):
    """What torch has yet to negate is negated, in every operand."""
    leaves, target = _inputs()
    settings = {"likelihood": likelihood, "reduction": reduction}
    expected = _with_gradients(_fused, leaves, target, **settings)
    negated = [torch._neg_view(-x.detach()).requires_grad_() for x in leaves]
    got = _with_gradients(_fused, negated, torch._neg_view(-target), **settings)
    torch.testing.assert_close(got, expected)


MISTAKES = {
    "weight has shape": {"weight": torch.zeros(OUT, IN + 1)},
    "bias has shape": {"bias": torch.zeros(OUT + 1)},
    "target has shape": {"target": torch.zeros(BATCH, OUT - 1)},
    "h is of type": {"h": [1.0]},
    "bias has dtype": {"bias": torch.zeros(OUT)},
    "likelihood is 'cauchy'": {"likelihood": "cauchy"},
    "logvar is given": {"logvar": 1.0},
    "logvar has shape": {"likelihood": "gaussian", "logvar": torch.zeros(3)},
    "logvar has dtype": {"likelihood": "gaussian", "logvar": torch.tensor(1)},
    "reduction is 'total'": {"reduction": "total"},
    "mask is given": {"likelihood": "multinomial", "mask": torch.ones(OUT, dtype=torch.bool)},
    "mask has": {"mask": torch.zeros(3, dtype=torch.bool)},
    "mask has shape": {"mask": torch.ones(2, BATCH, OUT, dtype=torch.bool)},
    "mask is of type list": {"mask": [True]},
    "h is a tensor of layout": {"h": torch.ones(BATCH, IN, device="cpu").to_sparse()},
    "weight is a tensor of layout": {"weight": torch.ones(OUT, IN, device="cpu").to_sparse()},
    "target is on meta": {"target": torch.zeros(BATCH, OUT, device="meta")},
    "bias is on meta": {"bias": torch.zeros(OUT, dtype=torch.float64, device="meta")},
    "weight has dtype torch.complex64": {"weight": torch.zeros(OUT, IN, dtype=torch.complex64)},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message):
    (h, weight, bias), target = _inputs()
    arguments = {"h": h, "weight": weight, "bias": bias, "target": target, **MISTAKES[message]}
    with pytest.raises((TypeError, ValueError), match=f"linear_nll: {message}"):
        vf.linear_nll(**arguments)
