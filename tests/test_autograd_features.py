"""The graph around the ops: hooks, retained graphs, checkpointing, in-place changes, threads."""

import copy
import gc
import io
import os
import pickle
import threading

import pytest
import torch
from cases import each_case, leaves
from device import DEVICE
from dispatched import Calls
from torch.profiler import profile
from torch.utils.checkpoint import checkpoint

import vae_fast as vf
from vae_fast.engine import reference
from vae_fast.engine.extension import C


def block(mu, logvar):
    z, kl = vf.reparameterize_kl(mu.sin(), logvar.cos())
    return (z.exp() * z).sum() + kl + vf.bernoulli_nll(z, torch.ones_like(z))


@pytest.mark.parametrize("case", **each_case)
def test_a_second_backward(case):
    tensors = leaves(case, 3, 4)
    expected = [3 * g for g in torch.autograd.grad(case.public(*tensors), tensors)]
    value = case.public(*tensors)
    value.backward(retain_graph=True)
    value.backward(torch.tensor(2.0, dtype=torch.float64))
    for x, gradient in zip(tensors, expected, strict=True):
        torch.testing.assert_close(x.grad, gradient)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_a_second_backward_of_sampling():
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    z, kl = vf.reparameterize_kl(mu, logvar, reduction="sum")
    value = z.sum() + kl
    value.backward(retain_graph=True)
    once = mu.grad.clone(), logvar.grad.clone()
    value.backward()
    torch.testing.assert_close((mu.grad, logvar.grad), (2 * once[0], 2 * once[1]))


def _losses(logits, target):
    """One of each kind of node that keeps gradients; the layer's in several chunks."""
    weight = torch.eye(logits.shape[-1], dtype=logits.dtype)
    return {
        "bernoulli_nll": vf.bernoulli_nll(logits, target, reduction="sum"),
        "multinomial_nll": vf.multinomial_nll(logits, target, reduction="sum"),
        "linear_nll": vf.linear_nll(logits, weight, None, target, reduction="sum"),
    }


@pytest.mark.parametrize("name", ["bernoulli_nll", "multinomial_nll", "linear_nll"])
def test_a_backward_that_failed_is_forgotten(name):
    """It would have released the graph: whether the next one does is for that one to say."""
    logits, target = torch.randn(7, 5, requires_grad=True), torch.rand(7, 5)
    C.set_linear_chunks(2, 2)
    try:
        value = _losses(logits, target)[name]
    finally:
        C.set_linear_chunks(0, 0)
    (expected,) = torch.autograd.grad(value, logits, torch.tensor(3.0), retain_graph=True)

    def broken(*_):
        raise ArithmeticError("broken")

    C.set_gradient_formula(broken)  # of a backward that is to be differentiated
    try:
        with pytest.raises(ArithmeticError, match="broken"):
            torch.autograd.grad(value, logits, create_graph=True, retain_graph=False)
    finally:
        C.set_gradient_formula(reference.gradient_formula)
    for _ in range(3):
        again = torch.autograd.grad(value, logits, torch.tensor(3.0), retain_graph=True)
        assert torch.equal(again[0], expected)
    assert torch.equal(torch.autograd.grad(value, logits, torch.tensor(3.0))[0], expected)


@pytest.mark.parametrize("case", **each_case)
def test_accumulation_does_not_touch_saved_gradients(case):
    """Two uses of one operand in one graph: the engine adds up what the nodes hand out."""
    tensors = [x.float().detach().requires_grad_() for x in leaves(case, 30, 40)]
    (case.public(*tensors) + 3 * case.public(*tensors)).backward()
    expected = torch.autograd.grad(case.public(*tensors), tensors)
    for x, gradient in zip(tensors, expected, strict=True):
        torch.testing.assert_close(x.grad, 4 * gradient)


