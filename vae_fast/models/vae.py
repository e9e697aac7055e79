"""The variational auto-encoder (Kingma and Welling 2014)."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, overload

import torch
from torch import Tensor

from vae_fast.bounds import ELBO, importance_weighted_loss
from vae_fast.engine.likelihood import Params
from vae_fast.latent import reparameterize, reparameterize_kl
from vae_fast.latent.seeds import Generator
from vae_fast.models.base import LatentModel, register_output
from vae_fast.models.sampled import Sampling, log_weights_of, sampled_terms
from vae_fast.models.whole import whole_terms
from vae_fast.models.wide import WideDecoder, wide_decoder

_ONE_CODE = Sampling()


class Codes(NamedTuple):
    """What the loss of a batch is made of.

    Attributes:
        mu: means of q(z | x), (B, *latent).
        logvar: their log-variances.
        z: a draw from each.
        kl: KL(q(z | x) || N(0, I)), nats per datum, averaged over the batch.
        nll: -log p(x | z), likewise.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    kl: Tensor
    nll: Tensor


class VAEOutput(NamedTuple):
    """What `VAE.forward` gives.

    Attributes:
        params: of p(x | z): logits, or mean and log-variance.
        mu: mean of q(z | x), (B, *latent).
        logvar: log-variance of q(z | x), (B, *latent).
        z: a draw from q(z | x), (B, *latent).
        kl: KL(q(z | x) || N(0, I)), nats per datum, averaged over the batch.
    """

    params: Params
    mu: Tensor
    logvar: Tensor
    z: Tensor
    kl: Tensor


