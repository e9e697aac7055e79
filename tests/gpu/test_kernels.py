"""What only a GPU can show of the ops: its streams, its graphs, its size, and the CPU's results."""

import math

import pytest
import torch
from cases import CASES, each_case, each_dtype

import vae_fast as vf


def on_cpu(tensors):
    return [x.detach().cpu().requires_grad_(x.requires_grad) for x in tensors]


@pytest.mark.parametrize("dtype", **each_dtype)
@pytest.mark.parametrize("case", **each_case)
def test_losses_are_those_of_the_cpu(case, dtype):
    """Both are within the tests' tolerance of the truth, so they are near each other."""
    tensors = [d((33, 700)).to(dtype).requires_grad_() for d in case.draws]
    value = case.public(*tensors, reduction="sample")
    expected = case.public(*(copies := on_cpu(tensors)), reduction="sample")
    near = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 8 * torch.finfo(dtype).eps}
    if dtype in (torch.float32, torch.float64):
        near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(value.cpu(), expected, **near)
    gradients = torch.autograd.grad(value.sum(), tensors)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected.sum(), copies), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, **near)


@pytest.mark.parametrize("dtype", **each_dtype)
@pytest.mark.parametrize("classes", [3, 509, 1024, 20_000])
def test_the_multinomial_is_that_of_the_cpu(dtype, classes):
    logits = (3 * torch.randn(33, classes)).to(dtype).requires_grad_()
    target = torch.poisson(torch.full((33, classes), 0.5)).to(torch.uint8)
    value = vf.multinomial_nll(logits, target, reduction="sample")
    (on_host,) = on_cpu([logits])
    expected = vf.multinomial_nll(on_host, target.cpu(), reduction="sample")
    rtol = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(value.cpu(), expected, rtol=rtol, atol=0)
    (ours,), (theirs,) = (
        torch.autograd.grad(x.sum(), y) for x, y in ((value, logits), (expected, on_host))
    )
    # A gradient is the difference of two terms of up to its row's count; then it is rounded.
    atol, stored = rtol * target.sum(-1).max().item(), 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours.cpu(), theirs, rtol=max(rtol, stored), atol=atol)


@pytest.mark.parametrize("dtype", **each_dtype)
def test_one_seed_gives_one_z_on_both(dtype):
    mu, logvar = torch.randn(301, 331, dtype=dtype), torch.randn(301, 331, dtype=dtype)
    near = 4 * torch.finfo(dtype).eps if dtype.itemsize == 2 else 2e-6
    z = vf.reparameterize_kl(mu, logvar, seed=5)[0]
    expected = vf.reparameterize_kl(mu.cpu(), logvar.cpu(), seed=5)[0]
    torch.testing.assert_close(z.cpu(), expected, rtol=near, atol=near)
    generator = torch.Generator().manual_seed(3)
    z = vf.reparameterize(mu, logvar, generator=generator)
    expected = vf.reparameterize(mu.cpu(), logvar.cpu(), generator=generator.manual_seed(3))
    torch.testing.assert_close(z.cpu(), expected, rtol=near, atol=near)


def test_sums_are_deterministic():
    logits, target = torch.randn(512, 3072), torch.rand(512, 3072)
    values = [vf.bernoulli_nll(logits, target, reduction="sum") for _ in range(20)]
    assert all(torch.equal(value, values[0]) for value in values)


def whole_step(logits, target, mu, logvar):
    """Forward and backward of everything; z, the losses, the gradients."""
    z, kl = vf.reparameterize_kl(mu, logvar)
    nll = vf.bernoulli_nll(logits, target) + vf.multinomial_nll(logits, target)
    gradients = torch.autograd.grad(nll + kl + z.sum(), (logits, mu, logvar))
    return [x.detach() for x in (z, kl, nll, *gradients)]  # no graph is kept alive


@pytest.fixture
def operands():
    logits = torch.randn(64, 784, requires_grad=True)
    mu, logvar = (torch.randn(64, 20, requires_grad=True) for _ in range(2))
    return logits, torch.rand(64, 784), mu, logvar


def test_nothing_waits_for_the_device(operands):
    whole_step(*operands)  # what is set up once may
    torch.cuda.set_sync_debug_mode("error")
    try:
        whole_step(*operands)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_another_stream(operands):
    torch.manual_seed(2)
    expected = whole_step(*operands)
    torch.manual_seed(2)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        actual = whole_step(*operands)
    torch.cuda.current_stream().wait_stream(stream)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


def test_a_graph_draws_anew_in_every_replay(operands):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        whole_step(*operands)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = whole_step(*operands)

    def replays():
        torch.manual_seed(4)
        for _ in range(3):
            graph.replay()
            yield [x.clone() for x in recorded]

    first = list(replays())
    assert not torch.equal(first[0][0], first[1][0])
    for actual, expected in zip(replays(), first, strict=True):
        assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_operands_on_two_devices_are_named(case):
    *others, last = [d((2, 3)).float() for d in case.draws]
    with pytest.raises(ValueError, match=rf"{case.names[-1]} is on cpu, expected cuda:0"):
        case.public(*others, last.cpu())


def test_more_elements_than_32_bits_count():
    """One in the last row, 2^31 elements from the first, must be found; 2 GiB of target."""
    rows, columns = 2**25 + 3, 64
    target = torch.zeros(rows, columns, dtype=torch.uint8)
    target[-1, -1] = 255
    logits = torch.full((1, columns), 1.0, dtype=torch.bfloat16).expand(rows, -1)
    value = vf.bernoulli_nll(logits, target, reduction="sample")
    softplus = 1.31326168752  # of 1
    torch.testing.assert_close(value[-1].item(), columns * softplus - 1, rtol=1e-2, atol=0)
    torch.testing.assert_close(value[0].item(), columns * softplus, rtol=1e-2, atol=0)
    assert (value[:-1] == value[0]).all()
    assert value[-1] != value[0]


def test_more_counts_than_32_bits_count():
    """The same of the multinomial; its logits are one row for all."""
    rows, columns = 2**25 + 3, 64
    target = torch.zeros(rows, columns, dtype=torch.uint8)
    target[-1, -1] = 255
    logits = torch.zeros(1, columns, dtype=torch.bfloat16).expand(rows, -1)
    value = vf.multinomial_nll(logits, target, reduction="sample")
    torch.testing.assert_close(value[-1].item(), 255 * math.log(columns), rtol=1e-6, atol=0)
    assert not value[:-1].any()