@pytest.mark.parametrize("case", **each_case)
def test_saved_tensor_hooks(case):
    tensors = leaves(case, 3, 4)
    expected = torch.autograd.grad(case.public(*tensors), tensors)
    packed = []

    def pack(x):
        packed.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        value = case.public(*tensors)
    assert len(packed) == 2 * len(tensors)  # the operands, and the gradients
    torch.testing.assert_close(torch.autograd.grad(value, tensors, retain_graph=True), expected)
    torch.testing.assert_close(torch.autograd.grad(value, tensors), expected)


def test_save_on_cpu():
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    with torch.autograd.graph.save_on_cpu():
        z, kl = vf.reparameterize_kl(mu, logvar, seed=1)
    z_, kl_ = vf.reparameterize_kl(mu, logvar, seed=1)
    torch.testing.assert_close(
        torch.autograd.grad(z.sum() + kl, (mu, logvar)),
        torch.autograd.grad(z_.sum() + kl_, (mu, logvar)),
    )


def test_the_gradient_computed_in_the_forward_is_handed_out():
    logits = torch.randn(300, 400, requires_grad=True)
    value = vf.bernoulli_nll(logits, torch.rand(300, 400))
    upstream = torch.ones(())
    with profile(profile_memory=True) as recorded:
        value.backward(upstream)
    events = recorded.key_averages()
    allocated = [e.self_cpu_memory_usage + e.self_device_memory_usage for e in events]
    assert max(allocated) < logits.numel() * 4
    assert not {"aten::clone", "aten::copy_"} & {e.key for e in events}


@pytest.mark.skipif(DEVICE != "emulated", reason="sets what the emulated CUDA says of recording")
@pytest.mark.parametrize(("forward", "backward"), [(0, 0), (1, 1), (0, 1), (1, 2), (1, 0)])
def test_a_backward_recorded_by_itself_leaves_the_kept_gradient(forward, backward):
    """Replayed twice for one forward, it must not scale the gradient twice."""
    set_recording = torch.ops.vae_fast_emulation.set_recording
    logits, upstream = torch.randn(4, 5, requires_grad=True), torch.tensor(3.0)
    try:
        set_recording(forward)
        value = vf.bernoulli_nll(logits, torch.rand(4, 5))
        set_recording(backward)
        with profile() as recorded:
            value.backward(upstream)
    finally:
        set_recording(0)
    assert ("aten::mul" in {e.key for e in recorded.key_averages()}) == (forward != backward)


@pytest.mark.parametrize("case", **each_case)
def test_gradients_are_computed_only_where_they_are_wanted(case):
    tensors = leaves(case, 3, 4)

    def wanted(*operands):
        with Calls() as calls:
            case.public(*operands)
        (arguments,) = (args for name, args in calls.seen if name.startswith("vae_fast"))
        return arguments[len(tensors) + 3] if len(arguments) > len(tensors) + 3 else 0

    assert wanted(*tensors) == 2 ** len(tensors) - 1
    assert wanted(*(x.detach() for x in tensors)) == 0
    assert wanted(tensors[0], *(x.detach() for x in tensors[1:])) == 1
    with torch.no_grad():
        assert wanted(*tensors) == 0
    with torch.inference_mode():
        assert wanted(*tensors) == 0
        assert case.public(*tensors).is_inference()


def test_an_operand_changed_in_place():
    logits, target = torch.randn(3, 4, requires_grad=True), torch.rand(3, 4)
    changed = logits * 1
    value = vf.bernoulli_nll(changed, target, reduction="sum")
    changed.mul_(2)  # the gradient was computed before
    torch.testing.assert_close(
        torch.autograd.grad(value, logits)[0], (logits.sigmoid() - target).detach()
    )
    changed = logits * 1
    value = vf.bernoulli_nll(changed, target)
    changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, logits, create_graph=True)


