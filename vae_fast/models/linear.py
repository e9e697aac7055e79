"""The linear VAE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vae_fast.models.base import Shape
from vae_fast.models.vae import VAE


class LinearVAE(VAE):
    """Linear maps both ways, and one variance of q for each latent dimension: probabilistic PCA.

    Lucas et al. 2019, "Don't blame the ELBO!": p(x | z) = N(W z + b, sigma^2 I), the model of
    Tipping and Bishop 1999, with q(z | x) = N(V x + c, D); its ELBO has no local maximum beside the
    global one, where it is log p(x) itself. Real values: the likelihood is Gaussian, with one
    variance that is learned.

    Args:
        input_shape: of one datum.
        latent_dim: size of the code.
        hidden: none, ().
        likelihood: "gaussian".
        **networks: the other arguments of a VAE, but an architecture other than "mlp".

    Raises:
        ValueError: there are hidden layers, or the likelihood is another.

    Example:
        >>> import torch
        >>> from vae_fast.models import LinearVAE
        >>> model, x = LinearVAE(12, 3), torch.randn(8, 12)
        >>> model.log_evidence(x).shape, model.loss(x).loss.isfinite()
        (torch.Size([8]), tensor(True))
    """

    kind: ClassVar[str] = "linear_vae"
    title: ClassVar[str] = "Linear VAE"

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        hidden: Sequence[int] = (),
        likelihood: str = "gaussian",
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, hidden=hidden, likelihood=likelihood, **networks)
        if hidden or networks.get("architecture", "mlp") != "mlp":
            raise ValueError(f"LinearVAE: hidden is {tuple(hidden)}, expected none, and no others")
        if likelihood != "gaussian" or not self.likelihood.shared:
            raise ValueError(
                f"LinearVAE: likelihood is {likelihood!r}, expected 'gaussian' with one variance"
            )
        if networks.get("encoder") is None:
            self.encoder = _LinearHeads(math.prod(self.input_shape), math.prod(self.latent_shape))

    def log_evidence(self, x: Tensor) -> Tensor:
        """Log p(x) itself: that of N(b, W W^T + sigma^2 I), (B,), in nats.

        Args:
            x: (B, *input_shape), floats or uint8.
        """
        layer = cast(nn.Linear, self.decoder[0])  # type: ignore[index]
        centred = self.prepare(x).flatten(1) - layer.bias
        logvar = torch.as_tensor(self.likelihood.shared[0], dtype=centred.dtype)
        p = torch.distributions.LowRankMultivariateNormal(
            torch.zeros_like(centred[0]),
            layer.weight,
            logvar.exp().expand(centred.shape[1]),
            validate_args=False,
        )
        log_prob: Tensor = p.log_prob(centred)  # type: ignore[no-untyped-call]
        return log_prob


class _LinearHeads(nn.Module):
    """(B, ...) to means, by a linear map, and log-variances, the same for all data."""

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        self.mu = nn.Linear(inputs, latent)
        self.logvar = nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = self.mu(x.flatten(1))
        return mu, self.logvar.expand_as(mu)
