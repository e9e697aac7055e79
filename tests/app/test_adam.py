"""FusedAdam beside torch.optim.Adam."""

import copy

import pytest
import torch
from torch import nn

from vae_fast.training.adam import FusedAdam


def _parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((30, 20), (20,), ())]


def _pair(weight_decay=0.01):
    ours, theirs = _parameters(), _parameters()
    return (ours, FusedAdam(ours, 1e-2, weight_decay)), (
        theirs,
        torch.optim.Adam(
            theirs, 1e-2, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True
        ),
    )


def _step(parameters, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()


def _assert_equal(ours, theirs):
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert torch.equal(a, b)
    one, two = (optimizer.state_dict() for _, optimizer in (ours, theirs))
    assert one["param_groups"] == two["param_groups"]
    for index, entries in two["state"].items():
        assert entries.keys() == one["state"][index].keys()
        for name, value in entries.items():
            assert torch.equal(value, one["state"][index][name])


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_same_to_the_bit(weight_decay):
    ours, theirs = _pair(weight_decay)
    for seed in range(4):
        for parameters, optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + seed)
            _step(parameters, optimizer, seed)
        _assert_equal(ours, theirs)


def test_parameters_without_a_gradient_stay():
    ours, theirs = _pair()
    ours[1].step()
    assert all(torch.equal(a, b) for a, b in zip(ours[0], _parameters(), strict=True))
    for seed in range(3):
        for parameters, optimizer in (ours, theirs):
            generator = torch.Generator().manual_seed(seed)
            for k, p in enumerate(parameters):
                # The second one gets its first gradient, and its state, in the last step.
                has_one = k == 0 or (k == 1 and seed == 2)
                p.grad = torch.randn(p.shape, generator=generator) if has_one else None
            optimizer.step()
        _assert_equal(ours, theirs)
    assert torch.equal(ours[0][2], _parameters()[2])


def test_either_goes_on_from_the_state_of_the_other():
    ours, theirs = _pair()
    _step(*ours, 0)
    _step(*theirs, 0)
    states = [copy.deepcopy(optimizer.state_dict()) for _, optimizer in (ours, theirs)]
    ours[1].load_state_dict(states[1])
    theirs[1].load_state_dict(states[0])
    for pair in (ours, theirs):
        _step(*pair, 1)
    _assert_equal(ours, theirs)


def test_schedulers_and_hooks_work():
    ours, theirs = _pair()
    for parameters, optimizer in (ours, theirs):
        calls = []
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append(1))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for seed in range(3):
            _step(parameters, optimizer, seed)
            schedule.step()
        assert len(calls) == 3
    _assert_equal(ours, theirs)