def test_z_changed_in_place():
    """The backward does not read z."""
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    z, _ = vf.reparameterize_kl(mu * 1, logvar * 1, seed=2)
    expected = torch.autograd.grad(2 * z.sum(), (mu, logvar))
    z, _ = vf.reparameterize_kl(mu * 1, logvar * 1, seed=2)
    z.mul_(2)
    torch.testing.assert_close(torch.autograd.grad(z.sum(), (mu, logvar)), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(use_reentrant):
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    torch.manual_seed(0)
    value = block(mu, logvar)
    expected = torch.autograd.grad(value, (mu, logvar))
    torch.manual_seed(0)
    again = checkpoint(block, mu, logvar, use_reentrant=use_reentrant)
    torch.rand(3)
    again.backward()
    torch.testing.assert_close((again, (mu.grad, logvar.grad)), (value, expected))


def test_deepcopy_and_pickle():
    value = vf.bernoulli_nll(torch.randn(3, 4, requires_grad=True), torch.rand(3, 4))
    assert copy.deepcopy(value.detach()) == value
    assert "bernoulli_nll" in value.grad_fn.name()
    for function in (vf.bernoulli_nll, vf.reparameterize_kl):
        assert pickle.loads(pickle.dumps(function)) is function
        assert copy.deepcopy(function) is function
    module, stored = vf.ELBOLoss("gaussian", 0.5), io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    for loss in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stored, weights_only=False),
    ):
        assert loss.likelihood == "gaussian"
        assert loss.beta == 0.5


def test_no_leak():
    mu = torch.randn(1, 100_000, requires_grad=True)

    def resident_megabytes():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def work(times):
        for _ in range(times):
            z, _ = vf.reparameterize_kl(mu, mu)
            torch.autograd.grad(z.square().sum(), mu, create_graph=True)
            value = vf.bernoulli_nll(mu, mu.detach())
            torch.autograd.grad(value, mu, create_graph=True)

    work(20)
    before = resident_megabytes()
    work(200)
    gc.collect()
    assert resident_megabytes() - before < 20


def test_python_threads():
    logits, target = torch.randn(50, 40, requires_grad=True), torch.rand(50, 40)
    results = []

    def work():
        for _ in range(100):
            value = vf.bernoulli_nll(logits, target)
            results.append(torch.autograd.grad(value, logits)[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400
    assert all(torch.equal(x, results[0]) for x in results)


def test_dispatch_mode_sees_the_ops():
    mu = torch.randn(2, 3)
    with Calls() as calls:
        vf.reparameterize_kl(mu, mu)
    assert [name for name, _ in calls.seen] == [
        "aten.empty.memory_format",
        "vae_fast.draw_seed.default",
        "vae_fast.reparameterize_kl.default",
    ]


@pytest.mark.parametrize("case", **each_case)
def test_autocast(case):
    with torch.autocast(DEVICE, torch.bfloat16):
        tensors = [x.detach().bfloat16().requires_grad_() for x in leaves(case, 3, 4)]
        for reduction in ("none", "batchmean"):
            value = case.public(*tensors, reduction=reduction)
            assert value.dtype == torch.float32
            value.sum().backward()
        assert all(x.grad.dtype == torch.bfloat16 for x in tensors)
        wide = [x.double() for x in tensors]
        assert case.public(*wide, reduction="none").dtype == torch.float64


def test_autocast_of_sampling(backend):
    mu = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast(DEVICE, torch.bfloat16):
        z, kl = vf.reparameterize_kl(mu, mu)
        assert z.dtype == kl.dtype == torch.float32
        assert vf.reparameterize(mu, mu).dtype == torch.float32
        (z.sum() + kl).backward()
    assert mu.grad.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_trace():
    traced = torch.jit.trace(
        lambda logits, target: vf.bernoulli_nll(logits, target, reduction="sum"),
        (torch.randn(3, 4), torch.rand(3, 4)),
    )
    logits, target = torch.randn(5, 4), torch.rand(5, 4)
    expected = vf.bernoulli_nll(logits, target, reduction="sum")
    torch.testing.assert_close(traced(logits, target), expected)
    assert "vae_fast::bernoulli_nll" in str(traced.graph)
