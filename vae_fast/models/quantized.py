"""Auto-encoders whose codes are from a finite set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vae_fast.latent.quantizers import FSQ, Quantizer, VectorQuantizer
from vae_fast.latent.quantizers.gradients import Gradient
from vae_fast.latent.quantizers.vector import Update
from vae_fast.latent.seeds import Generator
from vae_fast.models.autoencoder import AutoEncoder
from vae_fast.models.base import Shape, sizes_of
from vae_fast.models.settings import check_number, check_whole


class QuantizedAutoEncoder(AutoEncoder):
    """Codes of vectors, each of which a quantizer replaces; loss = nll + the quantizer's.

    Of a code of D numbers, each D / d that follow each other are a vector; of a shape (d, ...),
    for modules of your own, the vectors lie along the first dimension. There is no KL term: with
    equal probabilities of the codes it would be constant.
    """

    has_prior: ClassVar[bool] = True
    quantizer: Quantizer

    def _check_vectors(self, size: int) -> int:
        """The dimension along which vectors of so many numbers lie, as the quantizer takes it.

        Raises:
            ValueError: the code is not made of such vectors.
        """
        whole = self.latent_shape[0]
        if whole % size if len(self.latent_shape) == 1 else whole != size:
            raise ValueError(
                f"{type(self).__name__}: latent_dim is {self.latent_shape}, which is not made of "
                f"vectors of {size} numbers"
            )
        return 1 if len(self.latent_shape) > 1 else -1

    def _coded(self, prepared: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        found = self.quantizer(self._vectors(prepared))
        return found.quantized.reshape(-1, *self.latent_shape), found.loss

    def _vectors(self, x: Tensor) -> Tensor:
        z = self.encode(x)
        if len(self.latent_shape) > 1:
            return z
        return torch.unflatten(z, 1, (-1, self.quantizer.code_dim))

    @torch.no_grad()
    def indices(self, x: Tensor) -> Tensor:
        """Of each datum, the numbers of its codes: (B, vectors), int64."""
        found: Tensor = self.quantizer(self._vectors(x)).indices
        return found

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """The codes that x is decoded from, (B, *latent)."""
        return self._coded(self.prepare(x), None)[0]

    def draw_codes(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Each vector by itself, by the quantizer's own frequencies; see `_frequencies`."""
        vectors = self.latent_shape[1:] or (self.latent_shape[0] // self.quantizer.code_dim,)
        shape = (n, *vectors)
        count = torch.Size(shape).numel()
        weights = self._frequencies()
        if weights is None:
            drawn = torch.randint(self.quantizer.num_codes, (count,), generator=generator)
        else:
            # By the inverse of the distribution function: torch's has no more than 2^24 classes.
            steps = weights.double().cpu().cumsum(0)
            u = torch.rand(count, generator=generator, dtype=torch.float64) * steps[-1]
            drawn = torch.searchsorted(steps, u, right=True).clamp(max=len(steps) - 1)
        indices = drawn.reshape(shape).to(self._weight().device)
        return self.quantizer.decode(indices).reshape(n, *self.latent_shape)

    def _frequencies(self) -> Tensor | None:
        """How often each code is drawn, in any unit; None: all equally."""
        return None


class VQVAE(QuantizedAutoEncoder):
    """loss = nll + codebook + commitment_weight commitment (van den Oord et al. 2017, equation 3).

    The codes are a :class:`vae_fast.latent.quantizers.VectorQuantizer`'s. `sample` draws each
    vector by the frequency of the codes in training, independently of the others: no prior is
    learned over them, without which such pictures are poor.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise; a multiple of code_dim.
        num_codes: K.
        code_dim: numbers in a vector.
        update: what moves the codes: "ema", moving averages; or "gradient".
        decay: of the moving averages.
        commitment_weight: the paper's beta.
        gradient: through a code: "straight_through", or "rotation".
        **networks: the other arguments of an auto-encoder.

    Raises:
        ValueError: the code is not made of such vectors; or as the quantizer raises it.

    Example:
        >>> import torch
        >>> from vae_fast.models import VQVAE
        >>> model, x = VQVAE(784, 20, num_codes=64, code_dim=4), torch.rand(8, 784)
        >>> loss, nll, kl = model.loss(x)
        >>> model.indices(x).shape, model.sample(3).shape, kl
        (torch.Size([8, 5]), torch.Size([3, 784]), tensor(0.))
    """

    kind: ClassVar[str] = "vq_vae"
    title: ClassVar[str] = "VQ-VAE"
    quantizer: VectorQuantizer

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_codes: int = 64,
        code_dim: int = 4,
        update: Update = "ema",
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        gradient: Gradient = "straight_through",
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        settings: dict[str, Any] = {
            "num_codes": check_whole(self, "num_codes", num_codes),
            "code_dim": check_whole(self, "code_dim", code_dim),
            "update": update,
            "decay": check_number(self, "decay", decay),
            "commitment_weight": check_number(self, "commitment_weight", commitment_weight),
            "gradient": gradient,
        }
        dim = self._check_vectors(code_dim)
        self.quantizer = VectorQuantizer(**settings, dim=dim)
        self._keep(**settings)

    def _frequencies(self) -> Tensor:
        return self.quantizer.counts


class FSQVAE(QuantizedAutoEncoder):
    """loss = nll, of codes each of whose numbers is rounded to one of a few levels.

    Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple", by
    :class:`vae_fast.latent.quantizers.FSQ`. `sample` draws all codes equally often, which the
    encoder is not asked for.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise; a multiple of the number of levels.
        levels: of each number of a vector.
        **networks: the other arguments of an auto-encoder.

    Raises:
        ValueError: the code is not made of such vectors; or as the quantizer raises it.

    Example:
        >>> import torch
        >>> from vae_fast.models import FSQVAE
        >>> model, x = FSQVAE(784, 20, levels=(8, 5, 5, 5)), torch.rand(8, 784)
        >>> loss, nll, kl = model.loss(x)
        >>> bool(loss == nll), model.indices(x).shape
        (True, torch.Size([8, 5]))
    """

    kind: ClassVar[str] = "fsq_vae"
    title: ClassVar[str] = "FSQ-VAE"
    levels: list[int]
    quantizer: FSQ

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        levels: Sequence[int] = (8, 5, 5, 5),
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        levels = list(sizes_of("levels", levels))
        self.quantizer = FSQ(levels, dim=self._check_vectors(max(1, len(levels))))
        self._keep(levels=levels)
