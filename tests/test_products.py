"""The matrix products of linear layers, by either library, beside float64."""

import pytest
import torch

from vae_fast._extension import C

# Above and below the sizes from which oneDNN is used, and with edges of a transpose's squares.
SIZES = [(1, 1, 1), (3, 17, 5), (130, 200, 170), (67, 401, 785), (128, 1030, 129)]


def _operands(rows, inputs, outputs):
    return torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)


def _assert_is(result, expected, terms):
    """Within what float32 sums of so many terms of size 1 come to."""
    error = (result.double() - expected).abs().max().item()
    assert error <= 2**-24 * 8 * terms, error


@pytest.mark.parametrize("sizes", SIZES)
def test_each_product(products, sizes):
    rows, inputs, outputs = sizes
    x, weight, gradient = _operands(*sizes)
    bias = torch.randn(outputs)
    wide = [t.double() for t in (x, weight, gradient, bias)]
    _assert_is(C.layer_output(x, weight, bias), wide[0] @ wide[1].t() + wide[3], inputs)
    _assert_is(C.layer_output(x, weight, None), wide[0] @ wide[1].t(), inputs)
    _assert_is(C.input_gradient(gradient, weight), wide[2] @ wide[1], outputs)
    _assert_is(C.weight_gradient(gradient, x), wide[2].t() @ wide[0], rows)


def _columns_of_a_wider_one(t):
    return torch.cat((t, t), 1)[:, : t.shape[1]]


def _transpose_of_a_transpose(t):
    return t.t().contiguous().t()


@pytest.mark.parametrize("view", [_columns_of_a_wider_one, _transpose_of_a_transpose])
@pytest.mark.parametrize("sizes", SIZES[1:])
def test_operands_that_are_views(products, sizes, view):
    rows, inputs, outputs = sizes
    x, weight, gradient = map(view, _operands(*sizes))
    assert not any(t.is_contiguous() for t in (x, weight, gradient))
    wide = [t.double() for t in (x, weight, gradient)]
    _assert_is(C.layer_output(x, weight, None), wide[0] @ wide[1].t(), inputs)
    _assert_is(C.input_gradient(gradient, weight), wide[2] @ wide[1], outputs)
    _assert_is(C.weight_gradient(gradient, x), wide[2].t() @ wide[0], rows)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_into_memory_that_is_there(products, sizes, add):
    x, _, gradient = _operands(*sizes)
    there = torch.randn(gradient.shape[1] + 2, x.shape[1])
    out, around = there[1:-1], there[[0, -1]].clone()
    expected = gradient.double().t() @ x.double() + (out.double() if add else 0)
    C.write_weight_gradient(out, gradient, x, add)
    _assert_is(out, expected, sizes[0])
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
