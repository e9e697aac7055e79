"""The emulated device itself: that it runs the CUDA kernels, and sees what it is there to see."""

import ctypes

import pytest
import torch
from cuda_emulation import emulated_device

import vae_fast as vf
from vae_fast.engine import extension

emulation = torch.ops.vae_fast_emulation


@pytest.fixture
def capturing():
    emulation.set_recording(1)
    yield
    emulation.set_recording(0)


def sample():
    mu, logvar = torch.randn(64, 20, requires_grad=True), torch.randn(64, 20, requires_grad=True)
    z, kl = vf.reparameterize_kl(mu, logvar)
    (z.sum() + 3 * kl).backward()
    return z.detach(), kl.detach(), mu.grad, logvar.grad


def test_every_step_runs_emulated_kernels():
    logits = torch.randn(8, 784, requires_grad=True)
    steps = (
        lambda: vf.bernoulli_nll(logits, torch.rand(8, 784)),
        lambda: (3 * vf.bernoulli_nll(logits, torch.rand(8, 784))).backward(),
        lambda: vf.multinomial_nll(logits, torch.rand(8, 784)),
        lambda: vf.mixture_nll(logits, torch.rand(8), torch.rand(8, 784)),
        sample,
    )
    for step in steps:
        before = emulation.threads_run()
        step()
        assert emulation.threads_run() > before


def test_memory_is_nan_until_it_is_written():
    assert torch.empty(5).isnan().all()


@pytest.mark.parametrize("offset", [-1, 20])
def test_a_write_beyond_a_block_is_seen(offset):
    emulation.check_memory()
    block = torch.zeros(5)
    beyond = ctypes.cast(block.data_ptr() + offset, ctypes.POINTER(ctypes.c_ubyte))
    whole = beyond[0]
    beyond[0] = whole ^ 1
    with pytest.raises(RuntimeError, match="1 blocks"):
        emulation.check_memory()
    beyond[0] = whole


def test_the_order_of_threads_decides_nothing():
    expected = sample()
    for schedule in (1, 2, 3):
        emulation.set_schedule(schedule)
        torch.manual_seed(0)
        assert all(map(torch.equal, sample(), expected))
    emulation.set_schedule(0)


def test_a_recording_draws_on_the_device(capturing):
    """By torch's own kernel there, whose numbers are new ones whenever the graph runs."""
    recorded = sample()
    torch.manual_seed(0)
    assert all(map(torch.equal, sample(), recorded))
    emulation.set_recording(0)
    torch.manual_seed(0)
    assert not torch.equal(sample()[0], recorded[0])  # drawn on the host, without a launch


def test_a_seed_that_is_drawn_for_one_call_costs_no_launch():
    mu = torch.zeros(64, 20)

    def threads(**noise):
        before = emulation.threads_run()
        vf.reparameterize(mu, mu, **noise)
        return emulation.threads_run() - before

    assert threads() == threads(generator=torch.Generator("emulated")) == threads(seed=5)


def test_kernels_of_another_release_are_refused(monkeypatch):
    monkeypatch.setattr(extension, "__version__", "9.9.9")
    with pytest.raises(ImportError, match=rf"is of vae_fast {vf.__version__}, and this is 9.9.9"):
        extension.use_gpu(emulated_device.path(), "emulated")


def test_a_process_has_one_library_of_kernels():
    with pytest.raises(ImportError, match="'emulated' has CUDA kernels already"):
        extension.use_gpu(emulated_device.path(), "emulated")


def test_kernels_that_do_not_load_are_named(tmp_path):
    (tmp_path / "_cuda.so").write_text("no library")
    with pytest.raises(ImportError, match=rf"the CUDA kernels do not load .*{tmp_path}/_cuda.so"):
        extension.use_gpu(tmp_path / "_cuda.so", "emulated")


def test_the_device_of_the_operands_is_not_the_current_one():
    expected = sample()
    torch.manual_seed(0)
    with torch.device("emulated:1"):
        actual = sample()
    assert {str(x.device) for x in actual} == {"emulated:1"}
    assert torch.accelerator.current_device_index() == 0
    assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(actual, expected, strict=True))
