"""Vector quantization with one learned codebook."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from vae_fast.engine.checks import check_choice, is_number
from vae_fast.engine.dtypes import sum_dtype
from vae_fast.latent.nearest_code import nearest_code
from vae_fast.latent.quantizers.base import (
    Quantized,
    Quantizer,
    counts_of,
    mean_square,
    usage_of,
)
from vae_fast.latent.quantizers.gradients import GRADIENTS, Gradient

Update = Literal["ema", "gradient"]


class VectorQuantizer(Quantizer):
    """Each vector becomes the nearest of K learned ones (van den Oord et al. 2017, "VQ-VAE").

    loss = codebook + commitment_weight * commitment (equation 3), squared distances of whole
    vectors, averaged over the vectors, as the paper has them: beside a likelihood that is summed
    over a datum's elements. (Implementations that take the mean over a vector's elements, too, have
    1 / D of that.) With ``update="ema"`` the codebook term is absent, and each code is the moving
    average of the vectors that it stood for (appendix A.1).

    The first batch in training is the first codebook: each code one of its vectors, at random. From
    then on a code that stands for fewer vectors than ``restart_below`` of an equal share, in the
    moving average, becomes a vector of the batch again. Both are drawn from torch's generator of
    the device. Neither waits for the device.

    The nearest code is :func:`vae_fast.nearest_code`'s, and averages are sums by index: no matrix
    of vectors times codes is made. Where torch.distributed is initialised, the averages are over
    all processes, and what restarts is the first one's.

    `vector-quantize-pytorch` 1.32 gives the same codes, gradients of both kinds and, without its
    smoothing of the counts, moving averages; its losses are 1 / D of these.

    Args:
        num_codes: K.
        code_dim: D.
        update: What moves the codes: "ema", moving averages; "gradient", the optimizer, by the
            gradient of the codebook term.
        decay: Of the moving averages.
        commitment_weight: The paper's beta, 0.25 there.
        gradient: Of the codes for x: "straight_through", or "rotation" (Fifty et al. 2024).
        restart_below: A share between 0 (never restart) and 1 of the average use of a code.
        dim: Which dimension of x the vectors are along.

    Attributes:
        codebook: (K, D): a parameter with ``update="gradient"``, a buffer with "ema".
        counts: (K,), moving average of the vectors that each code stands for in a batch.
        started: Whether the codebook has been made from data; set it where you bring your own.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> from vae_fast.latent.quantizers import VectorQuantizer
        >>> quantizer = VectorQuantizer(512, 64, dim=1)
        >>> x = torch.randn(8, 64, 7, 7, requires_grad=True)
        >>> found = quantizer(x)
        >>> found.quantized.shape, found.indices.shape
        (torch.Size([8, 64, 7, 7]), torch.Size([8, 7, 7]))
        >>> torch.equal(quantizer.eval()(x).quantized, quantizer.decode(quantizer(x).indices))
        True
    """

    codebook: Tensor
    counts: Tensor
    started: Tensor

    def __init__(
        self,
        num_codes: int,
        code_dim: int,
        *,
        update: Update = "ema",
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        gradient: Gradient = "straight_through",
        restart_below: float = 0.1,
        dim: int = -1,
    ) -> None:
        self._require_whole("num_codes", num_codes, 1)
        self._require_whole("code_dim", code_dim, 1)
        check_choice("VectorQuantizer", "update", update, get_args(Update))
        check_choice("VectorQuantizer", "gradient", gradient, GRADIENTS)
        for name, value, end in (
            ("decay", decay, 1.0),
            ("restart_below", restart_below, 1.0),
            ("commitment_weight", commitment_weight, float("inf")),
        ):
            if not is_number(value):
                raise TypeError(
                    f"VectorQuantizer: {name} is of type {type(value).__name__}, expected float"
                )
            if not 0 <= value < end:
                raise ValueError(
                    f"VectorQuantizer: {name} is {value}, expected at least 0 and less than {end}"
                )
        super().__init__(code_dim, num_codes, dim)
        self.update = update
        self.decay = float(decay)
        self.commitment_weight = float(commitment_weight)
        self.gradient = gradient
        self.restart_below = float(restart_below)
        codebook = torch.randn(num_codes, code_dim)
        if update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("started", torch.tensor(False))

    def quantize(self, x: Tensor) -> Quantized:
        """``forward`` of (*batch, D) in the arithmetic's dtype."""
        fixed = x.detach()
        if self.training:
            self._restart(fixed)
        codebook = self.codebook.to(x.dtype)
        indices = nearest_code(fixed, codebook.detach())
        code = functional.embedding(indices, codebook)
        counts = counts_of(indices, self.num_codes)
        used = usage_of(counts, self.num_codes)
        if self.training:
            self._average(fixed, indices, counts)
        commitment = mean_square(x - code.detach())
        by_gradient = self.update == "gradient"
        moved = mean_square(fixed - code) if by_gradient else torch.zeros_like(commitment)
        return Quantized(
            quantized=GRADIENTS[self.gradient](x, code),
            indices=indices,
            loss=moved + self.commitment_weight * commitment,
            commitment=commitment,
            codebook=moved,
            entropy=torch.zeros_like(commitment),
            **used,
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """``decode`` to (*batch, D)."""
        return functional.embedding(indices, self.codebook)

    @torch.no_grad()
    def _restart(self, x: Tensor) -> None:
        """Codes that stand for too little become vectors of this batch; the first time all do."""
        vectors = x.reshape(-1, self.code_dim)
        picks = torch.randint(len(vectors), (self.num_codes,), device=x.device)
        # The same for every process, whose codebooks must not part.
        picked = _of_the_first_process(vectors[picks]).to(self.codebook.dtype)
        share = self.counts.mean()
        is_dead = ~self.started | (self.counts < self.restart_below * share)
        self.codebook.copy_(torch.where(is_dead.unsqueeze(1), picked, self.codebook))
        self.counts.copy_(torch.where(is_dead, share, self.counts))
        self.started.fill_(True)

    @torch.no_grad()
    def _average(self, x: Tensor, indices: Tensor, counts: Tensor) -> None:
        """The moving averages of the counts and, by "ema", of the vectors themselves.

        The paper's m / N, of the sums and of the counts, both averaged, as one step of the code
        towards the batch's mean: a code that nothing came to stays as it is, to the bit, while its
        count goes to zero.
        """
        counts = _over_processes(counts).to(sum_dtype(self.counts.dtype))
        total = torch.lerp(self.counts.to(counts.dtype), counts, 1 - self.decay)
        if self.update == "ema":
            sums = x.new_zeros(self.num_codes, self.code_dim)
            sums.index_add_(0, indices.flatten(), x.reshape(-1, self.code_dim))
            drawn = _over_processes(sums) - counts.unsqueeze(1) * self.codebook
            step = (1 - self.decay) / total.clamp(min=torch.finfo(total.dtype).tiny)
            self.codebook.add_(step.unsqueeze(1) * drawn)
        self.counts.copy_(total)

    def extra_repr(self) -> str:
        """The settings, as print(module) shows them."""
        return (
            f"{self.num_codes}, {self.code_dim}, update={self.update!r}, decay={self.decay}, "
            f"commitment_weight={self.commitment_weight}, gradient={self.gradient!r}, "
            f"restart_below={self.restart_below}, dim={self.dim}"
        )


def _in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _over_processes(part: Tensor) -> Tensor:
    """The sum of all processes' parts."""
    if _in_a_group():
        part = part.clone()
        dist.all_reduce(part)
    return part


def _of_the_first_process(value: Tensor) -> Tensor:
    if _in_a_group():
        value = value.contiguous()
        dist.broadcast(value, 0)
    return value
