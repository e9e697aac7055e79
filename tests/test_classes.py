"""The likelihoods of classes, categorical and ordinal: the public functions around their ops."""

import math

import numpy as np
import pytest
import torch
from cases import DTYPES, REDUCTIONS, arithmetic_dtype, exactly, reduced
from tolerance import Comparison
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional
from torch.testing import assert_close

import vae_fast as vf
from tests.likelihoods.ordinal import ROWS

CLASSES = 5
INTEGERS = (torch.uint8, torch.int32, torch.int64)
ORDINAL = ROWS[0]
# In front of the cutpoints: for all alike, each event's, some of the dimensions, each element's.
SETS = [(), (3, 4), (1, 4), (3, 1), (6, 3, 4)]


def _categorical(dtype=torch.float64):
    logits = torch.randn(6, 3, 4, CLASSES, dtype=torch.float64).to(dtype).requires_grad_()
    return logits, torch.randint(CLASSES, (6, 3, 4))


def _ordinal(sets=(), dtype=torch.float64):
    location = torch.randn(6, 3, 4, dtype=torch.float64).to(dtype).requires_grad_()
    cutpoints = torch.arange(-1.5, CLASSES - 2.5, dtype=torch.float64)
    cutpoints = cutpoints + 0.5 * torch.rand(*sets, CLASSES - 1, dtype=torch.float64)
    return location, torch.randint(CLASSES, (6, 3, 4)), cutpoints.to(dtype).requires_grad_()


def _ends(target, cutpoints):
    """As a user writes it."""
    cutpoints = cutpoints.expand(*target.shape, cutpoints.shape[-1])
    edge = torch.full_like(cutpoints[..., :1], math.inf)
    index = target.unsqueeze(-1)
    lower = torch.cat((-edge, cutpoints), -1).gather(-1, index).squeeze(-1)
    return lower, torch.cat((cutpoints, edge), -1).gather(-1, index).squeeze(-1)


# ---- ordinal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sets", SETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ordinal_values_and_gradients(sets, dtype, backend):
    comparison = Comparison()
    for _ in range(10):
        location, target, cutpoints = _ordinal(sets, dtype)
        wide = [x.to(arithmetic_dtype(dtype)).detach() for x in (location, cutpoints)]
        leaves = [x.requires_grad_() for x in wide]
        theirs = ORDINAL.torch(leaves[0], *_ends(target, leaves[1]))
        exact = ORDINAL.exact(*map(exactly, (location, *_ends(target, cutpoints))))[0]
        for reduction in REDUCTIONS:
            ours = vf.ordinal_nll(location, target, cutpoints, batch_dims=2, reduction=reduction)
            assert ours.dtype == (dtype if reduction == "none" else arithmetic_dtype(dtype))
            of_theirs, expected = (reduced(x, reduction, 2) for x in (theirs, exact))
            comparison.add(reduction, ours, of_theirs.detach(), expected)
        ours = torch.autograd.grad(
            vf.ordinal_nll(location, target, cutpoints, reduction="sum"), (location, cutpoints)
        )
        doubles = [x.detach().double().requires_grad_() for x in (location, cutpoints)]
        value = ORDINAL.torch(doubles[0], *_ends(target, doubles[1])).sum()
        for got, right in zip(ours, torch.autograd.grad(value, doubles), strict=True):
            assert_close(got, right.to(dtype))
    comparison.check()


@pytest.mark.parametrize("sets", SETS[:3])
def test_ordinal_gradcheck(sets, backend):
    location, target, cutpoints = _ordinal(sets)
    few = slice(1)

    def function(location, cutpoints):
        return vf.ordinal_nll(location, target[few], cutpoints, batch_dims=1, reduction="sample")

    operands = (location[few].detach().requires_grad_(), cutpoints)
    assert gradcheck(function, operands, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, operands)


def test_the_probabilities_of_an_order_add_up():
    location, _, cutpoints = _ordinal((3, 4))
    costs = [
        vf.ordinal_nll(location, torch.full((6, 3, 4), k), cutpoints, reduction="none")
        for k in range(CLASSES)
    ]
    assert_close(torch.stack(costs).neg().exp().sum(0), torch.ones(6, 3, 4, dtype=torch.float64))


def test_cutpoints_that_are_close_equal_or_out_of_order(backend):
    location = torch.zeros(1, requires_grad=True)
    close = torch.tensor([0.0, 1e-30])
    one = torch.ones(1, dtype=torch.int64)
    assert_close(vf.ordinal_nll(location, one, close), torch.tensor(math.log(4e30)))
    assert vf.ordinal_nll(location, one, torch.zeros(2)).isposinf()
    assert vf.ordinal_nll(location, one, torch.tensor([1.0, 0.0])).isnan()
    # The classes at the ends do not look at the other cutpoint.
    assert vf.ordinal_nll(location, 0 * one, torch.tensor([1.0, 0.0])).isfinite()
    none = vf.ordinal_nll(location, 0 * one, torch.zeros(0))  # one class
    assert none == 0
    assert torch.autograd.grad(none, location)[0] == 0


