"""Counts, most of which are zero: the kernels have a formula of its own for those."""

import pytest
import torch
from cases import CASE_OF_OP
from torch import Tensor

OPS = [
    f"{kind}{name}_nll"
    for name in ("poisson", "negative_binomial")
    for kind in ("", "zero_inflated_")
]
each_op = pytest.mark.parametrize("op", OPS)
pytestmark = pytest.mark.of_the_kernels


def draw(op: str, share: float, dtype: torch.dtype) -> list[Tensor]:
    """Operands of which so many targets are zero, over several tiles and a part of one."""
    torch.manual_seed(0)
    size = (5, 1111)
    *parameters, _ = (x(size) for x in CASE_OF_OP[op].draws)
    counts = 1 + torch.poisson(torch.full(size, 2.0))
    target = torch.where(torch.rand(size) < share, 0, counts)
    return [x.to(dtype) for x in (*parameters, target)]


def results(op: str, operands: list[Tensor], *, of_target: bool = False) -> list[Tensor]:
    """The value and the parameters' gradients of every element; the target's is asked for, too."""
    *parameters, target = (x.detach().clone().requires_grad_() for x in operands)
    value = CASE_OF_OP[op].public(*parameters, target.requires_grad_(of_target), reduction="none")
    wanted = [*parameters, target] if of_target else parameters
    return [value.detach(), *torch.autograd.grad(value.sum(), wanted)[: len(parameters)]]


@each_op
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_elements_result_depends_on_itself_alone(op, share, dtype):
    operands = draw(op, share, dtype)
    together = results(op, operands)
    zero = operands[-1] == 0
    for chosen in (zero, ~zero):
        alone = results(op, [x[chosen] for x in operands])
        for both, one in zip(together, alone, strict=True):
            assert torch.equal(both[chosen], one)


@each_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_with_a_gradient_in_the_target(op, dtype):
    """There every element takes the formula of all counts."""
    operands = draw(op, 0.9, dtype)
    tolerance = 16 * torch.finfo(dtype).eps
    for ours, all_counts in zip(
        results(op, operands), results(op, operands, of_target=True), strict=True
    ):
        torch.testing.assert_close(ours, all_counts, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("op", OPS[1:])  # a Poisson distribution has one parameter
def test_parameters_that_broadcast(op):
    """A gradient per feature is the sum of those of its elements."""
    *parameters, target = draw(op, 0.9, torch.float32)
    for k, parameter in list(enumerate(parameters))[1:]:
        rest = [*parameters[k + 1 :], target]
        shared = results(op, [*parameters[:k], parameter[0], *rest])
        elements = results(op, [*parameters[:k], parameter[0].expand_as(target), *rest])
        assert torch.equal(shared[0], elements[0])
        torch.testing.assert_close(shared[k + 1], elements[k + 1].double().sum(0).float())
