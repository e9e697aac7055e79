"""What must hold of the machine code that was built (layer 3; docs/cuda.md)."""

import re

import pytest

from tests.cuda_gates import calls, measure, roofline, sass

# Two blocks of 256 threads on every multiprocessor.
MOST_REGISTERS = 128

# Above what is stored: compilers differ by a few instructions from release to release.
SLACK = 1.05

# What is limited by something else than memory, by call and dtype, and why. docs/cuda.md says by
# how much, and `test_no_more_is_issued_than_is_stored` keeps it there.
NOT_MEMORY_BOUND = {
    r"reparameterize.*: (bfloat16|float16)": "a normal takes 40 instructions, and two bytes",
    r"bernoulli_probs_nll.*": "two logarithms, exact also where they are small",
    r"bernoulli_nll, gradients: bfloat16, uint8 target": "x / 255, correctly rounded, in 5 bytes",
    r"(softmax )?(|zero_inflated_)(poisson|negative_binomial)_nll.*": "Stirling's rests, divisions",
    r"(binomial|beta_binomial|beta|gamma|student_t)_nll.*": "likewise, of several arguments",
    r"von_mises_nll.*": "a sine with its cosine, two polynomials for each Bessel function",
    r"(continuous_bernoulli|discretized_logistic|log_normal)_nll.*": "a logarithm or two more",
    r"ordinal_nll.*": "two logistic functions, two exponentials, a logarithm and a division",
    r"multinomial_nll, gradients: bfloat16, uint8 target": "two exponentials, in 5 bytes",
    r".*: float64": "consumer cards have 2 FP64 units on a multiprocessor",
}


# Bytes that a kernel spills all the same: mixtures in float64, which hold a formula's operands and
# gradients beside the loop's own numbers; float64 on cards that have 2 units for it.
SPILLED_BY_MIXTURES = 48
SPILLED = {
    "sm_120": {
        "ZeroInflatedNegativeBinomialNll": 8,
        "DiscretizedLogisticNll": 8,
        "BinomialNll": 16,
        "BetaBinomialNll": 152,
    }
}


@pytest.fixture(scope="module", params=measure.architectures())
def kernels(request):
    return measure.kernels(request.param)


@pytest.fixture(scope="module")
def measured():
    return {(f.call, f.dtype): f for f in measure.figures()}


def allowed_stack(kernel, architecture):
    """Of a kernel in float64; none of another."""
    if re.fullmatch(r"mixture<.*, double>", kernel.name):
        return SPILLED_BY_MIXTURES
    found = re.search(r"LossElement<(\w+), \w+>, double", kernel.name)
    return SPILLED.get(architecture, {}).get(found[1], 0) if found else 0


@pytest.mark.parametrize("architecture", measure.architectures())
def test_nothing_lies_in_local_memory(architecture):
    """Neither spilled registers nor arrays with computed indices."""
    kernels = measure.kernels(architecture)
    guilty = [
        k.name
        for k in kernels.values()
        if k.local
        or k.stack > allowed_stack(k, architecture)
        or (not k.stack and (k.count("LDL") or k.count("STL")))
    ]
    assert not guilty
    assert len(kernels) > len(calls.calls()) / 2


def test_registers_leave_room_for_two_blocks(kernels):
    guilty = {k.name: k.registers for k in kernels.values() if k.registers > MOST_REGISTERS}
    assert not guilty


@pytest.mark.parametrize("architecture", measure.architectures())
@pytest.mark.parametrize("call", calls.calls(), ids=lambda call: f"{call.name}-{call.dtype}")
def test_the_hot_loop_moves_vectors(architecture, call):
    """There is a way through the loop that makes just the call's accesses, of their full width."""
    for accesses, _ in call.loops:
        assert measure.hot_loop(architecture, call.kernel, frozenset(accesses.items())) is not None


def test_no_more_is_issued_than_is_stored(measured):
    stored = {(f.call, f.dtype): f for f in roofline.read()}
    assert measured.keys() == stored.keys(), "make cuda-table"
    grown = [
        (key, field, getattr(measured[key], field), getattr(stored[key], field))
        for key in stored
        for field in ("instructions", "alu", "fma", "mufu", "fp64", "dearest", "registers")
        if getattr(measured[key], field) > SLACK * getattr(stored[key], field)
    ]
    assert not grown


def test_memory_is_the_limit(measured):
    limited = {
        f"{f.call}: {f.dtype}"
        for f in measured.values()
        if any(f.fraction(card)[1] != "memory" for card in roofline.CARDS)
    }
    excused = {name for name in limited for why in NOT_MEMORY_BOUND if re.fullmatch(why, name)}
    assert not limited - excused
    idle = [why for why in NOT_MEMORY_BOUND if not any(re.fullmatch(why, n) for n in limited)]
    assert not idle


def test_ptx_has_vectors_and_no_local_memory():
    """Of the last architecture, which later cards compile for themselves."""
    text = sass.run(sass.tool("cuobjdump"), "-ptx", measure.binary())
    assert ".v4.u32" in text or ".v4.b32" in text or ".v4.f32" in text
    assert "ld.local" not in text
    assert "st.local" not in text


def test_the_document_shows_what_is_stored():
    text = measure.DOCUMENT.read_text()
    assert measure.with_table(text, roofline.read()) == text, "make cuda-table"