def test_many_gradients_of_half_cutpoints_are_added_up_in_float32():
    location = torch.zeros(100_000, dtype=torch.float16)
    cutpoints = torch.zeros(1, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(100_000, dtype=torch.bool)
    vf.ordinal_nll(location, target, cutpoints, batch_dims=0, reduction="mean").backward()
    assert_close(cutpoints.grad, torch.full_like(cutpoints, -0.5))


# ---- categorical ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("is_soft", [False, True])
def test_categorical_values_and_gradients(is_soft, dtype, backend):
    comparison = Comparison()
    for _ in range(10):
        logits, target = _categorical(dtype)
        shares = functional.one_hot(target, CLASSES).to(dtype)
        if is_soft:
            target = shares = torch.rand(logits.shape, dtype=torch.float64).to(dtype)
        wide = logits.detach().to(arithmetic_dtype(dtype))
        theirs = -(torch.log_softmax(wide, -1) * shares.to(wide)).sum(-1)
        x = exactly(logits)
        log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
        exact = -(log_p * exactly(shares)).sum(-1)
        for reduction in REDUCTIONS:
            ours = vf.categorical_nll(logits, target, batch_dims=2, reduction=reduction)
            assert ours.dtype == (dtype if reduction == "none" else arithmetic_dtype(dtype))
            of_theirs, expected = (reduced(x, reduction, 2) for x in (theirs, exact))
            comparison.add(reduction, ours, of_theirs, expected)
        value = vf.categorical_nll(logits, target, reduction="sum")
        (gradient,) = torch.autograd.grad(value, logits)
        counts = exactly(shares).sum(-1, keepdims=True)
        right = torch.from_numpy((counts * np.exp(log_p) - exactly(shares)).astype(np.float64))
        assert_close(gradient, right.to(gradient))
    comparison.check()


def test_categorical_gradcheck(backend):
    logits, target = _categorical()
    logits = logits[:2, 0].detach().requires_grad_()

    def function(logits):
        return vf.categorical_nll(logits, target[:2, 0], reduction="none")

    assert gradcheck(function, (logits,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_excluded_classes(dtype, backend):
    """A logit of -infinity, and logits at the ends of what the dtype holds."""
    logits = torch.tensor([[0, -math.inf, 0], [6e4, -6e4, 0], [-math.inf] * 2 + [1]], dtype=dtype)
    logits.requires_grad_()
    target = torch.tensor([0, 1, 2])
    value = vf.categorical_nll(logits, target, reduction="none")
    largest = logits[1, 0].item() - logits[1, 1].item()
    expected = torch.tensor([math.log(2), largest, 0.0]).to(dtype)
    assert_close(value, expected)
    total = vf.categorical_nll(logits, target, reduction="sum")
    (gradient,) = torch.autograd.grad(total, logits)
    assert_close(gradient, torch.tensor([[-0.5, 0, 0.5], [1, -1, 0], [0, 0, 0]], dtype=dtype))
    assert vf.categorical_nll(logits, torch.tensor([1, 1, 2]), reduction="none")[0].isposinf()


# ---- both ----------------------------------------------------------------------------------------


def _calls():
    logits, target = _categorical()
    location, _, cutpoints = _ordinal((4,))
    return {
        "categorical_nll": (lambda *x, **how: vf.categorical_nll(*x, **how), logits, target),
        "ordinal_nll": (lambda *x, **how: vf.ordinal_nll(*x, cutpoints, **how), location, target),
    }


each = pytest.mark.parametrize("name", ["categorical_nll", "ordinal_nll"])


@each
def test_integer_dtypes_and_samples(name, backend):
    function, first, target = _calls()[name]
    expected = function(first, target, reduction="sample")
    for dtype in INTEGERS:
        assert torch.equal(function(first, target.to(dtype), reduction="sample"), expected)
    samples = torch.stack([first, first + 1])
    both = function(samples, target, batch_dims=2, reduction="sample")
    assert_close(both[0], expected)
    assert both.shape == (2, 6)


@each
def test_a_mask_leaves_out_anything(name, backend):
    function, first, target = _calls()[name]
    mask = torch.rand(6, 3, 4) < 0.5
    each_one = torch.where(mask, function(first, target, reduction="none"), 0)
    (expected,) = torch.autograd.grad(each_one.sum(), first)
    shown = mask.reshape(mask.shape + (1,) * (first.dim() - 3))
    poisoned = torch.where(shown, first, math.nan).detach().requires_grad_()
    strange = torch.where(mask, target, -100)
    for reduction in REDUCTIONS:
        value = function(poisoned, strange, mask=mask, reduction=reduction)
        assert_close(value, reduced(each_one, reduction, 1))
    value = function(poisoned, strange, mask=mask, reduction="sum")
    assert_close(torch.autograd.grad(value, poisoned)[0], expected)
    wide = function(first, target, mask=mask[0], reduction="none")
    assert torch.equal(wide != 0, mask[0].expand(6, 3, 4))


@each
def test_what_is_no_class_is_refused(name, backend):
    """On the CPU: a GPU's assertion ends its context."""
    with torch.device("cpu"):
        function, first, target = _calls()[name]
        for wrong in (-1, CLASSES):
            bad = target.clone()
            bad[2, 1, 3] = wrong
            message = f"{name}: target holds {wrong}, expected whole numbers from 0 to 4"
            with pytest.raises(ValueError, match=message):
                function(first, bad)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.torch_devices_only
@each
def test_compiled(name):
    """In one graph; what is no class is found at run time, and not counted from the end."""
    function, first, target = _calls()[name]
    compiled = torch.compile(function, fullgraph=True)
    assert_close(compiled(first, target), function(first, target))
    if first.is_cpu:
        for wrong in (-1, CLASSES):
            bad = target.clone()
            bad[0, 0, 0] = wrong
            with pytest.raises(RuntimeError):
                compiled(first, bad)
    rows = torch.compile(torch.func.vmap(function), fullgraph=True, backend="aot_eager")
    alone = [function(x, t) for x, t in zip(first[:, 0], target[:, 0], strict=True)]
    assert_close(rows(first[:, 0], target[:, 0]), torch.stack(alone))


@each
def test_function_transforms(name):
    function, first, target = _calls()[name]
    one = torch.stack([function(x, t) for x, t in zip(first[:, 0], target[:, 0], strict=True)])
    assert_close(torch.func.vmap(function)(first[:, 0], target[:, 0]), one)
    gradient = torch.func.vmap(torch.func.grad(function))(first[:, 0], target[:, 0])
    (expected,) = torch.autograd.grad(one.sum(), first)
    assert_close(gradient, expected[:, 0])


@each
def test_in_the_bound(name):
    first, target, *others = _categorical() if name == "categorical_nll" else _ordinal((3, 4))
    params = (first, *others)
    mu, logvar, mask = torch.randn(6, 2), torch.randn(6, 2), torch.rand(6, 3, 4) < 0.5
    settings = {"likelihood": name.removesuffix("_nll"), "mask": mask}
    elbo = vf.elbo_loss(params, target, mu, logvar, **settings)
    assert_close(elbo.nll, getattr(vf, name)(first, target, *others, mask=mask))
    samples = (torch.stack((first, first)), *others)
    of_samples = vf.elbo_loss(samples, target, mu, logvar, sample_dims=1, **settings)
    assert_close(of_samples.nll, elbo.nll)
    with pytest.raises(ValueError, match=r"elbo_loss: (params|mu) has shape"):
        vf.elbo_loss(params, target[:5], mu, logvar, **settings)


MISTAKES = {
    "categorical_nll": {
        "logits is of type list": {"logits": [1.0]},
        "logits has shape (), expected classes": {"logits": torch.zeros(())},
        "logits has shape (2, 3, 0), expected classes": {"logits": torch.zeros(2, 3, 0)},
        "target has dtype torch.int16": {"target": torch.zeros(2, 3, dtype=torch.int16)},
        "target has shape (2, 4)": {"target": torch.zeros(2, 4, dtype=torch.int64)},
        "target has shape (2, 3), expected that of logits, (2, 3, 4)": {
            "target": torch.zeros(2, 3)
        },
        "target is on meta": {"target": torch.zeros(2, 3, dtype=torch.int64, device="meta")},
        "mask has shape (4,)": {"mask": torch.ones(4, dtype=torch.bool)},
        "mask has dtype torch.float32": {"mask": torch.ones(3)},
        "reduction is 'total'": {"reduction": "total"},
        "batch_dims is 3, expected 0 to 2": {"batch_dims": 3},
    },
    "ordinal_nll": {
        "location is of type list": {"location": [1.0]},
        "target has dtype torch.float32": {"target": torch.zeros(2, 3)},
        "target has shape (2, 4)": {"target": torch.zeros(2, 4, dtype=torch.int64)},
        "target is on meta": {"target": torch.zeros(2, 3, dtype=torch.int64, device="meta")},
        "cutpoints is of type float": {"cutpoints": 0.5},
        "cutpoints has dtype torch.int64": {"cutpoints": torch.arange(3)},
        "cutpoints has shape ()": {"cutpoints": torch.zeros(())},
        "cutpoints has shape (2, 4)": {"cutpoints": torch.zeros(2, 4)},
        "cutpoints is on meta": {"cutpoints": torch.zeros(3, device="meta")},
        "mask has shape (4,)": {"mask": torch.ones(4, dtype=torch.bool)},
        "reduction is 'total'": {"reduction": "total"},
        "batch_dims is 3, expected 0 to 2": {"batch_dims": 3},
    },
}


@pytest.mark.parametrize(
    ("name", "message"), [(name, message) for name in MISTAKES for message in MISTAKES[name]]
)
def test_mistakes_are_named(name, message, backend):
    first = {"logits": torch.zeros(2, 3, 4)}
    if name == "ordinal_nll":
        first = {"location": torch.zeros(2, 3), "cutpoints": torch.arange(3.0)}
    arguments = {**first, "target": torch.zeros(2, 3, dtype=torch.int64), **MISTAKES[name][message]}
    with pytest.raises((TypeError, ValueError)) as raised:
        getattr(vf, name)(**arguments)
    assert f"{name}: {message}" in str(raised.value)
