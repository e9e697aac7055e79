"""Ten thousand random calls of the public functions; and that the fuzzer sees what is wrong."""

import pytest
import torch
from device import DEVICE

from tests.fuzz import calls
from tests.fuzz.draws import Source
from tests.fuzz.run import failures, results
from vae_fast.engine import checks
from vae_fast.likelihoods import bernoulli, gaussian

CALLS = 10_000 if DEVICE == "cpu" else 1_500
PARTS = 8  # shared among the processes of the suite


@pytest.mark.of_the_kernels
@pytest.mark.parametrize("part", range(PARTS))
def test_no_call_is_wrong(part):
    found = list(failures(2, range(CALLS * part // PARTS, CALLS * (part + 1) // PARTS)))
    assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("draw", calls.FUNCTIONS, ids=lambda draw: draw.__name__)
def test_one_percent_is_seen(draw):
    """In any of what a call gives, in float32 at least: but where terms of other sizes meet."""
    seen, missed = 0, []
    for index in range(60):
        source = Source(4, index)
        call = draw(source)
        for name, got, right in results(source, call):
            assert right.complaint(got) is None
            size = got.abs().nan_to_num(posinf=0.0)
            if got.dtype in (torch.float32, torch.float64) and (size > 1e-3).any():
                seen += 1
                if right.complaint(got * 1.01) is None:
                    missed.append(f"{call}: {name}")
    assert seen > 20
    assert len(missed) <= seen // 20, "\n".join(missed)


def test_a_line_repeats_the_call(monkeypatch):
    """A wrong gradient of one loss, which its lines name, with how to make the call again."""
    right = gaussian.loss

    class WrongGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, upstream):
            return 1.01 * upstream

    def planted(function, op, *arguments):
        value = right(function, op, *arguments)
        return WrongGradient.apply(value) if op == "gaussian_nll" else value

    monkeypatch.setattr(gaussian, "loss", planted)
    found = list(failures(4, range(300)))
    assert len(found) > 5
    assert all("gaussian" in line and line.startswith("--seed 4 --only ") for line in found)
    index = int(found[0].split()[3].rstrip(":"))
    assert list(failures(4, [index])) == found[:1]


def test_what_is_not_refused_is_seen(monkeypatch):
    """Without the checks wrong arguments are accepted, or something else raises."""
    for check in ("check_operands", "check_shapes", "check_public_reduction"):
        monkeypatch.setattr(checks, check, lambda *_: None)
    found = list(failures(1, range(1000)))
    assert any("accepted" in line for line in found)
    assert any("raised" in line or "not named" in line for line in found)


def test_a_crash_of_a_call_is_a_line(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken\nover lines")

    for likelihood in (bernoulli, gaussian):
        monkeypatch.setattr(likelihood, "loss", broken)
    found = list(failures(1, range(20)))
    assert found
    assert all(len(line.splitlines()) == 1 for line in found)
