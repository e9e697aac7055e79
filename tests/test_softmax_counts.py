"""Likelihoods of counts by rows: means that are shares of a total, targets in CSR."""

import warnings
from functools import partial

import pytest
import torch
from cases import CASE_OF_OP, exactly
from tolerance import Comparison

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.engine.counts import LEAST_MEAN
from vae_fast.engine.table import LOSSES

COUNTS = [op for op, loss in LOSSES.items() if loss.counts]
FUNCTIONS = [
    f"{kind}{name}_nll" for name in ("poisson", "negative_binomial") for kind in ("", "inflated_")
]
of_csr = pytest.mark.torch_devices_only  # the emulated one makes none
each_function = pytest.mark.parametrize("name", FUNCTIONS)
# Within a tile, several tiles, one element; of events of two dimensions; of samples.
SHAPES = [(7, 5), (3, 2500), (5, 1), (4, 3, 30), (2, 3, 40)]


def fused(name, logits, target, library, *others, **settings):
    """The public function; behind the library theta, where there is one, and zero_logits."""
    *theta, zero_logits = others if "inflated" in name else (*others, None)
    function = vf.softmax_negative_binomial_nll if "binomial" in name else vf.softmax_poisson_nll
    return function(logits, target, library, *theta, zero_logits=zero_logits, **settings)


def composed(name, logits, target, library, *others, **settings):
    """The same by the definition, from the elementwise functions."""
    event = logits.dim() - settings.get("batch_dims", 1)
    shares = torch.log_softmax(logits.flatten(-event), -1).view_as(logits)
    log_mean = torch.log(library) + shares
    first = torch.exp(log_mean) if "binomial" in name else log_mean
    op = name.replace("inflated", "zero_inflated")
    return getattr(vf, op)(first, target, *others, **settings)


def draw(name, shape, dtype=torch.float64, batch_dims=1):
    """Logits, target, library, and what the function takes beside; the first has a row of zeros."""
    event = shape[batch_dims:]
    logits = 2 * torch.randn(shape, dtype=torch.float64)
    target = torch.poisson(torch.full(shape, 0.6, dtype=torch.float64))
    target.view(-1, *event)[0] = 0
    library = 1.0 + target.sum(tuple(range(batch_dims, len(shape))), keepdim=True)
    others = [torch.rand(event, dtype=torch.float64) + 0.3] if "binomial" in name else []
    if "inflated" in name:
        others.append(torch.randn(shape, dtype=torch.float64))
    return [x.to(dtype) for x in (logits, target, library, *others)]


