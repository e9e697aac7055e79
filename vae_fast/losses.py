"""Losses as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vae_fast import checks
from vae_fast.functional import ELBO, LIKELIHOODS, FreeBitsPer, Reduction, elbo_loss


class ELBOLoss(nn.Module):
    """:func:`vae_fast.elbo_loss` as a module; its settings are plain attributes.

    Args:
        likelihood: Name of the likelihood.
        beta: Weight of the divergence; may be set between steps, for a warm-up.
        free_bits: Nats; see :func:`vae_fast.gaussian_kl`.
        free_bits_per: What they are counted per.
        batch_dims: How many leading dimensions are batch.
        sample_dims: How many leading dimensions of the parameters are samples of z.
        reduction: Of each term.

    Raises:
        TypeError: A setting has a wrong type.
        ValueError: An unknown likelihood, reduction or granularity, or negative free bits.
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        beta: float = 1.0,
        *,
        free_bits: float = 0.0,
        free_bits_per: FreeBitsPer = "dimension",
        batch_dims: int = 1,
        sample_dims: int = 0,
        reduction: Reduction = "batchmean",
    ) -> None:
        super().__init__()
        checks.check_likelihood("ELBOLoss", likelihood, LIKELIHOODS)
        checks.check_reduction_name("ELBOLoss", reduction)
        checks.check_free_bits("ELBOLoss", free_bits, free_bits_per, reduction)
        self.likelihood = likelihood
        self.beta = beta
        self.free_bits = free_bits
        self.free_bits_per = free_bits_per
        self.batch_dims = batch_dims
        self.sample_dims = sample_dims
        self.reduction = reduction

    def forward(
        self,
        params: Tensor | Sequence[Tensor],
        target: Tensor,
        mu: Tensor,
        logvar: Tensor,
        prior_mu: Tensor | None = None,
        prior_logvar: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> ELBO:
        """The loss and its terms; arguments as in :func:`vae_fast.elbo_loss`."""
        return elbo_loss(
            params,
            target,
            mu,
            logvar,
            likelihood=self.likelihood,
            beta=self.beta,
            prior_mu=prior_mu,
            prior_logvar=prior_logvar,
            free_bits=self.free_bits,
            free_bits_per=self.free_bits_per,
            mask=mask,
            batch_dims=self.batch_dims,
            sample_dims=self.sample_dims,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """The settings, as print(module) shows them."""
        return (
            f"likelihood={self.likelihood!r}, beta={self.beta}, free_bits={self.free_bits}, "
            f"free_bits_per={self.free_bits_per!r}, batch_dims={self.batch_dims}, "
            f"sample_dims={self.sample_dims}, "
            f"reduction={self.reduction!r}"
        )
