"""A linear layer of a table in CSR."""

import warnings

import pytest
import torch
from torch.nn import functional

import vae_fast as vf

pytestmark = pytest.mark.torch_devices_only  # the emulated device makes no table in CSR
SIZES = [(5, 40, 7), (128, 3000, 33), (1, 3, 1), (40, 5, 600)]  # rows, inputs, outputs


def table(rows, columns, dtype=torch.float32, index=torch.int64, share=0.1):
    dense = torch.where(torch.rand(rows, columns) < share, 1 + torch.arange(columns) % 5, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, that CSR is new
        csr = dense.to(dtype).to_sparse_csr()
        parts = csr.crow_indices().to(index), csr.col_indices().to(index), csr.values()
        return dense, torch.sparse_csr_tensor(*parts, dense.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_it_is_the_linear_layer(backend, dtype, sizes, log1p, is_transposed):
    rows, inputs, outputs = sizes
    dense, x = table(rows, inputs)
    weight = torch.randn(inputs, outputs).t() if is_transposed else torch.randn(outputs, inputs)
    bias, upstream = torch.randn(outputs), torch.randn(rows, outputs)
    exact = dense.double().log1p() if log1p else dense.double()
    for own_bias in (bias, None):
        layer = [y.to(dtype).requires_grad_() for y in (weight, own_bias) if y is not None]
        ours = vf.sparse_linear(x, *layer, log1p=log1p)
        assert ours.dtype == dtype
        wide = [y.detach().double().requires_grad_() for y in layer]
        theirs = functional.linear(exact, *wide)
        found = torch.autograd.grad(ours, layer, upstream.to(dtype))
        expected = torch.autograd.grad(theirs, wide, upstream.double())
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        for a, b in zip((ours, *found), (theirs, *expected), strict=True):
            largest = b.abs().max()
            assert (a - b).abs().max() <= tolerance * largest
        if backend == "compiled" and outputs > 1:  # as the weight lies: an optimizer wants it so
            assert found[0].stride() == layer[0].stride()


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64, torch.uint8])
def test_every_dtype_of_a_table(backend, dtype, index):
    dense, x = table(6, 50, dtype, index)
    weight = torch.randn(4, 50)
    torch.testing.assert_close(
        vf.sparse_linear(x, weight), functional.linear(dense.float(), weight)
    )


def test_a_table_as_others_leave_it(backend):
    weight = torch.arange(8.0).view(2, 4)
    parts = torch.tensor([0, 3, 3]), torch.tensor([3, 1, 3]), torch.tensor([1.0, 2.0, 4.0])
    x = torch.sparse_csr_tensor(*parts, (2, 4), check_invariants=False)
    dense = torch.tensor([[0.0, 2.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(vf.sparse_linear(x, weight), functional.linear(dense, weight))


def test_derivatives_of_any_order(backend):
    _, x = table(3, 6, share=0.5)
    weight = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def function(weight, bias):
        return vf.sparse_linear(x, weight, bias, log1p=True) ** 2

    assert torch.autograd.gradcheck(function, (weight, bias))
    assert torch.autograd.gradgradcheck(function, (weight, bias))


def test_a_table_that_reaches_beyond_its_shape():
    for columns, starts in (([4], [0, 1]), ([-1], [0, 1]), ([1], [0, 2])):
        parts = torch.tensor(starts), torch.tensor(columns), torch.ones(1)
        x = torch.sparse_csr_tensor(*parts, (1, 4), check_invariants=False)
        with pytest.raises(ValueError, match="x's crow_indices or col_indices lie outside"):
            vf.sparse_linear(x, torch.ones(2, 4))


def check(exception, message, *args):
    with pytest.raises(exception, match=message):
        vf.sparse_linear(*args)


def test_bad_input(backend):
    dense, x = table(3, 6)
    weight = torch.ones(2, 6)
    check(TypeError, "x is dense, expected torch.sparse_csr", dense, weight)
    check(TypeError, "x is of type list", [1.0], weight)
    check(TypeError, "weight is of type NoneType", x, None)
    check(ValueError, r"weight has shape \(2, 5\)", x, torch.ones(2, 5))
    check(ValueError, r"bias has shape \(3,\), expected \(2,\)", x, weight, torch.ones(3))
    check(TypeError, "weight has dtype torch.int64", x, torch.ones(2, 6, dtype=torch.int64))
    check(TypeError, "bias has dtype torch.float64", x, weight, torch.ones(2).double())
