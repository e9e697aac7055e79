"""VAEs whose loss has more than the bound's two terms, of a batch's codes together."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from vae_fast.bounds import ELBO, kl_decomposition
from vae_fast.engine.checks import check_choice
from vae_fast.latent import mmd
from vae_fast.latent.discrepancies import Kernel
from vae_fast.latent.seeds import Generator
from vae_fast.models.base import Shape
from vae_fast.models.settings import check_number, check_whole
from vae_fast.models.vae import VAE, Codes
from vae_fast.models.wide import wide_decoder


class PenalizedVAE(VAE):
    """loss = nll + beta divergence + penalty; `nll` and `kl` are those of the bound.

    A subclass overrides either method, or both; each is given the codes of a batch, which may be
    tables of any latent shape flattened.

    Example:
        >>> import torch
        >>> from vae_fast.models.penalized import PenalizedVAE
        >>> class SparseVAE(PenalizedVAE):
        ...     def penalty(self, codes, x, generator):
        ...         return codes.z.abs().sum(1).mean()
        >>> loss, nll, kl = SparseVAE(784, 10).loss(torch.rand(8, 784))
        >>> bool(loss > nll + kl)
        True
    """

    takes_estimators: ClassVar[bool] = False

    def divergence(self, codes: Codes) -> Tensor:
        """What the loss has in the KL term's place, nats per datum: the KL itself."""
        return codes.kl

    def penalty(self, codes: Codes, x: Tensor, generator: Generator | None) -> Tensor | float:
        """What is added to the loss, nats per datum.

        Args:
            codes: of the batch, mu, logvar and z as (B, D).
            x: (B, *input_shape), floats.
            generator: for noise.
        """
        return 0.0

    def _loss(
        self,
        x: Tensor,
        prepared: Tensor,
        beta: float | Tensor,
        free_bits: float,
        generator: Generator | None,
    ) -> ELBO:
        wide = wide_decoder(self.decoder, x) if self._is_plain(x) else None
        codes = self._codes_of(x, prepared, free_bits, generator, wide)
        mu, logvar, z = (each.flatten(1) for each in (codes.mu, codes.logvar, codes.z))
        flat = codes._replace(mu=mu, logvar=logvar, z=z)
        penalty = self.penalty(flat, prepared, generator)
        return ELBO(codes.nll + self.divergence(flat) * beta + penalty, codes.nll, codes.kl)


class BetaTCVAE(PenalizedVAE):
    """loss = nll + alpha I(x; z) + beta TC(z) + gamma sum_d KL(q(z_d) || p(z_d)).

    Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 4, by
    :func:`vae_fast.kl_decomposition` of each minibatch.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        beta: weight of the total correlation.
        alpha: weight of the mutual information.
        gamma: weight of the dimension-wise KL.
        dataset_size: how many training data there are (the command line fills it in); None: a
            batch is all of them.
        stratified: the estimate of :func:`vae_fast.aggregated_posterior_log_prob`; the other one is
            off by a constant, which makes the loss hard to read, and has the same gradient but for
            a few weights.
        **networks: the other arguments of a VAE.

    Example:
        >>> import torch
        >>> from vae_fast.models import BetaTCVAE
        >>> terms = BetaTCVAE(784, 10, beta=6.0, dataset_size=60_000).loss(torch.rand(8, 784))
        >>> terms.loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "beta_tc_vae"
    title: ClassVar[str] = "beta-TC-VAE"
    alpha: float
    beta: float
    gamma: float
    dataset_size: int | None
    stratified: bool

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        beta: float = 6.0,
        alpha: float = 1.0,
        gamma: float = 1.0,
        dataset_size: int | None = None,
        stratified: bool = True,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        if dataset_size is not None:
            dataset_size = check_whole(self, "dataset_size", dataset_size)
        self._keep(
            beta=check_number(self, "beta", beta, above=0),
            alpha=check_number(self, "alpha", alpha, above=0),
            gamma=check_number(self, "gamma", gamma, above=0),
            dataset_size=dataset_size,
            stratified=bool(stratified),
        )

    def divergence(self, codes: Codes) -> Tensor:
        """Its three parts, each with its weight."""
        # Other data, as of a test set, may come in larger batches than all that it was trained on.
        size = None if self.dataset_size is None else max(self.dataset_size, len(codes.z))
        information, correlation, rest = kl_decomposition(
            codes.z, codes.mu, codes.logvar, dataset_size=size, stratified=self.stratified
        )
        return self.alpha * information + self.beta * correlation + self.gamma * rest

    def _loss(
        self,
        x: Tensor,
        prepared: Tensor,
        beta: float | Tensor,
        free_bits: float,
        generator: Generator | None,
    ) -> ELBO:
        if free_bits:
            raise ValueError(
                f"BetaTCVAE: free_bits is {free_bits}, which the parts of its KL term lack"
            )
        return super()._loss(x, prepared, beta, free_bits, generator)


class DIPVAE(PenalizedVAE):
    """loss = nll + kl + the covariance of the codes held at the identity.

    Kumar et al. 2018, "Variational inference of disentangled latent concepts from unlabeled
    observations": offdiagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2, where C is the
    covariance of mu over the batch (I, equation 6), or that plus the mean of the variances (II,
    equation 7): the covariance of z. Of N data it is divided by N.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        variant: "i" or "ii".
        offdiagonal: the paper's lambda_od.
        diagonal: lambda_d; the paper has 10 times the other one for I, and the same for II.
        **networks: the other arguments of a VAE.

    Raises:
        ValueError: there is no such variant; or, of the loss, a batch of one.

    Example:
        >>> import torch
        >>> from vae_fast.models import DIPVAE
        >>> DIPVAE(784, 10, variant="i").loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "dip_vae"
    title: ClassVar[str] = "DIP-VAE"
    variant: str
    offdiagonal: float
    diagonal: float

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        variant: Literal["i", "ii"] = "ii",
        offdiagonal: float = 10.0,
        diagonal: float = 10.0,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        if variant not in ("i", "ii"):
            raise ValueError(f"DIPVAE: variant is {variant!r}, expected 'i' or 'ii'")
        self._keep(
            variant=variant,
            offdiagonal=check_number(self, "offdiagonal", offdiagonal, above=0),
            diagonal=check_number(self, "diagonal", diagonal, above=0),
        )

    def penalty(self, codes: Codes, x: Tensor, generator: Generator | None) -> Tensor:
        """Of the covariance."""
        centred = codes.mu - codes.mu.mean(0)
        covariance = centred.t() @ centred / len(centred)
        variances = covariance.diagonal()
        mixed = (covariance - torch.diag(variances)).square().sum()
        if self.variant == "ii":
            variances = variances + codes.logvar.exp().mean(0)
        return self.offdiagonal * mixed + self.diagonal * (variances - 1).square().sum()