def in_csr(x, index=torch.int64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, that CSR is new
        csr = x.to_sparse_csr()
        parts = csr.crow_indices().to(index), csr.col_indices().to(index), csr.values()
        return torch.sparse_csr_tensor(*parts, x.shape)


def gradients(function, tensors):
    """The value, and its gradient in each tensor but the second, the target."""
    tensors = [x if k == 1 else x.detach().requires_grad_() for k, x in enumerate(tensors)]
    value = function(*tensors)
    weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    found = torch.autograd.grad(value, [x for k, x in enumerate(tensors) if k != 1], weights)
    return [value.detach(), *found]


@each_function
@pytest.mark.parametrize("reduction", ["none", "sample", "sum", "batchmean", "mean"])
def test_it_is_the_composition(backend, name, reduction):
    torch.manual_seed(0)
    for shape in SHAPES:
        batch_dims = 2 if shape == SHAPES[-1] else 1
        tensors = draw(name, shape, batch_dims=batch_dims)
        if batch_dims == 2:  # samples of z, which the target does not have
            tensors[1] = tensors[1][0]
        settings = {"batch_dims": batch_dims, "reduction": reduction}
        ours, theirs = (gradients(partial(f, name, **settings), tensors) for f in (fused, composed))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.of_the_kernels
@each_function
@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_of_its_own_computes_it(name, shape):
    """Also on a GPU, whatever the shape: the composition's node has another name."""
    logits, *others = draw(name, shape)
    mask = torch.rand(shape[:1] + (1,) * (len(shape) - 2) + shape[-1:]) < 0.5
    value = fused(name, logits.requires_grad_(), *others, mask=mask)
    assert value.grad_fn.name() == "VaeFastBackward[counts_nll]"


@each_function
@pytest.mark.parametrize("target", [torch.uint8, torch.bool, torch.int32, torch.int64])
def test_whole_number_targets(backend, name, target):
    torch.manual_seed(0)
    tensors = draw(name, (6, 700), torch.float32)
    if target is torch.bool:
        tensors[1] = (tensors[1] > 0).float()
    expected = gradients(partial(fused, name), tensors)
    tensors[1] = tensors[1].to(target)
    for a, b in zip(gradients(partial(fused, name), tensors), expected, strict=True):
        assert torch.equal(a, b)


@each_function
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients(backend, name, dtype):
    comparison = Comparison()
    for seed in range(5):
        torch.manual_seed(seed)
        tensors = draw(name, (4, 1500), dtype)
        # The sums of a row are of terms of the order of what the largest has.
        wide = [x.float() for x in tensors]
        ours = gradients(partial(fused, name), tensors)
        theirs = gradients(partial(composed, name), wide)
        exact = gradients(partial(composed, name), [x.double() for x in tensors])
        for k, (a, b, c) in enumerate(zip(ours, theirs, exact, strict=True)):
            magnitude = exactly(c.abs().amax()) + 0 * exactly(c)
            comparison.add(str(k), a, b, exactly(c), magnitude=magnitude, stored=magnitude)
    comparison.check()


@each_function
def test_mask_and_strides(backend, name):
    torch.manual_seed(0)
    tensors = draw(name, (4, 3, 30))
    mask = torch.rand(4, 1, 30) < 0.5
    ours, theirs = (gradients(partial(f, name, mask=mask), tensors) for f in (fused, composed))
    strided = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in tensors]
    again = gradients(partial(fused, name, mask=mask), strided)
    for a, b, c in zip(ours, again, theirs, strict=True):
        torch.testing.assert_close(a, c, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(b, c, rtol=1e-11, atol=1e-12)


@of_csr
@each_function
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_a_target_in_csr(backend, name, index):
    torch.manual_seed(0)
    tensors = draw(name, (6, 2500), torch.float32)
    dense = gradients(partial(fused, name), tensors)
    for dtype in (torch.float32, torch.int64, torch.uint8):
        tensors[1] = in_csr(tensors[1].to(dtype), index)
        for a, b in zip(gradients(partial(fused, name), tensors), dense, strict=True):
            assert torch.equal(a, b)
        tensors[1] = tensors[1].to_dense()


@of_csr
@pytest.mark.parametrize("op", COUNTS)
def test_every_likelihood_of_counts_reads_csr(backend, op):
    torch.manual_seed(0)
    case = CASE_OF_OP[op]
    operands = [x((4, 1300)).float() for x in case.draws]
    operands[-1] = torch.where(torch.rand(4, 1300) < 0.8, 0, operands[-1].round())
    for reduction in ("none", "sample", "batchmean"):
        results = []
        for target in (operands[-1], in_csr(operands[-1])):
            parameters = [x.detach().requires_grad_() for x in operands[:-1]]
            value = case.public(*parameters, target, reduction=reduction)
            results.append([value, *torch.autograd.grad(value.sum(), parameters)])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def csr_of(columns, values, starts=(0, 2, 3)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            torch.tensor(starts), torch.tensor(columns), torch.tensor(values), (2, 4)
        )


@of_csr
def test_csr_as_others_leave_it(backend):
    log_rate, dense = torch.zeros(2, 4), torch.tensor([[0.0, 1.0, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0]])
    expected = vf.poisson_nll(log_rate, dense)
    assert vf.poisson_nll(log_rate, csr_of([1, 3, 0], [1.0, 2.0, 3.0])) == expected
    assert vf.poisson_nll(log_rate, csr_of([3, 1, 0], [2.0, 1.0, 3.0])) == expected  # not sorted


@of_csr
@pytest.mark.parametrize(
    ("columns", "starts"), [([1, 4, 0], (0, 2, 3)), ([1, -1, 0], (0, 2, 3)), ([1, 3, 0], (0, 4, 3))]
)
def test_csr_that_reaches_beyond_its_shape(columns, starts):
    with torch.sparse.check_sparse_tensor_invariants(False):
        broken = csr_of(columns, [1.0, 2.0, 3.0], starts)
    with pytest.raises(ValueError, match="crow_indices or col_indices lie outside"):
        vf.poisson_nll(torch.zeros(2, 4), broken)


@each_function
def test_derivatives_of_any_order(backend, name):
    torch.manual_seed(0)
    tensors = draw(name, (3, 4))
    target = tensors.pop(1)
    tensors = [x.requires_grad_() for x in tensors]

    def function(logits, *others):
        return fused(name, logits, target, *others, reduction="sample")

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)
    in_logits = partial(fused, name)
    found = torch.func.grad(in_logits)(tensors[0], target, *tensors[1:])
    torch.testing.assert_close(
        found, torch.autograd.grad(fused(name, tensors[0], target, *tensors[1:]), tensors[0])[0]
    )
    each = torch.func.vmap(
        partial(fused, name, batch_dims=0), (0, 0, 0) + (None,) * len(others_of(name))
    )
    if "inflated" not in name:
        rows = each(tensors[0], target, *tensors[1:])
        torch.testing.assert_close(rows, function(*tensors))


