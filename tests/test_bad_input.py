"""Every argument of every function, wrong: what is said, by the kernels and by the reference."""

import re
from functools import partial

import pytest
import torch
from bad_calls import CALLS, elsewhere, floats, integers, ones, wide
from bad_calls_of_estimators import CALLS as OF_ESTIMATORS
from cases import CASES, each_case

import vae_fast as vf
from vae_fast.engine.reference import evaluate
from vae_fast.engine.table import LOSSES

dense = torch.ones(2, 3, device="cpu")


# How a bad tensor for one operand of a loss is answered.
BAD_OPERANDS = {
    "type": ([1.0], TypeError, "{name} is of type list, expected torch.Tensor"),
    "none": (None, TypeError, "{name} is of type NoneType, expected torch.Tensor"),
    "dtype": (integers.short(), TypeError, "{name} has dtype torch.int16, expected float32"),
    "complex": (ones.cfloat(), TypeError, "{name} has dtype torch.complex64, expected float32"),
    "sparse": (dense.to_sparse(), TypeError, "{name} is a tensor of layout sparse_coo, expected a"),
    "rows": (dense.to_sparse_csr(), TypeError, "{name} is a tensor of layout sparse_csr"),
    "nested": (
        torch.nested.nested_tensor([dense, dense]),
        TypeError,
        "{name} is a tensor of layout",
    ),
    "shape": (wide, ValueError, "has shape"),
    "device": (elsewhere, ValueError, "is on"),
}


def check(call, exception, message):
    with pytest.raises(exception, match=re.escape(message)) as raised:
        call()
    said = str(raised.value)
    assert "\n" not in said  # a sentence, not a C++ stack
    assert "Exception raised from" not in said


@pytest.mark.parametrize("kind", BAD_OPERANDS)
@pytest.mark.parametrize("case", **each_case)
def test_every_operand(case, kind, backend):
    bad, exception, message = BAD_OPERANDS[kind]
    for k, name in enumerate(case.names):
        operands = [ones] * len(case.names)
        operands[k] = bad
        if kind == "none" and name.startswith("prior"):
            continue  # half a prior has its own answer
        if kind == "rows" and name == "target" and LOSSES[case.op].counts:
            continue  # that is read
        check(partial(case.public, *operands), exception, message.format(name=name))


@pytest.mark.parametrize("bad", [integers, torch.ones(2, 3, dtype=torch.uint8)])
@pytest.mark.parametrize("case", [c for c in CASES if not c.has_target], ids=lambda c: c.op)
def test_only_targets_may_be_integers(case, bad, backend):
    for k, name in enumerate(case.names):
        operands = [ones] * len(case.names)
        operands[k] = bad
        function = "gaussian_kl" if case.op.endswith("_kl") else case.op
        message = f"{function}: {name} has dtype {bad.dtype}, {floats}"
        check(partial(case.public, *operands), TypeError, message)


REFUSED = (*CALLS, *OF_ESTIMATORS)


@pytest.mark.parametrize(
    ("call", "exception", "message"), REFUSED, ids=[c[2][:60] for c in REFUSED]
)
def test_message(call, exception, message, backend):
    check(call, exception, message)


BAD_OPERAND_TENSORS = (
    (ones, wide),
    (ones, integers.short()),
    (integers.short(), ones),
    (ones, elsewhere),
    (ones, torch.ones(4)),
)


@pytest.mark.parametrize("bad", BAD_OPERAND_TENSORS)
@pytest.mark.parametrize("case", **each_case)
def test_kernels_and_reference_say_the_same(case, bad):
    """The ops themselves, whose checks are C++."""
    operands = [*bad, *[ones] * (len(case.names) - 2)]
    with pytest.raises((TypeError, ValueError)) as of_reference:
        evaluate(case.op, operands, None, 0, 1)
    with pytest.raises(of_reference.type) as of_kernel:
        getattr(torch.ops.vae_fast, case.op)(*operands, None, 0, 1)
    assert str(of_kernel.value).splitlines()[0] == str(of_reference.value)


@pytest.mark.parametrize(("keep", "mean"), [(-1, 0), (0, -1), (3, 0), (1, 2)])
@pytest.mark.parametrize("case", **each_case)
def test_reductions_of_the_ops(case, keep, mean):
    operands = [ones] * len(case.names)
    with pytest.raises(ValueError, match="do not fit 2 dimensions") as of_reference:
        evaluate(case.op, operands, None, keep, mean)
    with pytest.raises(ValueError, match="do not fit 2 dimensions") as of_kernel:
        getattr(torch.ops.vae_fast, case.op)(*operands, None, keep, mean)
    assert str(of_kernel.value).splitlines()[0] == str(of_reference.value)
    if case.op == "standard_normal_kl":
        with pytest.raises(ValueError, match="do not fit 2 dimensions"):
            torch.ops.vae_fast.reparameterize_kl(ones, ones, None, None, vf.draw_seed(), keep, mean)


def test_the_fallback_says_so_once(monkeypatch):
    from vae_fast.engine import extension

    monkeypatch.delenv("VAE_FAST_BACKEND", raising=False)
    monkeypatch.setattr(extension, "_warned", set())
    with pytest.warns(UserWarning, match="no compiled kernels for device 'mps'"):
        assert extension.use_reference("mps")
    assert extension.use_reference("mps")
    assert not extension.use_reference("cpu")


def test_the_fallback_names_the_wheel_of_the_cuda_kernels(monkeypatch):
    from vae_fast.engine import extension

    monkeypatch.delenv("VAE_FAST_BACKEND", raising=False)
    monkeypatch.setattr(extension, "_warned", set())
    monkeypatch.setattr(extension, "_compiled_devices", {"cpu"})
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.warns(UserWarning, match=rf"pip install vae_fast_cuda13=={vf.__version__}"):
        assert extension.use_reference("cuda")


@pytest.fixture
def distributed():
    """A process group of this process alone; what makes a tensor one of its DTensors."""
    from torch import distributed as dist
    from torch.distributed.tensor import distribute_tensor, init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    yield lambda x: distribute_tensor(x, mesh)
    dist.destroy_process_group()


def test_distributed_tensors(distributed):
    one = distributed(dense)
    message = "{} is a DTensor, expected a tensor of this process: give its to_local()"
    check(lambda: vf.bernoulli_nll(one, dense), TypeError, message.format("bernoulli_nll: logits"))
    check(lambda: vf.reparameterize(one, one), TypeError, message.format("reparameterize: mu"))
    check(lambda: vf.gaussian_kl(dense, one), TypeError, message.format("gaussian_kl: logvar"))
    check(
        lambda: vf.linear_nll(dense, distributed(torch.ones(3, 3)), None, dense),
        TypeError,
        message.format("linear_nll: weight"),
    )
