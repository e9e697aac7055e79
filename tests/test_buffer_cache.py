"""Large outputs come from memory that is used again: bounded, from any thread, after a fork."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import vae_fast as vf

pytestmark = pytest.mark.of_the_fast_binding

MIB = 1 << 20
SIZE = 40 * MIB // 4  # floats; blocks of 32 MiB and more are kept


@pytest.fixture(autouse=True)
def _empty():
    limit = vf.build_info().buffer_cache_limit
    vf.empty_buffer_cache()
    yield
    vf.set_buffer_cache_limit(limit)
    vf.empty_buffer_cache()


def _kept():
    return vf.build_info().buffer_cache_bytes


def _gradient(size=SIZE):
    logits = torch.zeros(size, requires_grad=True, device="cpu")
    vf.bernoulli_nll(logits, torch.ones(1, device="cpu").expand_as(logits)).backward()
    return logits.grad


def test_memory_is_used_again():
    gradient = _gradient()
    address = gradient.data_ptr()
    assert _kept() == 0
    del gradient
    assert _kept() == 40 * MIB
    assert _gradient(SIZE - 1000).data_ptr() == address  # nearly the same size


def test_small_outputs_are_left_to_torch():
    del_me = _gradient(1000)
    del del_me
    assert _kept() == 0


def test_no_more_is_held_than_was_used_at_once():
    for size in (SIZE, 2 * SIZE, SIZE, 3 * SIZE, 2 * SIZE):
        _gradient(size)
    assert _kept() <= 3 * 40 * MIB


def test_limit():
    first, second = _gradient(), _gradient()
    vf.set_buffer_cache_limit(50 * MIB)
    del first, second
    assert _kept() == 40 * MIB
    vf.set_buffer_cache_limit(0)
    assert _kept() == 0
    assert _gradient() is not None
    assert _kept() == 0


@pytest.mark.parametrize(
    ("limit", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_bad_limits_are_named(limit, error):
    with pytest.raises(error, match="limit"):
        vf.set_buffer_cache_limit(limit)


def test_what_is_done_to_tensors():
    gradient = _gradient()
    expected = gradient[:3].clone()
    assert torch.equal(pickle.loads(pickle.dumps(gradient))[:3], expected)
    assert torch.equal(gradient.resize_(2 * SIZE)[:3], expected)
    assert torch.equal(torch.from_numpy(gradient.numpy())[:3], expected)
    shared = _gradient().share_memory_()
    assert torch.equal(shared[:3], expected)


def test_threads():
    def work(logit):
        logits = torch.full((SIZE,), logit, requires_grad=True, device="cpu")
        target = torch.zeros(1, device="cpu").expand_as(logits)
        vf.bernoulli_nll(logits, target, reduction="sum").backward()
        return logits.grad.min().item(), logits.grad.max().item()

    with ThreadPoolExecutor(4) as pool:
        for logit, (low, high) in zip(range(8), pool.map(work, map(float, range(8))), strict=True):
            assert low == high == pytest.approx(torch.sigmoid(torch.tensor(float(logit))).item())


def test_fork():
    gradient = _gradient()
    del gradient
    pid = os.fork()
    if pid == 0:  # the child: no test runner's clean-up
        torch.set_num_threads(1)
        os._exit(0 if _gradient()[0] != 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
