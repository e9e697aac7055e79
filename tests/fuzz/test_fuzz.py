"""Ten thousand random calls of the public functions; and that the fuzzer sees what is wrong."""

import pytest
import torch
from device import DEVICE

import vae_fast as vf
from tests.fuzz import functions
from tests.fuzz.calls import elementwise, verdict
from tests.fuzz.draws import Draws
from tests.fuzz.run import failures, one
from vae_fast import functional

CALLS = 10_000 if DEVICE == "cpu" else 1_500


@pytest.mark.of_the_kernels
def test_no_call_is_wrong():
    found = list(failures(2, range(CALLS)))
    assert not found, "\n".join(found[:20])


def test_a_call_repeats():
    first, again, another = (
        elementwise(Draws(3, index), functions.ELEMENTWISE[2]) for index in (5, 5, 6)
    )
    assert first.said == again.said != another.said
    assert all(torch.equal(a, b) for a, b in zip(first.ours, again.ours, strict=True))


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_one_percent_is_seen(what):
    """In any of what a call gives, in float32 at least."""
    seen = 0
    for index in range(60):
        result = elementwise(Draws(4, index), functions.ELEMENTWISE[0])
        for k, name in enumerate(result.names):
            x = result.ours[k]
            if not name.startswith(what) or x.dtype != torch.float32 or not x.abs().sum() > 1e-3:
                continue
            planted = [*result.ours]
            planted[k] = x * 1.01
            assert verdict(result) is None
            said = verdict(result._replace(ours=planted))
            assert said is not None
            assert said.startswith(name)
            seen += 1
    assert seen > 10


def test_what_is_not_refused_is_seen(monkeypatch):
    """A function that takes everything: every mistake is reported, in a line that repeats it."""
    taken = [
        functions.Elementwise(f.name, lambda *x, **_: torch.zeros(()), f.formula, f.names, f.target)
        for f in functions.ELEMENTWISE
    ]
    monkeypatch.setattr("tests.fuzz.mistakes.ELEMENTWISE", taken)
    found = [one(1, index) for index in range(0, 200, 10)]
    assert all(found)
    assert all("--seed 1 --only " in line and "not refused" in line for line in found)


def test_a_crash_of_a_call_is_a_line(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken\nover lines")

    monkeypatch.setattr(functional, "_loss", broken)
    monkeypatch.setattr(vf, "multinomial_nll", broken)
    found = list(failures(1, range(1, 10)))
    assert found
    assert all(len(line.splitlines()) == 1 for line in found)
