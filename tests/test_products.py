"""The matrix products of linear layers, by either library, beside float64."""

import pytest
import torch

from vae_fast.engine.extension import C

pytestmark = pytest.mark.of_the_fast_binding

# Above and below the sizes from which oneDNN is used, and with edges of a transpose's squares.
SIZES = [(1, 1, 1), (3, 17, 5), (130, 200, 170), (67, 401, 785), (128, 1030, 129)]


def _operands(rows, inputs, outputs):
    return torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)


def _assert_product(result, a, b, added=0):
    """Of a and b, within what rounding each of n additions comes to at most (Higham 2002, 3.1)."""
    a, b = a.double(), b.double()
    error = (result.double() - (a @ b + added)).abs()
    assert (error <= 2**-24 * (a.shape[1] + 2) * (a.abs() @ b.abs() + abs(added))).all()


def _assert_all_products(x, weight, gradient):
    _assert_product(C.layer_output(x, weight, None), x, weight.t())
    _assert_product(C.input_gradient(gradient, weight), gradient, weight)
    _assert_product(C.weight_gradient(gradient, x), gradient.t(), x)


@pytest.mark.parametrize("sizes", SIZES)
def test_each_product(products, sizes):
    x, weight, gradient = _operands(*sizes)
    _assert_all_products(x, weight, gradient)
    bias = torch.randn(len(weight))
    _assert_product(C.layer_output(x, weight, bias), x, weight.t(), bias.double())


def _columns_of_a_wider_one(t):
    return torch.cat((t, t), 1)[:, : t.shape[1]]


def _transpose_of_a_transpose(t):
    return t.t().contiguous().t()


def _one_row_for_all(t):
    return t[:1].expand_as(t)


@pytest.mark.parametrize(
    "view", [_columns_of_a_wider_one, _transpose_of_a_transpose, _one_row_for_all]
)
@pytest.mark.parametrize("sizes", SIZES[1:])
def test_operands_that_are_views(products, sizes, view):
    x, weight, gradient = map(view, _operands(*sizes))
    assert not any(t.is_contiguous() for t in (x, weight, gradient))
    _assert_all_products(x, weight, gradient)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_into_memory_that_is_there(products, sizes, add):
    x, _, gradient = _operands(*sizes)
    there = torch.randn(gradient.shape[1] + 2, x.shape[1])
    out, around = there[1:-1], there[[0, -1]].clone()
    before = out.double()
    C.write_weight_gradient(out, gradient, x, add)
    _assert_product(out, gradient.t(), x, before if add else 0)
    assert torch.equal(there[[0, -1]], around)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_torchs(products, dtype):
    x, weight, gradient = (t.to(dtype) for t in _operands(130, 200, 170))
    assert torch.equal(C.layer_output(x, weight, None), x @ weight.t())
    assert torch.equal(C.input_gradient(gradient, weight), gradient @ weight)
    assert torch.equal(C.weight_gradient(gradient, x), gradient.t() @ x)


def test_who_turns_onednn_off_has_torchs():
    before = C.uses_onednn()
    C.set_uses_onednn(True)
    was_on = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        assert not C.uses_onednn()
    finally:
        torch._C._set_mkldnn_enabled(was_on)
        C.set_uses_onednn(before)


def test_an_op_of_another_signature_is_not_called():
    """A release of torch may change its private op: its other library multiplies then."""
    assert C.is_onednn_product(C.ONEDNN_PRODUCT)
    for other in ("aten::linear", "aten::addmm", "mkldnn::no_such_op"):
        assert not C.is_onednn_product(other)
