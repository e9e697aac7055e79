"""Every argument of every function, wrong: what is said, by the kernels and by the reference."""

import re
from functools import partial

import pytest
import torch
from cases import CASES, each_case

import vae_fast as vf
from vae_fast.engine.reference import evaluate
from vae_fast.engine.table import LOSSES

ones = torch.ones(2, 3)
dense = torch.ones(2, 3, device="cpu")
wide = torch.ones(3, 4)
integers = torch.ones(2, 3, dtype=torch.int64)
elsewhere = torch.ones(2, 3, device="meta")
floats = "expected float32, float64, bfloat16 or float16"

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


# What each function says: the call, the exception, the message.
CALLS = (
    (
        lambda: vf.bernoulli_nll(ones, wide),
        ValueError,
        "bernoulli_nll: target has shape (3, 4), "
        "expected a shape that broadcasts with logits (2, 3)",
    ),
    (
        lambda: vf.bernoulli_nll(ones, elsewhere),
        ValueError,
        f"bernoulli_nll: target is on meta, expected {ones.device} like logits",
    ),
    (
        lambda: vf.bernoulli_nll(ones, integers),
        TypeError,
        "bernoulli_nll: target has dtype torch.int64, "
        "expected float32, float64, bfloat16, float16, uint8 or bool",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=ones),
        TypeError,
        "bernoulli_nll: mask has dtype torch.float32, expected bool",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=wide > 0),
        ValueError,
        "bernoulli_nll: mask has shape (3, 4), expected a shape that broadcasts with logits (2, 3)",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=[True]),
        TypeError,
        "bernoulli_nll: mask is of type list, expected torch.Tensor",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, mask=elsewhere > 0),
        ValueError,
        f"bernoulli_nll: mask is on meta, expected {ones.device} like logits",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, reduction="average"),
        ValueError,
        "bernoulli_nll: reduction is 'average', "
        "expected 'none', 'sample', 'sum', 'batchmean' or 'mean'",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, reduction=None),
        TypeError,
        "gaussian_nll: reduction is of type NoneType, expected str",
    ),
    (
        lambda: vf.bernoulli_nll(ones, ones, batch_dims=3),
        ValueError,
        "bernoulli_nll: batch_dims is 3, expected 0 to 2, the number of dimensions",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, batch_dims=-1, reduction="sample"),
        ValueError,
        "gaussian_kl: batch_dims is -1, expected 0 to 2, the number of dimensions",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, batch_dims=1.0),
        TypeError,
        "gaussian_nll: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, "0"),
        TypeError,
        "gaussian_nll: logvar is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, ones),
        ValueError,
        "gaussian_kl: prior_logvar is missing, expected both or neither",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, None, ones),
        ValueError,
        "reparameterize_kl: prior_mu is missing, expected both or neither",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=-0.5),
        ValueError,
        "gaussian_kl: free_bits is -0.5, expected at least 0 (nats)",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=float("nan")),
        ValueError,
        "gaussian_kl: free_bits is nan, expected at least 0 (nats)",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits="1"),
        TypeError,
        "gaussian_kl: free_bits is of type str, expected float",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits_per="batch"),
        ValueError,
        "gaussian_kl: free_bits_per is 'batch', expected 'dimension' or 'sample'",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, reduction="sample"),
        ValueError,
        "gaussian_kl: reduction is 'sample', which keeps the batch",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, reduction="all"),
        ValueError,
        "gaussian_kl: reduction is 'all', expected 'none'",
    ),
    (
        lambda: vf.gaussian_kl(ones, ones, free_bits=1.0, batch_dims=3),
        ValueError,
        "gaussian_kl: batch_dims is 3, expected 0 to 2",
    ),
    (
        lambda: vf.reparameterize(ones, wide),
        ValueError,
        "reparameterize: logvar has shape (3, 4), expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, "0"),
        TypeError,
        "reparameterize: logvar is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(0.0, ones),
        TypeError,
        "reparameterize: mu is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(integers, ones),
        TypeError,
        f"reparameterize: mu has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=0),
        ValueError,
        "reparameterize: num_samples is 0, expected at least 1",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=2.0),
        TypeError,
        "reparameterize: num_samples is of type float, expected int or None",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, num_samples=-1),
        ValueError,
        "reparameterize_kl: num_samples is -1, expected at least 1",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=torch.Generator(), seed=1),
        ValueError,
        "reparameterize: generator and seed are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, generator=7),
        TypeError,
        "reparameterize_kl: generator is of type int, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=[torch.Generator()]),
        ValueError,
        "reparameterize: generator is a list of 1, expected 2: one for each entry of the first "
        "dimension of mu (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones[0, 0], ones[0, 0], generator=[torch.Generator()]),
        ValueError,
        "reparameterize: generator is a list of 1, expected 0",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, generator=[torch.Generator(), 7]),
        TypeError,
        "reparameterize_kl: generator[1] is of type int, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=(torch.Generator(), None)),
        TypeError,
        "reparameterize: generator[1] is None, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, num_samples=2, generator=[torch.Generator()] * 2),
        ValueError,
        "reparameterize: num_samples and a list as generator are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, num_samples=2, generator=[torch.Generator()] * 2),
        ValueError,
        "reparameterize_kl: num_samples and a list as generator are both given",
    ),
    (
        lambda: vf.reparameterize(ones, ones, generator=[torch.Generator()] * 2, seed=1),
        ValueError,
        "reparameterize: generator and seed are both given, expected at most one",
    ),
    (
        lambda: vf.draw_seed([]),
        ValueError,
        "draw_seed: generator is an empty list, expected one or more",
    ),
    (
        lambda: vf.draw_seed([torch.Generator(), "cpu"]),
        TypeError,
        "draw_seed: generator[1] is of type str, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=torch.zeros(4, 2, dtype=torch.int64)),
        ValueError,
        "reparameterize: seed has shape (4, 2), expected (1, 2), or (R, 2): one row for each of R "
        "equal parts of z of shape (2, 3), in order",
    ),
    (
        lambda: vf.reparameterize(ones),
        TypeError,
        "reparameterize: logvar is of type NoneType, expected torch.Tensor or a number, or scale",
    ),
    (
        lambda: vf.gaussian_kl(ones),
        TypeError,
        "gaussian_kl: logvar is of type NoneType, expected torch.Tensor or a number, or scale",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, scale=1.0),
        ValueError,
        "reparameterize_kl: logvar and scale are both given, expected one of them",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, ones, scale=ones),
        ValueError,
        "gaussian_nll: logvar and scale are both given, expected one of them",
    ),
    (
        lambda: vf.gaussian_nll(ones, ones, scale=wide),
        ValueError,
        "gaussian_nll: scale has shape (3, 4), expected a shape that broadcasts with mean (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, scale=ones[None]),
        ValueError,
        "reparameterize: scale has shape (1, 2, 3), expected one that broadcasts to that of mu",
    ),
    (
        lambda: vf.gaussian_kl(ones, scale="1"),
        TypeError,
        "gaussian_kl: scale is of type str, expected torch.Tensor",
    ),
    (
        lambda: vf.gaussian_kl(ones, scale=integers),
        TypeError,
        f"gaussian_kl: scale has dtype torch.int64, {floats}",
    ),
    (
        lambda: vf.reparameterize_kl(1.0, scale=1.0),
        TypeError,
        "reparameterize_kl: mu is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=1.0),
        TypeError,
        "reparameterize: noise is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=wide),
        ValueError,
        "reparameterize: noise has shape (3, 4), expected (2, 3)",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, seed=1),
        ValueError,
        "reparameterize: noise and seed are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, num_samples=2),
        ValueError,
        "reparameterize: noise and num_samples are both given, expected at most one",
    ),
    (
        lambda: vf.reparameterize(ones, ones, noise=ones, generator=torch.Generator()),
        ValueError,
        "reparameterize: noise and generator are both given, expected at most one",
    ),
    (
        lambda: vf.draw_seed("cpu"),
        TypeError,
        "draw_seed: generator is of type str, expected torch.Generator",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=2.0),
        TypeError,
        "reparameterize: seed is of type float, expected int or what draw_seed() returns",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=2**63),
        ValueError,
        "reparameterize: seed is 9223372036854775808, expected an integer of 64 bits",
    ),
    (
        lambda: vf.reparameterize(ones, ones, seed=torch.zeros(2, dtype=torch.int64)),
        ValueError,
        "reparameterize: seed has shape (2,), expected (1, 2), or (R, 2): one row for each of R "
        "equal parts of z of shape (2, 3), in order",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, seed=torch.zeros(1, 2)),
        TypeError,
        "reparameterize_kl: seed has dtype torch.float32, expected int64",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, reduction="batch"),
        ValueError,
        "reparameterize_kl: reduction is 'batch', expected 'none'",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, batch_dims=3),
        ValueError,
        "reparameterize_kl: batch_dims is 3, expected 0 to 2",
    ),
    (
        lambda: vf.reparameterize_kl(ones, ones, ones, wide),
        ValueError,
        "reparameterize_kl: prior_logvar has shape (3, 4), "
        "expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood="poison"),
        ValueError,
        "elbo_loss: likelihood is 'poison', expected 'bernoulli', ",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood=None),
        TypeError,
        "elbo_loss: likelihood is of type NoneType, expected str",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, beta="1"),
        TypeError,
        "elbo_loss: beta is of type str, expected float or Tensor",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, reduction="none"),
        ValueError,
        "elbo_loss: reduction is 'none', expected 'sample', 'sum', 'batchmean' or 'mean'",
    ),
    (
        lambda: vf.elbo_loss(1.0, ones, ones, ones),
        TypeError,
        "elbo_loss: params is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.elbo_loss((), ones, ones, ones),
        ValueError,
        "elbo_loss: params is empty, expected a tensor or a tuple of tensors",
    ),
    (
        lambda: vf.elbo_loss((ones, ones), ones, ones, ones),
        ValueError,
        "elbo_loss: params has 2 tensors, expected 1 for 'bernoulli'",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, likelihood="negative_binomial"),
        ValueError,
        "elbo_loss: params has 1 tensors, expected 2 for 'negative_binomial'",
    ),
    (
        lambda: vf.elbo_loss((ones,) * 3, ones, ones, ones, likelihood="gaussian"),
        ValueError,
        "elbo_loss: params has 3 tensors, expected 1 or 2 for 'gaussian'",
    ),
    (
        lambda: vf.elbo_loss(ones, 1.0, ones, ones),
        TypeError,
        "elbo_loss: target is of type float, expected torch.Tensor",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, wide),
        ValueError,
        "gaussian_kl: logvar has shape (3, 4), expected a shape that broadcasts with mu (2, 3)",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, elsewhere, 0.3),
        ValueError,
        "elbo_loss: mu is on meta, expected",
    ),
    (
        lambda: vf.elbo_loss(ones, ones, ones, ones, batch_dims=1.5),
        TypeError,
        "elbo_loss: batch_dims is of type float, expected int",
    ),
    (
        lambda: vf.ELBOLoss("poison"),
        ValueError,
        "ELBOLoss: likelihood is 'poison', expected 'bernoulli', ",
    ),
    (
        lambda: vf.ELBOLoss(reduction="avg"),
        ValueError,
        "ELBOLoss: reduction is 'avg', expected 'none'",
    ),
    (
        lambda: vf.ELBOLoss(free_bits=-1.0),
        ValueError,
        "ELBOLoss: free_bits is -1.0, expected at least 0 (nats)",
    ),
)


@pytest.mark.parametrize(("call", "exception", "message"), CALLS, ids=[c[2][:60] for c in CALLS])
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
