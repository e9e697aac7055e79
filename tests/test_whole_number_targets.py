"""Targets of int32 and int64 as they come: what the same floats give, to the bit; no copy."""

import pytest
import torch
from cases import CASES, DTYPES, LAYOUTS, REDUCTIONS, arithmetic_dtype, draw, name_of

import vae_fast as vf
from vae_fast.engine.table import LOSSES

with_target = [c for c in CASES if c.has_target]
TAKING = [c for c in with_target if torch.int64 in LOSSES[c.op].integers]
REFUSING = [c for c in with_target if torch.int64 not in LOSSES[c.op].integers]
each_taking = pytest.mark.parametrize("case", TAKING, ids=lambda c: c.op)
WHOLE = [torch.int32, torch.int64]
each_whole = pytest.mark.parametrize("whole", WHOLE)
STRIDED = [x for x in LAYOUTS if x.name in ("odd", "transposed", "every_second", "samples")]


def whole_like(case, target, whole):
    """From the least to the most that the row allows, of the target's strides."""
    least, most = case.whole_targets.start, case.whole_targets.stop
    numbers = torch.randint(most, target.shape) >> torch.randint(25, target.shape)
    return torch.empty_like(target, dtype=whole).copy_(numbers.clamp(min=least))


def value_and_gradients(function, params, *others, **options):
    params = [x.detach().requires_grad_() for x in params]
    value = function(*params, *others, **options)
    return value, *torch.autograd.grad(value.sum(), params)


def assert_the_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other.to(mine.dtype))


@pytest.mark.parametrize(("whole", "dtype"), list(zip(WHOLE * 2, DTYPES, strict=True)), ids=name_of)
@each_taking
def test_they_are_the_floats(case, whole, dtype, backend):
    for layout in STRIDED:
        *params, drawn = draw(case, layout, dtype)
        target = whole_like(case, drawn, whole)
        for reduction in REDUCTIONS:
            options = {"reduction": reduction, "batch_dims": layout.batch_dims}
            ours = value_and_gradients(case.public, params, target, **options)
            floats = target.to(arithmetic_dtype(dtype))
            assert_the_same(ours, value_and_gradients(case.public, params, floats, **options))


@each_whole
@each_taking
def test_with_a_mask(case, whole, backend):
    params, mask = [d((6, 35)).float() for d in case.draws[:-1]], torch.rand(6, 35) < 0.5
    target = whole_like(case, torch.empty(6, 35), whole)
    ours = value_and_gradients(case.public, params, target, mask=mask)
    assert_the_same(ours, value_and_gradients(case.public, params, target.float(), mask=mask))


@each_whole
def test_of_a_multinomial_and_a_layer(whole, backend):
    h, weight, bias = torch.randn(5, 7), torch.randn(40, 7), torch.randn(40)
    target = torch.randint(9, (5, 40)).to(whole)
    for reduction in REDUCTIONS[1:]:
        options = {"reduction": reduction}
        logits = [torch.randn(5, 40)]
        ours = value_and_gradients(vf.multinomial_nll, logits, target, **options)
        floats = value_and_gradients(vf.multinomial_nll, logits, target.float(), **options)
        assert_the_same(ours, floats)
        for likelihood in ("poisson", "multinomial"):
            layer = [h, weight, bias]
            named = {**options, "likelihood": likelihood}
            ours = value_and_gradients(vf.linear_nll, layer, target, **named)
            floats = value_and_gradients(vf.linear_nll, layer, target.float(), **named)
            assert_the_same(ours, floats)


@each_whole
@each_taking
def test_compiled(case, whole):
    params = [d((4, 9)).float() for d in case.draws[:-1]]
    target = torch.randint(case.whole_targets.start, 9, (4, 9)).to(whole)
    compiled = torch.compile(case.public, fullgraph=True, backend="aot_eager")
    ours = value_and_gradients(compiled, params, target)
    assert_the_same(ours, value_and_gradients(case.public, params, target))


@pytest.mark.torch_devices_only  # the profiler sees no other device's memory
@each_whole
@each_taking
def test_there_is_no_copy(case, whole):
    params, target = [d((100, 400)).half() for d in case.draws[:-1]], torch.ones(100, 400).to(whole)
    with torch.profiler.profile(profile_memory=True) as recorded:
        case.public(*params, target)
    memory = [e.self_cpu_memory_usage + e.self_device_memory_usage for e in recorded.events()]
    assert len(memory) > 0
    assert max(memory) < target.numel()  # a float32 copy has four bytes for each


@each_whole
@pytest.mark.parametrize("case", REFUSING, ids=lambda c: c.op)
def test_an_intensity_is_no_whole_number(case, whole, backend):
    """One of 255, or one: nobody knows."""
    params = [d((2, 3)).float() for d in case.draws[:-1]]
    message = f"target has dtype {whole}, expected float32, float64, bfloat16, float16, uint8 or"
    with pytest.raises(TypeError, match=message):
        case.public(*params, torch.ones(2, 3, dtype=whole))


@each_taking
def test_others_are_refused(case, backend):
    params = [d((2, 3)).float() for d in case.draws[:-1]]
    with pytest.raises(TypeError, match=r"target has dtype torch.int16, .* int32 or int64"):
        case.public(*params, torch.ones(2, 3, dtype=torch.int16))
