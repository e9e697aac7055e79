"""The multinomial likelihood, whose softmax couples the elements of a row."""

import numpy as np
import pytest
import torch
from cases import exactly
from tolerance import Comparison

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.engine.dtypes import sum_dtype
from vae_fast.engine.reference import evaluate

REDUCTIONS = ["none", "sample", "sum", "batchmean", "mean"]
CAPABILITIES = extension.C.cpu_capabilities()
# Within a tile, its edges, several tiles, more batch dimensions, single elements.
SHAPES = [(3, 5), (2, 1024), (4, 1025), (3, 5000), (2, 3, 70), (1, 1), (300, 1)]


def _inputs(shape, dtype=torch.float64, scale=3.0):
    logits = scale * torch.randn(shape, dtype=torch.float64)
    target = torch.poisson(0.5 * torch.ones(shape, dtype=torch.float64))
    return logits.to(dtype).requires_grad_(), target.to(dtype)


def _torchs(logits, target):
    return -(torch.log_softmax(logits, -1) * target).sum(-1)


def _exact(logits, target):
    """Sums of rows, and their gradients, in long double."""
    x, counts = exactly(logits.detach()), exactly(target)
    largest = x.max(-1, keepdims=True)
    weights = np.exp(x - largest)
    log_p = x - largest - np.log(weights.sum(-1, keepdims=True))
    gradient = counts.sum(-1, keepdims=True) * np.exp(log_p) - counts
    return -(counts * log_p).sum(-1), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(backend, shape, dtype):
    comparison = Comparison()
    for _ in range(5):
        logits, target = _inputs(shape, dtype)
        rows = vf.multinomial_nll(logits, target, batch_dims=logits.dim() - 1, reduction="sample")
        wide = logits.detach().to(sum_dtype(dtype)).requires_grad_()
        theirs = _torchs(wide, target.to(wide.dtype))
        value, gradient = _exact(logits, target)
        size = exactly(target).sum(-1, keepdims=True) + np.zeros(gradient.shape)
        comparison.add("value", rows, theirs, value)
        ours, peers = (
            torch.autograd.grad(x.sum(), y)[0] for x, y in ((rows, logits), (theirs, wide))
        )
        comparison.add("gradient", ours, peers, gradient, magnitude=size, stored=size)
    comparison.check()


@pytest.mark.parametrize("batch_dims", [0, 1, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(backend, reduction, batch_dims):
    logits, target = _inputs((2, 3, 40))
    each = -torch.log_softmax(logits, -1) * target
    event = tuple(range(batch_dims, 3))
    expected = {
        "none": each,
        "sample": each.sum(event),
        "sum": each.sum(),
        "batchmean": each.sum() / each.shape[:batch_dims].numel(),
        "mean": each.mean(),
    }[reduction]
    value = vf.multinomial_nll(logits, target, batch_dims=batch_dims, reduction=reduction)
    torch.testing.assert_close(value, expected)
    weights = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    got, peer = (torch.autograd.grad((x * weights).sum(), logits)[0] for x in (value, expected))
    torch.testing.assert_close(got, peer)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
def test_targets_are_numbers(dtype):
    logits, target = _inputs((4, 1500))
    coded = target.to(dtype)
    torch.testing.assert_close(
        vf.multinomial_nll(logits, coded), vf.multinomial_nll(logits, coded.double())
    )


def test_operands_broadcast_and_may_be_strided():
    logits, target = _inputs((6, 3, 2000))
    view = logits.transpose(0, 1)[:, ::2]
    expected = vf.multinomial_nll(view.contiguous(), target[:3], batch_dims=2)
    torch.testing.assert_close(vf.multinomial_nll(view, target[:3], batch_dims=2), expected)
    shared, one = logits[:, :1].expand(6, 3, 2000), target[0]
    value = vf.multinomial_nll(shared, one, batch_dims=2)
    dense = vf.multinomial_nll(shared.contiguous(), one.expand(6, 3, 2000), batch_dims=2)
    torch.testing.assert_close(value, dense)
    got, peer = (torch.autograd.grad(x, logits)[0] for x in (value, dense))
    torch.testing.assert_close(got, peer)
    classes_first, counts = logits.movedim(-1, 0), target.movedim(-1, 0)
    torch.testing.assert_close(
        vf.multinomial_nll(classes_first.movedim(0, -1), counts.movedim(0, -1), batch_dims=2),
        vf.multinomial_nll(logits, target, batch_dims=2),
    )


def test_excluded_classes_cost_nothing(backend):
    """0 * (-inf) is 0, in the gradient too."""
    logits, target = _inputs((3, 2500), torch.float32)
    excluded = torch.rand(3, 2500) < 0.3
    excluded[:, :1200] = True  # a first tile of nothing else
    target = torch.where(excluded, 0, target)
    masked = torch.where(excluded, -torch.inf, logits)
    value = vf.multinomial_nll(masked, target, reduction="sample")
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert (gradient[excluded] == 0).all()
    for row in range(3):
        kept = ~excluded[row]
        alone = logits[row, kept].detach().requires_grad_()
        expected = vf.multinomial_nll(alone, target[row, kept], batch_dims=0)
        torch.testing.assert_close(value[row], expected)
        torch.testing.assert_close(gradient[row, kept], torch.autograd.grad(expected, alone)[0])


@pytest.mark.parametrize("row", [[-torch.inf, -torch.inf], [-torch.inf, 1.0]])
def test_the_gradient_at_infinity_is_the_same_in_every_reduction(backend, row):
    """Without a class there is no softmax, and each count still wants its logit higher."""
    target = torch.tensor([[1.0, 2.0]])
    gradients = []
    for reduction in REDUCTIONS[:3]:
        logits = torch.tensor([row], requires_grad=True)
        value = vf.multinomial_nll(logits, target, reduction=reduction)
        assert value.isinf().any()
        gradients.append(torch.autograd.grad(value.sum(), logits)[0].tolist())
    assert gradients == [[[-1.0, -2.0 if row[1] < 0 else 1.0]]] * 3


def test_edges(backend):
    inf = torch.inf
    logits = torch.tensor(
        [[-inf, 0.0, 0.0], [-inf, -inf, -inf], [-inf, -inf, -inf], [1e4, -1e4, 0.0], [3e38, 0, 0]]
    ).requires_grad_()
    target = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 2, 0], [0, 1, 0], [1, 0, 0]])
    value = vf.multinomial_nll(logits, target, reduction="sample")
    assert value.tolist() == [inf, 0, inf, 2e4, 0]
    (gradient,) = torch.autograd.grad(value[[1, 3, 4]].sum(), logits)
    assert gradient[[1, 3, 4]].tolist() == [[0, 0, 0], [1, -1, 0], [0, 0, 0]]
    for bad in (torch.nan, inf):
        row = torch.tensor([[0.0, bad, 1.0]])
        assert vf.multinomial_nll(row, torch.ones(1, 3)).isnan()


