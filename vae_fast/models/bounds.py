"""VAEs that are trained by another bound than the ELBO of one code."""

from __future__ import annotations

from typing import Any, ClassVar

from vae_fast.bounds.checks import check_settings
from vae_fast.models.base import Shape
from vae_fast.models.sampled import Sampling
from vae_fast.models.settings import check_whole
from vae_fast.models.vae import VAE


class IWAE(VAE):
    """The loss is minus the importance-weighted bound (Burda et al. 2016, equation 8).

    A VAE whose `loss` has ``estimator="iwae"`` and `num_samples` of its own, where the caller, or a
    training run, does not ask for another estimator.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        num_samples: codes for each datum.
        **networks: the other arguments of a VAE.

    Example:
        >>> import torch
        >>> from vae_fast.models import IWAE
        >>> model, x = IWAE(784, 10, num_samples=8), torch.rand(4, 784)
        >>> model.loss(x).loss.isfinite(), model.loss(x, estimator="dreg", num_samples=5)[0].shape
        (tensor(True), torch.Size([]))
    """

    kind: ClassVar[str] = "iwae"
    title: ClassVar[str] = "IWAE"
    estimator: ClassVar[str] = "iwae"
    num_samples: int

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_samples: int = 5,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self._keep(num_samples=check_whole(self, "num_samples", num_samples))
        self.sampling = Sampling(self.estimator, self.num_samples)


class PIWAE(IWAE):
    """IWAE for the decoder, its average over groups for the encoder.

    Rainforth et al. 2018, "Tighter variational bounds are not necessarily better", section 5 (the
    MIWAE of that paper is ``groups`` of one estimator for both: ``estimator="miwae"``).

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        num_samples: codes for each datum, a multiple of groups.
        groups: into which they are split.
        **networks: the other arguments of a VAE.

    Raises:
        ValueError: the groups are not equal.

    Example:
        >>> import torch
        >>> from vae_fast.models import PIWAE
        >>> PIWAE(784, 10, num_samples=8, groups=4).loss(torch.rand(4, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "piwae"
    title: ClassVar[str] = "PIWAE"
    estimator: ClassVar[str] = "piwae"
    groups: int

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_samples: int = 8,
        groups: int = 2,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, num_samples=num_samples, **networks)
        check_settings("PIWAE", self.estimator, self.num_samples, None, groups)
        self._keep(groups=groups)
        self.sampling = self.sampling._replace(groups=groups)


class CIWAE(IWAE):
    """beta of the ELBO and 1 - beta of the IWAE's bound (Rainforth et al. 2018, section 5).

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        num_samples: codes for each datum.
        alpha: the ELBO's share, the paper's beta.
        **networks: the other arguments of a VAE.

    Raises:
        ValueError: the share is not between 0 and 1.

    Example:
        >>> import torch
        >>> from vae_fast.models import CIWAE
        >>> CIWAE(784, 10, alpha=0.3).loss(torch.rand(4, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "ciwae"
    title: ClassVar[str] = "CIWAE"
    estimator: ClassVar[str] = "ciwae"
    alpha: float

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_samples: int = 5,
        alpha: float = 0.5,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, num_samples=num_samples, **networks)
        check_settings("CIWAE", self.estimator, self.num_samples, alpha, None)
        self._keep(alpha=alpha)
        self.sampling = self.sampling._replace(alpha=alpha)
