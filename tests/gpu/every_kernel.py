"""Every loop, formula, dtype and layout once, forward and backward: what compute-sanitizer watches.

Under it everything takes tens of times as long, so nothing is compared here: the tests do that.
"""

import itertools
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import CASE_OF_OP, CASES, DTYPES, LAYOUTS, Layout, draw
from device import DEVICE

import vae_fast as vf
from vae_fast.engine.mixture import has_components
from vae_fast.engine.table import LIKELIHOODS

# Several blocks with a tail; rows that begin where no vector does.
LARGE = (
    Layout("several_blocks", 1, lambda k: (37, 5003)),
    Layout("long_rows", 1, lambda k: (2, 70_001)),
    Layout("misaligned", 1, lambda k: (9, 1030), lambda k, x: x[:, 1 + k % 2 : 1026 + k % 2]),
    Layout("columns_are_summed", 1, lambda k: (700, 65) if k == 0 else (65,)),
)
REDUCTIONS = ("none", "sample", "batchmean")


def losses() -> int:
    calls = 0
    for case, dtype, layout in itertools.product(CASES, DTYPES, (*LAYOUTS, *LARGE)):
        for reduction in REDUCTIONS:
            tensors = draw(case, layout, dtype)
            settings = {"batch_dims": layout.batch_dims, "reduction": reduction}
            case.public(*tensors, **settings)
            for x in tensors:
                x.requires_grad_()
            # Not one, so that the saved gradients are scaled.
            (3 * case.public(*tensors, **settings)).sum().backward()
            calls += 2
    return calls


def targets_and_masks() -> int:
    calls = 0
    for case, dtype in itertools.product(CASES, DTYPES):
        if not case.has_target:
            continue
        parameters = [d((37, 130)).to(dtype).requires_grad_() for d in case.draws[:-1]]
        for target in (torch.randint(256, (37, 130)).to(torch.uint8), torch.rand(37, 130) < 0.5):
            case.public(*parameters, target).backward()
            calls += 1
    for dtype in DTYPES:
        logits = torch.randn(37, 130, dtype=dtype, requires_grad=True)
        target, mask = torch.rand(37, 130, dtype=dtype), torch.rand(37, 1) < 0.5
        vf.bernoulli_nll(logits, target, mask=mask).backward()
        calls += 1
    return calls


def multinomial() -> int:
    """Rows that a few threads hold, a warp, a block, and nobody; in vectors or not."""
    calls = 0
    for dtype, classes in itertools.product(DTYPES, (1, 5, 48, 509, 1024, 4099, 20_000)):
        wide = torch.randn(7, classes + 3, dtype=dtype, requires_grad=True)
        counts = torch.randint(4, (7, classes))
        for target in (counts.to(dtype), counts.to(torch.uint8), counts[0] > 1):
            for logits in (wide[:, :classes].contiguous(), wide[:, 1 : classes + 1]):
                (3 * vf.multinomial_nll(logits, target)).backward()
                vf.multinomial_nll(logits.detach(), target, reduction="sample")
                calls += 2
    for dtype in DTYPES:
        h, weight = (torch.randn(n, 8, dtype=dtype, requires_grad=True) for n in (70, 50_000))
        target = torch.randint(3, (70, 50_000)).to(torch.uint8)
        for reduction in ("batchmean", "sample"):  # the gradient in place of the logits, and none
            value = vf.linear_nll(
                h, weight, None, target, likelihood="multinomial", reduction=reduction
            )
            value.sum().backward()
            calls += 1
    return calls


def counts() -> int:
    """Rows that a few threads share, a warp, a block, each thread several times over."""
    calls = 0
    for dtype, classes in itertools.product(DTYPES, (1, 5, 48, 509, 5003)):
        logits, zero_logits = (torch.randn(7, classes + 1, dtype=dtype)[:, 1:] for _ in range(2))
        target = torch.randint(4, (7, classes))
        library, mask = 1 + target.sum(1, keepdim=True).to(dtype), torch.rand(7, 1) < 0.8
        for theta in (torch.rand(classes, dtype=dtype) + 0.5, torch.ones(7, classes, dtype=dtype)):
            variables = [x.requires_grad_() for x in (logits, library, theta, zero_logits)]
            for x in (target.to(dtype), target.to(torch.uint8)):
                for zeros in (None, variables[3]):
                    settings = {"zero_logits": zeros, "mask": mask}
                    vf.softmax_poisson_nll(variables[0], x, variables[1], **settings).backward()
                    value = vf.softmax_negative_binomial_nll(
                        variables[0], x, *variables[1:3], reduction="sample", **settings
                    )
                    value.sum().backward()
                    calls += 2
    return calls


def mixtures() -> int:
    """A thread for a position, a team, a block, a block in several rounds."""
    calls = 0
    likelihoods = filter(has_components, LIKELIHOODS)
    for likelihood, dtype, run in itertools.product(likelihoods, DTYPES, (1, 5, 100, 700)):
        case = CASE_OF_OP[f"{likelihood}_nll"]
        params = [d((9, 3, run)).to(dtype).requires_grad_() for d in case.draws[:-1]]
        logits = torch.randn(9, 3, dtype=dtype, requires_grad=True)
        target, mask = case.draws[-1]((9, run)).to(dtype), torch.rand(9, run) < 0.9
        for settings in ({}, {"mask": mask, "reduction": "sample"}):
            value = vf.mixture_nll(
                logits, target, *params, likelihood=likelihood, event_dims=1, **settings
            )
            (3 * value).sum().backward()
            calls += 1
    for dtype, channels, size in itertools.product(DTYPES, (1, 3), (1, 33)):
        parts = 5 * (1 + channels * (3 if channels > 1 else 2))
        params = torch.randn(3, parts, size, size, dtype=dtype, requires_grad=True)
        target = torch.randint(256, (3, channels, size, size), dtype=torch.uint8)
        vf.discretized_logistic_mixture_nll(params, target).backward()
        channels_last = params.detach().movedim(1, -1).contiguous().movedim(-1, 1)
        vf.discretized_logistic_mixture_nll(channels_last, target)
        calls += 2
    return calls


def sampling() -> int:
    def backward(*outputs: Tensor) -> None:
        torch.autograd.backward(outputs, [torch.randn_like(x) for x in outputs])

    calls = 0
    for dtype, (rows, columns) in itertools.product(DTYPES, ((1, 1), (5, 67), (300, 1024))):
        both = torch.randn(rows, 2 * columns, dtype=dtype, requires_grad=True)
        dense = [torch.randn(rows, columns, dtype=dtype, requires_grad=True) for _ in range(4)]
        row = torch.randn(columns, dtype=dtype, requires_grad=True)
        for operands in (dense[:2], both.chunk(2, dim=1), (dense[0], row)):
            backward(vf.reparameterize(*operands))
            backward(*vf.reparameterize_kl(*operands))
            backward(*vf.reparameterize_kl(*operands, reduction="sample"))
            calls += 3
        backward(*vf.reparameterize_kl(*dense))
        backward(vf.reparameterize(*dense[:2], num_samples=3))
        vf.reparameterize(*dense[:2], seed=vf.draw_seed(device=DEVICE))
        calls += 3
    return calls


def main() -> None:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        calls = losses() + targets_and_masks() + multinomial() + counts() + mixtures() + sampling()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    print(f"{calls} calls on {DEVICE}")


if __name__ == "__main__":
    main()