def test_derivatives_of_higher_order(backend):
    logits, target = _inputs((2, 3, 4))
    counts = (target + 0.5).requires_grad_()
    for reduction in REDUCTIONS:

        def of_logits(x, reduction=reduction):
            return vf.multinomial_nll(x, target, reduction=reduction)

        def of_both(x, t, reduction=reduction):
            return vf.multinomial_nll(x, t, reduction=reduction)

        assert torch.autograd.gradcheck(
            of_logits, logits, check_forward_ad=True, check_batched_grad=True
        )
        assert torch.autograd.gradgradcheck(of_logits, logits)
        assert torch.autograd.gradcheck(of_both, (logits, counts), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(of_both, (logits, counts))


def test_functional_transforms():
    logits, target = _inputs((4, 3, 50))
    logits = logits.detach()
    each = torch.stack([vf.multinomial_nll(x, t) for x, t in zip(logits, target, strict=True)])
    torch.testing.assert_close(torch.func.vmap(vf.multinomial_nll)(logits, target), each)
    shared = torch.func.vmap(vf.multinomial_nll, in_dims=(0, None))(logits, target[0])
    assert shared[0] == each[0]
    gradients = torch.func.vmap(torch.func.grad(vf.multinomial_nll))(logits, target)
    leaf = logits[1].requires_grad_()
    torch.testing.assert_close(
        gradients[1], torch.autograd.grad(vf.multinomial_nll(leaf, target[1]), leaf)[0]
    )
    tangents = torch.ones_like(logits[0]), torch.ones_like(target[0])
    _, tangent = torch.func.jvp(vf.multinomial_nll, (logits[0], target[0]), tangents)
    _, expected = torch.func.jvp(
        lambda x, t: evaluate("multinomial_nll", (x, t), None, 0, 1),
        (logits[0], target[0]),
        tangents,
    )
    torch.testing.assert_close(tangent, expected)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.torch_devices_only  # TorchInductor
@pytest.mark.parametrize("reduction", ["sample", "batchmean"])
def test_compiles_whole(reduction):
    logits, target = _inputs((6, 70), torch.float32)

    def model(x, t):
        return vf.multinomial_nll(2 * x, t, reduction=reduction).log().sum()

    compiled = torch.compile(model, fullgraph=True)
    value, expected = compiled(logits, target), model(logits, target)
    torch.testing.assert_close(value, expected)
    got, peer = (torch.autograd.grad(x, logits)[0] for x in (value, expected))
    torch.testing.assert_close(got, peer)


@pytest.mark.torch_devices_only  # opcheck
@pytest.mark.parametrize("keep", [0, 1])
def test_the_ops_keep_their_schemas(keep):
    logits, target = _inputs((3, 40), torch.float32)
    op, backward = torch.ops.vae_fast.multinomial_nll, torch.ops.vae_fast.multinomial_nll_backward
    torch.library.opcheck(op, (logits, target, keep, 1 - keep))
    logits, upstream = logits.detach(), torch.ones((3,)[:keep])
    torch.library.opcheck(op, (logits, target, keep, 1 - keep, True))
    torch.library.opcheck(backward, (upstream, logits, target, keep, 1 - keep))


def test_the_gradient_that_is_handed_out_is_the_callers():
    """What is done to it reaches no second backward."""
    logits, target = _inputs((4, 50), torch.float32)
    value = vf.multinomial_nll(logits, target)
    expected = torch.autograd.grad(value, logits, retain_graph=True)[0].clone()
    for spoil in (lambda g: g.mul_(2), lambda g: g.data.mul_(2)):
        spoil(torch.autograd.grad(value, logits, retain_graph=True)[0])
        assert torch.equal(torch.autograd.grad(value, logits, retain_graph=True)[0], expected)
    hook = logits.register_hook(lambda g: g.mul_(2))
    value.backward(retain_graph=True)
    hook.remove()
    assert torch.equal(torch.autograd.grad(value, logits)[0], expected)


def test_every_instruction_set_and_thread_count(cpu_capability, cpu_threads):
    logits, target = _inputs((40, 3000), torch.float32)
    exact_value, exact_gradient = _exact(logits, target)
    for capability in CAPABILITIES:
        cpu_capability(capability)
        results = []
        for threads in (1, 2, 3):
            cpu_threads(threads)
            value = vf.multinomial_nll(logits, target, reduction="sample")
            results.append([value, *torch.autograd.grad(value.sum(), logits)])
        for result in results[1:]:
            assert all(map(torch.equal, result, results[0]))
        value, gradient = (exactly(x.detach()) for x in results[0])
        assert np.abs(value / exact_value - 1).max() < 2e-7
        assert np.abs(gradient - exact_gradient).max() < 2e-7 * exact_gradient.max()


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (2, 0, 5)])
def test_nothing(shape):
    logits, target = torch.zeros(shape, requires_grad=True), torch.zeros(shape)
    value = vf.multinomial_nll(logits, target, reduction="sum")
    assert value == 0
    assert torch.autograd.grad(value, logits)[0].shape == shape
    assert vf.multinomial_nll(logits, target).isnan() == (shape[0] == 0)