def others_of(name):
    return ["theta"] if "binomial" in name else []


@each_function
def test_compiled(name):
    torch.manual_seed(0)
    tensors = draw(name, (3, 50), torch.float32)
    compiled = torch.compile(partial(fused, name), fullgraph=True, backend="aot_eager")
    for a, b in zip(
        gradients(compiled, tensors), gradients(partial(fused, name), tensors), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6)


@each_function
def test_extremes(backend, name):
    logits = torch.tensor([[0.0, -200.0, 3.0], [5e4, -5e4, 0.0], [1.0, 1.0, -torch.inf]])
    target = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1e7, 3.0], [0.0, 0.0, 0.0]])
    library = torch.tensor([[3.0], [1e7], [0.0]])
    others = [torch.tensor([1e-8, 1.0, 1e10])] if "binomial" in name else []
    if "inflated" in name:
        others.append(torch.tensor([[0.0, -80.0, 80.0]]).expand(3, 3))
    results = gradients(
        partial(fused, name, reduction="sample"), [logits, target, library, *others]
    )
    assert all(torch.isfinite(x).all() for x in results[:3])
    # Nothing is counted of a total of nothing, in the third row: it costs nothing.
    assert results[0][2] <= 3 * LEAST_MEAN


@each_function
@pytest.mark.parametrize("which", ["a logit", "a count", "the library"])
def test_not_a_number_stays_one(backend, name, which):
    tensors = draw(name, (3, 37), torch.float32)
    spoilt = ("a logit", "a count", "the library").index(which)
    tensors[spoilt][1, 0] = torch.nan
    value, to_logits, *_ = gradients(partial(fused, name, reduction="sample"), tensors)
    assert value.isnan().tolist() == [False, True, False]
    assert to_logits[1].isnan().any()
    assert to_logits[::2].isfinite().all()


@pytest.mark.of_the_kernels
@each_function
def test_every_instruction_set_and_number_of_threads(name, cpu_threads, cpu_capability):
    torch.manual_seed(0)
    tensors = draw(name, (40, 1700), torch.float32)
    expected = gradients(partial(fused, name), tensors)
    cpu_threads(1)
    for a, b in zip(gradients(partial(fused, name), tensors), expected, strict=True):
        assert torch.equal(a, b)
    for capability in extension.C.cpu_capabilities():
        cpu_capability(capability)
        for a, b in zip(gradients(partial(fused, name), tensors), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=3e-5, atol=1e-5)


def check(exception, message, *args, **settings):
    with pytest.raises(exception, match=message):
        vf.softmax_negative_binomial_nll(*args, **settings)


def test_bad_input(backend):
    logits, x = torch.zeros(2, 3), torch.ones(2, 3)
    total, theta = torch.ones(2, 1), torch.ones(3)
    check(
        ValueError, r"library has shape \(2,\), expected \(2, 1\)", logits, x, torch.ones(2), theta
    )
    check(TypeError, "library is of type str", logits, x, "1", theta)
    check(ValueError, "theta has shape", logits, x, total, torch.ones(4))
    check(ValueError, "target has shape", logits, x[:, :2], total, theta)
    check(
        ValueError, "batch_dims is 2, expected less than 2", logits, x, total, theta, batch_dims=2
    )
    check(TypeError, "zero_logits is of type", logits, x, total, theta, zero_logits=1.0)
    check(ValueError, "reduction is 'all'", logits, x, total, theta, reduction="all")


@of_csr
def test_csr_where_all_is_event(backend):
    logits, csr, one = torch.zeros(2, 3), in_csr(torch.ones(2, 3)), torch.ones(1, 1)
    check(ValueError, "target is in CSR", logits, csr, one, torch.ones(3), batch_dims=0)


@of_csr
def test_the_bound_of_a_target_in_csr(backend):
    torch.manual_seed(0)
    x = torch.poisson(torch.full((3, 40), 0.5))
    params, mu = (torch.rand(3, 40), torch.rand(40)), torch.zeros(3, 2)
    dense, sparse = (
        vf.elbo_loss(params, target, mu, mu, likelihood="negative_binomial")
        for target in (x, in_csr(x))
    )
    torch.testing.assert_close(sparse, dense)
    with pytest.raises(
        TypeError, match="target is a tensor of layout sparse_csr, expected a dense"
    ):
        vf.elbo_loss(params[0], in_csr(x), mu, mu, likelihood="bernoulli")