class VAE(LatentModel):
    """x to a Gaussian q(z | x), a draw from it, and p(x | z); the prior of z is N(0, I).

    An encoder of your own gives (B, 2 * latent): the means, then the log-variances, along
    dimension 1; or the pair of them. Other arguments: see
    :class:`vae_fast.models.LatentModel`.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> model = vf.VAE(784, 20)
        >>> x = torch.rand(8, 784)
        >>> loss, nll, kl = model(x, return_loss=True)
        >>> loss.backward()
        >>> model.embed(x).shape, model.reconstruct(x).shape, model.sample(3).shape
        (torch.Size([8, 20]), torch.Size([8, 784]), torch.Size([3, 784]))
    """

    kind: ClassVar[str] = "vae"
    title: ClassVar[str] = "VAE"
    code_size: ClassVar[int] = 2
    takes_conditions: ClassVar[bool] = True
    takes_estimators: ClassVar[bool] = True  # whether its loss may be another bound
    sampling: Sampling = _ONE_CODE  # where the caller asks for nothing else

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), each (B, *latent)."""
        prepared = self.prepare(x)
        encoded = self.likelihood.encoded(self.measured(prepared))
        heads = self.encoder(self._beside(encoded, prepared))
        # Views of the two halves: the kernels read strides, nothing is copied.
        mu, logvar = heads.chunk(2, dim=1) if isinstance(heads, Tensor) else heads
        if mu.dim() == 2 and len(self.latent_shape) > 1:
            mu, logvar = (head.unflatten(1, self.latent_shape) for head in (mu, logvar))
        return mu, logvar

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        return_loss: Literal[False] = False,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> VAEOutput: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        return_loss: Literal[True],
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
        estimator: str = "elbo",
        num_samples: int = 1,
        alpha: float | None = None,
        groups: int | None = None,
        antithetic: bool = False,
    ) -> ELBO: ...

    def forward(
        self,
        x: Tensor,
        *,
        return_loss: bool = False,
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
        estimator: str = "elbo",
        num_samples: int = 1,
        alpha: float | None = None,
        groups: int | None = None,
        antithetic: bool = False,
    ) -> VAEOutput | ELBO:
        """Encode, draw, decode; or the loss of that.

        Args:
            x: (B, *input_shape), floats or uint8.
            return_loss: the negative evidence lower bound, as `loss` gives it.
            beta: weight of the KL term in the loss.
            free_bits: nats of KL that each latent dimension has for nothing.
            generator: for the noise; None: torch's default one of the device. A list of them: one
                for each datum, as in `reparameterize`; not with several samples.
            estimator: see `loss`, as of all that follow.
            num_samples: codes drawn for each datum.
            alpha: of an estimator that has it.
            groups: of an estimator that has them.
            antithetic: whether the codes are pairs.
        """
        prepared = self.prepare(x)
        sampling = Sampling(estimator, num_samples, alpha, groups, antithetic)
        if sampling == _ONE_CODE:
            sampling = self.sampling
        if return_loss and sampling != _ONE_CODE:
            if not self.takes_estimators:
                raise ValueError(
                    f"{type(self).__name__}: estimator is {sampling.estimator!r} and num_samples "
                    f"{sampling.num_samples}; its loss is one of its own, of one code"
                )
            return sampled_terms(self, x, prepared, sampling, beta, free_bits, generator)
        if return_loss:
            return self._loss(x, prepared, beta, free_bits, generator)
        mu, logvar = self.encode(prepared)
        z, kl = reparameterize_kl(mu, logvar, generator=generator, free_bits=free_bits)
        return VAEOutput(self.decode(self._beside(z, prepared)), mu, logvar, z, kl)

    def loss(
        self,
        x: Tensor,
        *,
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
        estimator: str = "elbo",
        num_samples: int = 1,
        alpha: float | None = None,
        groups: int | None = None,
        antithetic: bool = False,
    ) -> ELBO:
        """What training minimises, with its terms, in nats per datum: `forward`'s `return_loss`.

        Of the model itself. What wraps it (DistributedDataParallel, torch.compile's module) is
        called instead: ``wrapped(x, return_loss=True)``.

        Args:
            x: (B, *input_shape), floats or uint8; of counts and classes int32 or int64, too, and
                counts (B, D) in `torch.sparse_csr`.
            beta: weight of the KL term in the loss (Higgins et al. 2017); 1 is the bound itself.
                Of bounds that are the ELBO alone: with another one there is no such term.
            free_bits: nats of KL that each latent dimension has for nothing; of "elbo".
            generator: for the noise; None: torch's default one of the device. A list of them: one
                for each datum, as in `reparameterize`; not with several samples.
            estimator: which bound, and which estimate of its gradient: a name of
                `importance_weighted_loss`. "elbo" is the one whose KL term is in closed form.
            num_samples: K codes for each datum, decoded in one batch of K B.
            alpha: of "renyi", "ciwae" and "dreg"; see `importance_weighted_loss`.
            groups: of "miwae", "piwae" and "dreg"; see `importance_weighted_loss`.
            antithetic: draw the codes in pairs, as `reparameterize` does.

        Returns:
            loss = nll + beta * kl, and both terms unweighted. Of another estimator than "elbo",
            loss is minus its bound, and the terms, which have no gradient then, are the ELBO's:
            what nll + kl is above loss, the bound is tighter.

        Raises:
            ValueError: an unknown estimator, a setting that it lacks or that does not fit, weights
                of a KL term that it does not have, or antithetic codes where they must be
                independent.
        """
        terms: ELBO = self(
            x,
            return_loss=True,
            beta=beta,
            free_bits=free_bits,
            generator=generator,
            estimator=estimator,
            num_samples=num_samples,
            alpha=alpha,
            groups=groups,
            antithetic=antithetic,
        )
        return terms

    def _loss(
        self,
        x: Tensor,
        prepared: Tensor,
        beta: float | Tensor,
        free_bits: float,
        generator: Generator | None,
    ) -> ELBO:
        """The loss of one code for each datum: what a model with another one overrides."""
        nll, kl = self._terms(x, prepared, free_bits, generator)
        return ELBO(nll + kl * beta, nll, kl)

    def _terms(
        self, x: Tensor, prepared: Tensor, free_bits: float, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood and the divergence, nats per datum."""
        wide = None
        if self._is_plain(x):
            wide = wide_decoder(self.decoder, x)
            if wide is None and free_bits == 0 and not isinstance(generator, (list, tuple)):
                terms = whole_terms(self, x, prepared, generator)
                if terms is not None:
                    return terms
        codes = self._codes_of(x, prepared, free_bits, generator, wide)
        return codes.nll, codes.kl

    def _codes_of(
        self,
        x: Tensor,
        prepared: Tensor,
        free_bits: float,
        generator: Generator | None,
        wide: WideDecoder | None = None,
    ) -> Codes:
        """What `_terms` is made of where no op makes the whole."""
        mu, logvar = self.encode(prepared)
        z, kl = reparameterize_kl(mu, logvar, generator=generator, free_bits=free_bits)
        code = self._beside(z, prepared)
        nll = self._nll(code, self.measured(x), self.measured(prepared), wide)
        return Codes(mu, logvar, z, kl, nll)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the mean of q(z | x), (B, *input_shape)."""
        code = self._beside(self.encode(x)[0], x)
        return self.likelihood.reconstruction(self.decode(code), self.measured(x))

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """The means of q(z | x), (B, *latent)."""
        return self.encode(x)[0]

    def log_likelihood(self, x: Tensor, num_samples: int = 100, *, chunk: int = 16) -> Tensor:
        """A lower bound of log p(x) from importance samples (Burda et al. 2016), one per datum.

        log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with z_k from q(z | x): K = 1 estimates the
        ELBO, and the bound tightens with K. Its negated mean is the loss of an IWAE; call it
        under `torch.no_grad()` otherwise.

        Args:
            x: (B, *input_shape), floats or uint8.
            num_samples: K.
            chunk: samples decoded at a time; bounds the memory, changes nothing else.

        Returns:
            (B,), in nats.

        Raises:
            ValueError: `num_samples` or `chunk` is below 1.
        """
        weights = self.log_weights(x, num_samples, chunk=chunk)
        return -importance_weighted_loss(weights, reduction="none")

    def log_weights(self, x: Tensor, num_samples: int = 100, *, chunk: int = 16) -> Tensor:
        """Of importance samples z from q(z | x): log p(x | z) + log p(z) - log q(z | x).

        What `log_likelihood` is the mean of, and :mod:`vae_fast.evaluation` judges.

        Args:
            x: (B, *input_shape), floats or uint8.
            num_samples: K.
            chunk: samples decoded at a time; bounds the memory, changes nothing else.

        Returns:
            (K, B), in nats.

        Raises:
            ValueError: `num_samples` or `chunk` is below 1.
        """
        if num_samples < 1 or chunk < 1:
            raise ValueError(f"num_samples is {num_samples} and chunk {chunk}; expected at least 1")
        prepared = self.prepare(x)
        mu, logvar = self.encode(prepared)
        zero = torch.zeros_like(mu)
        noise = reparameterize(zero, zero, num_samples=num_samples)
        weights = [
            log_weights_of(self, x, prepared, mu, logvar, part)[0]
            for part in torch.split(noise, chunk)
        ]
        return torch.cat(weights)


VAE._methods = {name: getattr(VAE, name) for name in ("encode", "decode", "_nll")}
register_output(VAEOutput)