def test_second_backward_and_no_gradient():
    logits, target = _inputs((4, 50))
    value = vf.multinomial_nll(logits, target)
    value.backward(retain_graph=True)
    once = logits.grad.clone()
    (3 * value).backward()
    torch.testing.assert_close(logits.grad, 4 * once)
    with torch.no_grad():
        assert not vf.multinomial_nll(logits, target).requires_grad


@pytest.mark.usefixtures("cpu_threads")  # elsewhere nobody waits to learn the upstream gradient
def test_the_gradient_is_handed_out_as_it_was_made():
    """No pass over it, no zeros for it: nothing of its size is allocated in the backward."""
    logits, target = _inputs((50, 4000), torch.float32)
    value = vf.multinomial_nll(logits, target)
    with torch.profiler.profile(profile_memory=True) as profile:
        torch.autograd.grad(value, logits)
    assert len(profile.events()) > 0
    assert max(event.cpu_memory_usage for event in profile.events()) < logits.nbytes


def test_in_the_elbo():
    logits, target = _inputs((5, 4, 30), torch.float32)
    mu, logvar = torch.randn(4, 2), torch.randn(4, 2)
    target = target[0]
    settings = {"likelihood": "multinomial", "sample_dims": 1}
    elbo = vf.elbo_loss(logits, target, mu, logvar, **settings)
    expected = _torchs(logits, target).mean()  # five samples of four data each
    torch.testing.assert_close(elbo.nll, expected)
    with pytest.raises(ValueError, match="mask is given"):
        vf.elbo_loss(logits, target, mu, logvar, **settings, mask=target > 0)


MISTAKES = {
    "logits is of type": {"logits": [1.0]},
    "target has dtype": {"target": torch.zeros(2, 3, dtype=torch.int16)},
    "target has shape": {"target": torch.zeros(2, 4)},
    "reduction is 'total'": {"reduction": "total"},
    "batch_dims is 2, expected less than 2": {"batch_dims": 2},
    "batch_dims is of type": {"batch_dims": 1.0},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message, backend):
    arguments = {"logits": torch.zeros(2, 3), "target": torch.zeros(2, 3), **MISTAKES[message]}
    with pytest.raises((TypeError, ValueError), match=f"multinomial_nll: {message}"):
        vf.multinomial_nll(**arguments)