def prior_discrepancy(z: Tensor, kernel: Kernel, generator: Generator | None) -> Tensor:
    """:func:`vae_fast.mmd` between codes (B, D) and as many draws from N(0, I).

    Raises:
        ValueError: there are fewer than two codes.
    """
    return mmd(z, batch_noise(z, generator, torch.randn), kernel=kernel)


def batch_noise(like: Tensor, generator: Generator | None, draw: Any) -> Tensor:
    """Noise of a batch's shape, which is not a datum's own.

    Args:
        like: of the shape, dtype and device.
        generator: None: torch's default one of the device.
        draw: torch.rand or torch.randn.

    Raises:
        ValueError: a generator for each datum.
    """
    if isinstance(generator, (list, tuple)):
        raise ValueError("generator is a list; expected one generator: the noise is of the batch")
    device = like.device if generator is None else generator.device
    noise: Tensor = draw(like.shape, generator=generator, device=device, dtype=like.dtype)
    return noise.to(like.device)


class InfoVAE(PenalizedVAE):
    """loss = nll + (1 - alpha) kl + (alpha + lambda - 1) MMD(q(z), p(z)).

    Zhao et al. 2019, "InfoVAE", equation 6, with its divergence MMD by :func:`vae_fast.mmd`, of the
    batch's codes and as many draws from the prior. With alpha = 1 the KL is gone (MMD-VAE).

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        alpha: how much of the KL term is left out, at most 1. With both terms whole the code of
            simple data may say nothing at all.
        weight: the paper's lambda; 1 - alpha at least.
        kernel: of the MMD, "rbf" or "imq".
        **networks: the other arguments of a VAE.

    Raises:
        ValueError: a setting is out of its range; or, of the loss, a batch of one.

    Example:
        >>> import torch
        >>> from vae_fast.models import InfoVAE
        >>> loss, nll, kl = InfoVAE(784, 10, alpha=0.5, weight=100.0).loss(torch.rand(8, 784))
        >>> loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "info_vae"
    title: ClassVar[str] = "InfoVAE"
    alpha: float
    weight: float
    kernel: Kernel

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        alpha: float = 1.0,
        weight: float = 100.0,
        kernel: Kernel = "rbf",
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        check_choice("InfoVAE", "kernel", kernel, get_args(Kernel))
        alpha = check_number(self, "alpha", alpha)
        if alpha > 1:
            raise ValueError(f"InfoVAE: alpha is {alpha}, expected at most 1")
        self._keep(
            alpha=alpha,
            weight=check_number(self, "weight", weight, above=1 - alpha),
            kernel=kernel,
        )

    def divergence(self, codes: Codes) -> Tensor:
        """What is left of the KL."""
        return (1 - self.alpha) * codes.kl

    def penalty(self, codes: Codes, x: Tensor, generator: Generator | None) -> Tensor:
        """The discrepancy."""
        weight = self.alpha + self.weight - 1
        return weight * prior_discrepancy(codes.z, self.kernel, generator)
