"""Real training of a few steps with and without: the same losses, the same gradients."""

import pytest
import torch

from tests.dropin.cases import CASES, SEED

STEPS = 5
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def trained(training, steps=STEPS):
    """The losses, and the gradients of the first step, as one vector."""
    adam = torch.optim.Adam(training.module.parameters(), lr=1e-3)
    losses, first = [], None
    for step in range(steps):
        torch.manual_seed(SEED + step)
        adam.zero_grad()
        loss = training.loss(step)
        loss.backward()
        if first is None:
            first = gradients(training.module)
        adam.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), first


def gradients(module):
    of_all = [p.grad for p in module.parameters() if p.grad is not None]
    assert of_all
    return torch.cat([gradient.flatten().double() for gradient in of_all])


@each_case
def test_the_same_training(case):
    expected, expected_gradients = trained(case.training(False))
    losses, found = trained(case.training(True))
    difference = (found - expected_gradients).norm() / expected_gradients.norm()
    assert difference < 1e-5  # float32: of the order of its rounding through a network
    torch.testing.assert_close(losses[0], expected[0], rtol=1e-6, atol=0)
    # Adam's first steps are signs of gradients: what rounds a gradient near 0 moves a weight.
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=0)
    assert losses[-1] != losses[0]


@pytest.mark.parametrize("case", [case for case in CASES if case.is_one_graph], ids=str)
def test_one_graph(case):
    """Also where the peer breaks it: scvi-tools looks at the counts of its zinb."""
    training = case.training(False)
    torch.manual_seed(SEED)
    expected = training.loss(0)
    training = case.training(True)
    training.loss(0)  # torch looks divergences up once, which no graph holds
    torch.compiler.reset()
    torch.manual_seed(SEED)
    loss = torch.compile(training.loss, backend="aot_eager", fullgraph=True)(0)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
