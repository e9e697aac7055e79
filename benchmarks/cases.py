"""The table of what is measured: one row per function, size and dtype."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import vae_fast as vf
from benchmarks import plain
from tests.cases import CASES as LOSSES
from tests.cases import Case as Loss
from tests.cases import Draw, normal
from tests.device import DEVICE


@dataclass(frozen=True)
class Case:
    """A row: the same computation, forward and backward, by this package and in plain PyTorch.

    `fused` and `plain` take the operands, in their order, and give a loss, or z and a loss.
    """

    op: str
    size: tuple[int, int]
    draws: tuple[Draw, ...]
    fused: Callable[..., Any]
    plain: Callable[..., Any]
    dtype: torch.dtype = torch.float32
    target_dtype: torch.dtype | None = None
    """Of the last operand, where it is data and has no gradient."""

    @property
    def name(self) -> str:
        parts = [f"{self.size[0]}x{self.size[1]}"]
        if self.dtype != torch.float32:
            parts.append(str(self.dtype).removeprefix("torch."))
        if self.target_dtype not in (None, self.dtype):
            parts.append(f"{self.target_dtype} target".removeprefix("torch."))
        return " ".join(parts)

    def inputs(self) -> list[Tensor]:
        """The operands, the same in every run."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return [self._operand(k, draw(self.size)) for k, draw in enumerate(self.draws)]

    def _operand(self, k: int, drawn: Tensor) -> Tensor:
        if self.target_dtype is None or k < len(self.draws) - 1:
            return drawn.to(self.dtype).requires_grad_()
        return (255 * drawn if self.target_dtype == torch.uint8 else drawn).to(self.target_dtype)


def moved_bytes(inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """What any implementation must move: every operand read and every gradient written once.

    Where z is among the outputs, the backward needs z's gradient, and so comes later: z is written,
    its gradient read, and the operands are read a second time.
    """
    reads = sum(x.nbytes for x in inputs)
    gradients = sum(x.nbytes for x in inputs if x.requires_grad)
    samples = sum(x.nbytes for x in outputs if x.dim() > 0)
    return reads + gradients + (reads + 2 * samples if samples else 0)


def _likelihood(
    loss: Loss,
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    target_dtype: torch.dtype | None = None,
) -> Case:
    return Case(
        op=loss.op,
        size=size,
        draws=loss.draws,
        fused=loss.public,
        plain=plain.batch_mean(loss.torch),
        dtype=dtype,
        target_dtype=target_dtype or dtype,
    )


def _latent(op: str, rows: int, columns: int) -> Case:
    return Case(op, (rows, columns), (normal(), normal(0.5)), getattr(vf, op), getattr(plain, op))


BERNOULLI = next(loss for loss in LOSSES if loss.op == "bernoulli_nll")

# Where a GPU's memory decides, and neither its cache nor the tens of microseconds of a call.
ON_A_GPU = ((8192, 8192),) if DEVICE == "cuda" else ()

CASES = [
    _likelihood(BERNOULLI, (128, 784)),
    _likelihood(BERNOULLI, (4096, 3136)),
    _likelihood(BERNOULLI, (512, 3072), target_dtype=torch.uint8),
    _likelihood(BERNOULLI, (512, 3072), torch.bfloat16),
    # Every likelihood of the tests' table: a new one is measured without a line here.
    *(
        _likelihood(loss, size)
        for loss in LOSSES
        if loss.names[-1] == "target"
        for size in ((512, 3072), (128, 20000), *ON_A_GPU)
    ),
    *(_likelihood(BERNOULLI, size, torch.bfloat16) for size in ON_A_GPU),
    *(_latent(op, *size) for op in ("gaussian_kl", "reparameterize_kl") for size in ON_A_GPU),
    _latent("gaussian_kl", 128, 20),
    _latent("gaussian_kl", 4096, 128),
    _latent("reparameterize_kl", 128, 20),
    _latent("reparameterize_kl", 512, 64),
    _latent("reparameterize_kl", 4096, 128),
    _latent("reparameterize_kl", 8, 16384),
]
