"""Pairs of data and components: mixtures, the aggregated posterior, MMD, HSIC, the nearest code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import exactly
from device import DEVICE
from tolerance import Comparison
from torch import Tensor

import vae_fast as vf
from vae_fast.engine import extension, pairs

# Rows, components, numbers: of one, that fill no lane and no block, that begin a second of either.
_SIZES = [(1, 1, 1), (7, 5, 3), (9, 257, 2), (66, 65, 33), (130, 300, 40)]
_OPERANDS = ("x", "mean", "logvar", "log_weights")


def _draw(rows: int, components: int, dims: int, dtype: torch.dtype) -> list[Tensor]:
    """Components among the data, so that several answer for each."""
    x = torch.randn(rows, dims)
    mean = 0.3 * torch.randn(components, dims)
    logvar = 1 + 0.5 * torch.randn(components, dims)
    weights = torch.randn(1, components).log_softmax(1)
    return [y.to(dtype).to(DEVICE) for y in (x, mean, logvar, weights)]


def _exact(operands: list[Tensor], upstream: Tensor, marginal: bool) -> list[np.ndarray]:
    """The value and the gradients, in long double."""
    x, m, v, w = map(exactly, operands)
    up = exactly(upstream)
    t = (x[:, None] - m) * np.exp(-v / 2)
    each = -(t * t + v + np.log(2 * np.longdouble(math.pi))) / 2
    each = (each if marginal else each.sum(2, keepdims=True)) + w[:, :, None]
    largest = each.max(1, keepdims=True)
    value = largest + np.log(np.exp(each - largest).sum(1, keepdims=True))
    share = np.exp(each - value) * (up[:, None] if marginal else up[:, None, None])
    to_x = share * t * np.exp(-v / 2)
    value = value[:, 0] if marginal else value[:, 0, 0]
    return [
        value,
        -to_x.sum(1),
        to_x.sum(0),
        (share * (t * t - 1) / 2).sum(0),
        share.sum((0, 2))[None],
    ]


@pytest.mark.parametrize("marginal", [False, True], ids=["joint", "marginal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("sizes", _SIZES, ids=str)
def test_densities_are_exact(sizes, dtype, marginal):
    comparison = Comparison()
    for seed in range(6):
        torch.manual_seed(seed)
        operands = _draw(*sizes, dtype)
        results = []
        for function in (
            lambda *given: pairs.log_sum_exp(*given, marginal=marginal),
            lambda *given: pairs._plain_log_sum_exp(*given, marginal),
        ):
            leaves = [x.clone().requires_grad_() for x in operands]
            value = function(*leaves)
            upstream = torch.linspace(-1, 2, value.numel(), dtype=dtype, device=DEVICE)
            upstream = upstream.reshape(value.shape)
            results.append([value, *torch.autograd.grad(value, leaves, upstream)])
        for name, ours, torchs, exact in zip(
            ("value", *_OPERANDS), *results, _exact(operands, upstream, marginal), strict=True
        ):
            size = np.full_like(exact, np.abs(exact).mean())
            comparison.add(name, ours, torchs, exact, np.maximum(np.abs(exact), size))
    comparison.check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_is_read_as_it_is_and_summed_in_float32(dtype):
    torch.manual_seed(0)
    operands = [x.requires_grad_() for x in _draw(33, 70, 9, dtype)]
    value = pairs.log_sum_exp(*operands, marginal=False)
    assert value.dtype == torch.float32
    gradients = torch.autograd.grad(value.sum(), operands)
    leaves = [x.detach().float().requires_grad_() for x in operands]
    expected = pairs._plain_log_sum_exp(*leaves, False)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs, rtol=1e-2, atol=1e-2)


def test_views_and_weights_of_each_row():
    torch.manual_seed(0)
    x, mean, logvar, _ = _draw(20, 30, 8, torch.float32)
    weights = torch.randn(30, 20, device=DEVICE).t()
    heads = torch.cat((mean, logvar), 1)
    mean, logvar = heads.chunk(2, 1)
    for marginal in (False, True):
        leaves = [y.detach().clone() for y in (x, heads)]
        for y in leaves:
            y.requires_grad_()
        value = pairs.log_sum_exp(leaves[0], *leaves[1].chunk(2, 1), weights, marginal=marginal)
        plain = pairs._plain_log_sum_exp(leaves[0], *leaves[1].chunk(2, 1), weights, marginal)
        torch.testing.assert_close(value, plain)
        for ours, theirs in zip(
            torch.autograd.grad(value.sum(), leaves),
            torch.autograd.grad(plain.sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_transposed_table_is_read_as_it_lies():
    x = torch.randn(5, 12, device=DEVICE).t()
    mean = torch.randn(5, 7, device=DEVICE).t()
    value = vf.gaussian_mixture_log_prob(x, mean, 0.0)
    torch.testing.assert_close(
        value, vf.gaussian_mixture_log_prob(x.contiguous(), mean.contiguous(), 0.0)
    )


@pytest.mark.parametrize("marginal", [False, True], ids=["joint", "marginal"])
def test_gradients_of_first_and_second_order(marginal):
    torch.manual_seed(0)
    operands = [x.requires_grad_() for x in _draw(4, 3, 2, torch.float64)]

    def function(*given):
        return pairs.log_sum_exp(*given, marginal=marginal)

    assert torch.autograd.gradcheck(function, operands)
    assert torch.autograd.gradgradcheck(function, operands)


@pytest.mark.parametrize("kernel", pairs.KERNELS)
def test_kernels_and_their_gradients(kernel):
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    y = torch.randn(4, 3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    widths = [0.5, 2.0]

    def function(*given):
        return pairs.kernel_sum(*given, kernel=kernel, widths=widths)

    plain = pairs._plain_kernel_sum(x, y, pairs.KERNELS.index(kernel), widths)
    torch.testing.assert_close(function(x, y), plain)
    assert torch.autograd.gradcheck(function, (x, y))
    assert torch.autograd.gradgradcheck(function, (x, y))


def test_what_is_infinite_or_impossible():
    """Far data, tiny and huge variances, components that are left out."""
    x = torch.tensor([[0.0, 0.0], [1e4, -1e4], [3e19, 0.0]], device=DEVICE, requires_grad=True)
    mean = torch.tensor([[0.0, 0.0], [1e4, -1e4], [5.0, 5.0]], device=DEVICE, requires_grad=True)
    logvar = torch.tensor([[-80.0, 80.0], [0.0, -200.0], [200.0, 0.0]], device=DEVICE)
    logvar.requires_grad_()
    logits = torch.tensor([0.0, 0.0, -math.inf], device=DEVICE)
    value = vf.gaussian_mixture_log_prob(x, mean, logvar, logits)
    own = -math.log(2) - math.log(2 * math.pi)
    assert value[0].item() == pytest.approx(own)  # log-variances that cancel
    assert value[1].item() == pytest.approx(own + 100, rel=1e-6)
    assert value[2].item() == -math.inf
    gradients = torch.autograd.grad(value[:2].sum(), (x, mean, logvar))
    assert all(gradient.isfinite().all() for gradient in gradients)
    none = pairs.log_sum_exp(
        x, mean, logvar, torch.full((1, 3), -math.inf, device=DEVICE), marginal=False
    )
    assert (none == -math.inf).all()
    assert all((g == 0).all() for g in torch.autograd.grad(none.sum(), (x, mean, logvar)))


def test_a_nan_is_not_lost():
    x = torch.zeros(70, 3, device=DEVICE)
    x[5, 1] = math.nan
    mean = torch.zeros(3, 3, device=DEVICE)
    value = vf.gaussian_mixture_log_prob(x, mean, 0.0)
    assert value.isnan().sum() == 1
    assert value[5].isnan()
    assert vf.nearest_code(x, mean)[5] == 0


def test_the_mixture_is_that_of_torch(backend):
    torch.manual_seed(0)
    x, mean = torch.randn(2, 10, 4, device=DEVICE), torch.randn(6, 4, device=DEVICE)
    logvar, logits = torch.randn(6, 4, device=DEVICE), torch.randn(6, device=DEVICE)
    normals = torch.distributions.Independent(
        torch.distributions.Normal(mean, (0.5 * logvar).exp()), 1
    )
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=logits), normals
    )
    torch.testing.assert_close(
        vf.gaussian_mixture_log_prob(x, mean, logvar, logits), mixture.log_prob(x)
    )


def test_em_is_a_gradient():
    """A step of EM from the gradients of the log-likelihood: Bishop 2006, 9.24 to 9.26."""
    torch.manual_seed(0)
    x, mean, logvar, _ = _draw(200, 3, 2, torch.float64)
    logits = torch.zeros(3, dtype=torch.float64, device=DEVICE)
    weights = logits.log_softmax(0).unsqueeze(0).requires_grad_()
    leaves = (weights, mean.requires_grad_(), logvar.requires_grad_())
    total = pairs.log_sum_exp(x, mean, logvar, weights, marginal=False).sum()
    counts, to_mean, to_logvar = torch.autograd.grad(total, leaves)
    counts, variance = counts[0].unsqueeze(1), logvar.exp()
    shift = to_mean * variance / counts
    second = (2 * to_logvar + counts) * variance / counts
    normals = torch.distributions.Normal(mean, variance.sqrt())
    share = (normals.log_prob(x.unsqueeze(1)).sum(2) + weights).softmax(1)
    torch.testing.assert_close(counts.squeeze(1), share.sum(0))
    expected = share.t() @ x / counts
    torch.testing.assert_close(mean + shift, expected)
    spread = torch.einsum("bk,bkd->kd", share, (x.unsqueeze(1) - expected) ** 2) / counts
    torch.testing.assert_close(second - shift**2, spread)


def test_the_aggregated_posterior_of_all_data(backend):
    torch.manual_seed(0)
    mu, logvar = torch.randn(50, 3, device=DEVICE), torch.randn(50, 3, device=DEVICE)
    z = torch.randn(9, 3, device=DEVICE)
    joint, marginals = vf.aggregated_posterior_log_prob(z, mu, logvar)
    each = torch.distributions.Normal(mu, (0.5 * logvar).exp()).log_prob(z.unsqueeze(1))
    torch.testing.assert_close(joint, each.sum(2).logsumexp(1) - math.log(50))
    torch.testing.assert_close(marginals, each.logsumexp(1) - math.log(50))


def test_estimates_from_minibatches_are_unbiased():
    """For q(z) of a datum's own z: over all minibatches with it, of Chen et al. 2018's weights."""
    torch.manual_seed(0)
    size, batch = 6, 3
    mu = torch.randn(size, 1, dtype=torch.float64, device=DEVICE)
    logvar = torch.zeros_like(mu)
    z = mu + torch.randn_like(mu)
    exact, _ = vf.aggregated_posterior_log_prob(z, mu, logvar)
    drawn = []
    others = [(1, k, j) for k in range(size) for j in range(size) if len({0, k, j}) == 3]
    for _, k, j in others:
        rows = torch.tensor([0, k, j], device=DEVICE)
        estimate, _ = vf.aggregated_posterior_log_prob(
            z[rows], mu[rows], logvar[rows], dataset_size=size, stratified=True
        )
        drawn.append(estimate[0].exp())
    assert len(drawn) == (size - 1) * (size - 2)
    assert batch == len(rows)
    torch.testing.assert_close(torch.stack(drawn).mean(), exact[0].exp())
    weighted, _ = vf.aggregated_posterior_log_prob(z, mu, logvar, dataset_size=60)
    torch.testing.assert_close(weighted, exact - math.log(60))


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_mmd_is_its_definition(kernel, backend):
    torch.manual_seed(0)
    x = torch.randn(9, 4, dtype=torch.float64, device=DEVICE)
    y = torch.randn(7, 4, dtype=torch.float64, device=DEVICE) + 1

    def values(a: Tensor, b: Tensor) -> Tensor:
        squares = (a.unsqueeze(1) - b).square().sum(2)
        return sum(
            torch.exp(-squares / (2 * h * h))
            if kernel == "rbf"
            else 8 * h * h / (8 * h * h + squares)
            for h in (0.5, 2.0)
        )

    for unbiased in (False, True):
        within = []
        for a in (x, y):
            own = values(a, a)
            count = len(a)
            if unbiased:
                within.append((own.sum() - own.diagonal().sum()) / (count * (count - 1)))
            else:
                within.append(own.mean())
        expected = within[0] + within[1] - 2 * values(x, y).mean()
        actual = vf.mmd(x, y, kernel=kernel, bandwidths=(0.5, 2.0), unbiased=unbiased)
        torch.testing.assert_close(actual, expected)


def test_hsic_is_its_definition(backend):
    torch.manual_seed(0)
    x = torch.randn(40, 3, device=DEVICE)
    y = 0.2 * x[:, :2] + torch.randn(40, 2, device=DEVICE)
    centre = torch.eye(40, dtype=torch.float64, device=DEVICE) - 1 / 40

    def gram(a: Tensor, width: float) -> Tensor:
        return torch.exp(-(a.double().unsqueeze(1) - a.double()).square().sum(2) / (2 * width))

    expected = torch.trace(gram(x, 3.0) @ centre @ gram(y, 2.0) @ centre) / 40**2
    torch.testing.assert_close(vf.hsic(x, y).double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (33, 5, 3), (70, 300, 64)], ids=str)
def test_the_nearest_code(sizes, backend):
    torch.manual_seed(0)
    rows, codes, dims = sizes
    x, codebook = torch.randn(rows, dims, device=DEVICE), torch.randn(codes, dims, device=DEVICE)
    squares = (x.double().unsqueeze(1) - codebook.double()).square().sum(2)
    index = vf.nearest_code(x, codebook)
    assert index.dtype == torch.int64
    # As near as the nearest one, to rounding.
    chosen = squares.gather(1, index.unsqueeze(1)).squeeze(1)
    assert (chosen <= squares.min(1).values * (1 + 1e-6)).all()


def test_of_equally_near_codes_the_first(backend):
    codebook = torch.zeros(200, 2, device=DEVICE)
    codebook[:70] = 1
    assert vf.nearest_code(torch.zeros(1, 2, device=DEVICE), codebook).item() == 70
    far = torch.full((1, 2), 1e30, device=DEVICE)
    assert vf.nearest_code(far, codebook).item() == 0  # squares beyond float32: all are as far


def test_no_row_at_all():
    mean = torch.randn(3, 2, device=DEVICE, requires_grad=True)
    x = torch.randn(0, 2, device=DEVICE)
    value = vf.gaussian_mixture_log_prob(x, mean, 0.0)
    assert value.shape == (0,)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    assert (gradient == 0).all()
    assert vf.nearest_code(x, mean.detach()).shape == (0,)


def test_every_instruction_set(cpu_capability):
    torch.manual_seed(0)
    operands = [x.requires_grad_() for x in _draw(70, 90, 33, torch.float32)]
    expected = None
    for name in extension.C.cpu_capabilities():
        cpu_capability(name)
        value = pairs.log_sum_exp(*operands, marginal=False)
        results = [value, *torch.autograd.grad(value.sum(), operands)]
        expected = expected or results
        for ours, first in zip(results, expected, strict=True):
            torch.testing.assert_close(ours, first, rtol=1e-4, atol=1e-5)


def test_the_number_of_threads_changes_no_bit(cpu_threads):
    torch.manual_seed(0)
    operands = [x.requires_grad_() for x in _draw(70, 90, 33, torch.float32)]
    results = []
    for threads in (1, 2):
        cpu_threads(threads)
        value = pairs.log_sum_exp(*operands, marginal=False)
        results.append([value, *torch.autograd.grad(value.sum(), operands)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_compiled_without_a_graph_break():
    torch.manual_seed(0)
    x, mean, logvar, _ = (y.requires_grad_() for y in _draw(20, 30, 8, torch.float32))

    def function(x, mean, logvar):
        joint, marginals = vf.aggregated_posterior_log_prob(x, mean, logvar)
        return joint.sum() + marginals.sum() + vf.mmd(x, mean) + vf.hsic(x[:20], x)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    eager = torch.autograd.grad(function(x, mean, logvar), (x, mean, logvar))
    for ours, theirs in zip(
        torch.autograd.grad(compiled(x, mean, logvar), (x, mean, logvar)), eager, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(
        torch.compile(vf.nearest_code, fullgraph=True, backend="aot_eager")(x, mean),
        vf.nearest_code(x, mean),
    )


def test_func_transforms():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 2, dtype=torch.float64, device=DEVICE)
    mean = torch.randn(4, 2, dtype=torch.float64, device=DEVICE)

    def total(x):
        return vf.gaussian_mixture_log_prob(x, mean, 0.0).sum()

    gradients = torch.func.vmap(torch.func.grad(total))(x)
    for entry, gradient in zip(x, gradients, strict=True):
        leaf = entry.clone().requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(total(leaf), leaf)[0])
    found = torch.func.vmap(vf.nearest_code, in_dims=(0, None))(x, mean)
    assert torch.equal(found, vf.nearest_code(x, mean))


_X, _M = torch.zeros(4, 3), torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vf.gaussian_mixture_log_prob(_X, _M[:, :2], 0.0), ValueError, "mean has shape"),
        (lambda: vf.gaussian_mixture_log_prob(_X, _M[:0], 0.0), ValueError, "at least one row"),
        (lambda: vf.gaussian_mixture_log_prob(_X, _M, _X), ValueError, "logvar has shape"),
        (lambda: vf.gaussian_mixture_log_prob(_X, _M, 0.0, _X), ValueError, "logits has shape"),
        (lambda: vf.gaussian_mixture_log_prob([0.0], _M, 0.0), TypeError, "x is of type list"),
        (lambda: vf.gaussian_mixture_log_prob(_X.long(), _M, 0.0), TypeError, "x has dtype"),
        (
            lambda: vf.aggregated_posterior_log_prob(_X, _M, _M, dataset_size=9),
            ValueError,
            "z has shape",
        ),
        (
            lambda: vf.aggregated_posterior_log_prob(_M, _M, _M, dataset_size=4),
            ValueError,
            "dataset_size is 4",
        ),
        (
            lambda: vf.aggregated_posterior_log_prob(_M, _M, _M, stratified=True),
            ValueError,
            "stratified needs it",
        ),
        (lambda: vf.aggregated_posterior_log_prob(_M, _M, _X), ValueError, "logvar has shape"),
        (lambda: vf.mmd(_X, _M, kernel="linear"), ValueError, "kernel is 'linear'"),
        (lambda: vf.mmd(_X[:1], _M), ValueError, "x has shape"),
        (lambda: vf.mmd(_X, _M, bandwidths=[0.0]), ValueError, "a bandwidth is 0.0"),
        (lambda: vf.hsic(_X, _M), ValueError, "as many rows"),
        (lambda: vf.nearest_code(_X, _M[0]), ValueError, "codebook has shape"),
        (lambda: vf.nearest_code(_X, _M.to("meta")), ValueError, "codebook is on meta"),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
