"""Auto-encoders whose code has no distribution, and which ask more of it than to reconstruct."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from vae_fast.engine.checks import check_choice
from vae_fast.latent.discrepancies import Kernel
from vae_fast.latent.seeds import Generator
from vae_fast.models.autoencoder import AutoEncoder
from vae_fast.models.base import Shape
from vae_fast.models.penalized import batch_noise, prior_discrepancy
from vae_fast.models.settings import check_number

Corruption = Literal["gaussian", "masking"]


class DenoisingAutoEncoder(AutoEncoder):
    """Reconstructs data from what noise has left of them (Vincent et al. 2010, JMLR 11).

    In training the encoder is given corrupted data, and the likelihood is that of the data
    themselves; in evaluation mode nothing is corrupted.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        corruption: "gaussian", which is added; or "masking", zeros in the data's place.
        level: standard deviation of the noise; or the probability of a zero, less than 1.
        **networks: the other arguments of an auto-encoder.

    Raises:
        ValueError: a setting is out of its range.

    Example:
        >>> import torch
        >>> from vae_fast.models import DenoisingAutoEncoder
        >>> model = DenoisingAutoEncoder(784, 10, corruption="masking", level=0.25)
        >>> model.loss(torch.rand(8, 784)).nll.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "dae"
    title: ClassVar[str] = "Denoising auto-encoder"
    corruption: Corruption
    level: float

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        corruption: Corruption = "gaussian",
        level: float = 0.3,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        check_choice("DenoisingAutoEncoder", "corruption", corruption, get_args(Corruption))
        level = check_number(self, "level", level, above=0)
        if corruption == "masking" and level >= 1:
            raise ValueError(
                f"DenoisingAutoEncoder: level is {level}, expected a probability less than 1"
            )
        self._keep(corruption=corruption, level=level)

    def _coded(self, prepared: Tensor, generator: Generator | None) -> tuple[Tensor, None]:
        if not self.training:
            return self.encode(prepared), None
        if self.corruption == "gaussian":
            corrupted = prepared + self.level * batch_noise(prepared, generator, torch.randn)
        else:
            corrupted = prepared * (batch_noise(prepared, generator, torch.rand) >= self.level)
        return self.encode(corrupted), None


class WassersteinAutoEncoder(AutoEncoder):
    """loss = nll + lambda MMD(q(z), N(0, I)), of codes without noise.

    Tolstikhin et al. 2018, "Wasserstein auto-encoders", algorithm 2 (WAE-MMD), by
    :func:`vae_fast.mmd` of the batch's codes and as many draws from the prior. The cost is the
    likelihood's: of a Gaussian of fixed variance it is the paper's squared distance.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        weight: lambda.
        kernel: of the MMD, "rbf" or "imq", the paper's.
        **networks: the other arguments of an auto-encoder.

    Raises:
        ValueError: a setting is out of its range; or, of the loss, a batch of one.

    Example:
        >>> import torch
        >>> from vae_fast.models import WassersteinAutoEncoder
        >>> WassersteinAutoEncoder(784, 10).loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "wae_mmd"
    title: ClassVar[str] = "WAE-MMD"
    has_prior: ClassVar[bool] = True
    weight: float
    kernel: Kernel

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        weight: float = 100.0,
        kernel: Kernel = "imq",
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        check_choice("WassersteinAutoEncoder", "kernel", kernel, get_args(Kernel))
        self._keep(weight=check_number(self, "weight", weight, above=0), kernel=kernel)

    def _coded(self, prepared: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        z = self.encode(prepared)
        return z, self.weight * prior_discrepancy(z.flatten(1), self.kernel, generator)
