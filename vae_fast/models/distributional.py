"""VAEs of any posterior and any prior, by name."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_fast.bounds import ELBO, importance_weighted_loss
from vae_fast.engine.checks import check_choice
from vae_fast.engine.likelihood import Params
from vae_fast.latent import rsample_kl
from vae_fast.latent.posteriors import POSTERIORS
from vae_fast.latent.priors import DiagonalNormal, Flow, MixtureOfGaussians, Prior, VampPrior
from vae_fast.latent.seeds import Generator
from vae_fast.models.base import LatentModel, Shape, register_output
from vae_fast.models.settings import check_whole
from vae_fast.models.wide import wide_decoder


class PosteriorOutput(NamedTuple):
    """What `PosteriorVAE.forward` gives.

    Attributes:
        params: of p(x | z): logits, or mean and log-variance.
        z: a draw from q(z | x), (B, *latent).
        kl: KL(q(z | x) || p(z)), nats per datum, averaged over the batch; where it has no closed
            form, the estimate at z.
    """

    params: Params
    z: Tensor
    kl: Tensor


class PosteriorVAE(LatentModel):
    """A VAE whose posterior and prior are any that the package has; loss = nll + beta kl.

    The encoder's output becomes q(z | x) by a head of ``vae_fast.latent.POSTERIORS``, and
    the prior is the one that goes with it; see the posterior's class. The divergence is in closed
    form where there is one, else log q(z | x) - log p(z) at the sample. A :class:`vae_fast.VAE`,
    whose posterior is the diagonal normal one and whose prior N(0, I), takes shorter ways.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: how many numbers z has; of classes, how many there are.
        posterior: its name in POSTERIORS.
        **networks: the other arguments of a model.

    Raises:
        ValueError: there is no such posterior, or none of such a latent_dim, or latent_dim is a
            shape; or, of the loss, free bits, which are of the VAE's KL alone.

    Example:
        >>> import torch
        >>> from vae_fast.models import PosteriorVAE
        >>> model, x = PosteriorVAE(784, 10, posterior="low_rank_normal"), torch.rand(8, 784)
        >>> loss, nll, kl = model.loss(x)
        >>> torch.equal(loss, nll + kl), model.sample(3).shape
        (True, torch.Size([3, 784]))
    """

    kind: ClassVar[str] = "posterior_vae"
    title: ClassVar[str] = "VAE of another posterior"
    posterior: str
    prior: Prior

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        posterior: str = "full_normal",
        **networks: Any,
    ) -> None:
        check_choice(type(self).__name__, "posterior", posterior, POSTERIORS)
        if not isinstance(latent_dim, int):
            raise ValueError(
                f"{type(self).__name__}: latent_dim is {latent_dim!r}, expected a number: a "
                f"posterior is one of vectors"
            )
        head = POSTERIORS[posterior](latent_dim)
        self._numbers = head.numbers
        super().__init__(input_shape, latent_dim, **networks)
        self.head = head
        self._keep(posterior=posterior)
        self.prior = head.prior()

    def _code_numbers(self) -> int:
        return self._numbers

    def encode(self, x: Tensor) -> Distribution:
        """The posterior q(z | x), of the batch (B,)."""
        q: Distribution = self.head(self.encoder(self.likelihood.encoded(self.prepare(x))))
        return q

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        return_loss: Literal[False] = False,
        generator: Generator | None = None,
    ) -> PosteriorOutput: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        return_loss: Literal[True],
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> ELBO: ...

    def forward(
        self,
        x: Tensor,
        *,
        return_loss: bool = False,
        beta: float | Tensor = 1.0,
        free_bits: float = 0.0,
        generator: Generator | None = None,
    ) -> PosteriorOutput | ELBO:
        """Encode, draw, decode; or the loss of that.

        Args:
            x: (B, *input_shape), floats or uint8.
            return_loss: the negative evidence lower bound, as `loss` gives it.
            beta: weight of the divergence in the loss.
            free_bits: 0; they are of a :class:`vae_fast.VAE`.
            generator: None: posteriors draw from torch's default one of the device.
        """
        if free_bits or generator is not None:
            raise ValueError(
                f"{type(self).__name__}: free_bits is {free_bits} and generator {generator!r}, "
                f"which posteriors by name lack; expected 0 and None"
            )
        prepared = self.prepare(x)
        z, kl = rsample_kl(self.encode(prepared), self.prior)
        if not return_loss:
            return PosteriorOutput(self.decode(z), z, kl.mean())
        wide = wide_decoder(self.decoder, x) if self._is_plain(x) else None
        nll, kl = self._nll(z, x, prepared, wide), kl.mean()
        return ELBO(nll + kl * beta, nll, kl)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The expected x under p(x | z) at the code of `embed`, (B, *input_shape)."""
        return self.likelihood.reconstruction(self.decode(self.embed(x)), x)

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """The mean of q(z | x), or, where that is not in closed form, a draw: (B, *latent)."""
        q = self.encode(x)
        try:
            return q.mean
        except NotImplementedError:
            return q.sample()

    def log_likelihood(self, x: Tensor, num_samples: int = 100, *, chunk: int = 16) -> Tensor:
        """A lower bound of log p(x) from importance samples; see :class:`vae_fast.VAE`'s.

        Args:
            x: (B, *input_shape), floats or uint8.
            num_samples: K.
            chunk: samples decoded at a time.

        Returns:
            (B,), in nats.

        Raises:
            ValueError: `num_samples` or `chunk` is below 1.
        """
        num_samples = check_whole(self, "num_samples", num_samples)
        chunk = check_whole(self, "chunk", chunk)
        prepared = self.prepare(x)
        q = self.encode(prepared)
        weights = []
        for first in range(0, num_samples, chunk):
            z = q.rsample((min(chunk, num_samples - first),))
            log_p = self.prior.log_prob(z) - self._conditional_nll(x, prepared, z)
            weights.append(log_p - q.log_prob(z))
        return -importance_weighted_loss(torch.cat(weights), reduction="none")

    def draw_codes(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Of the prior."""
        return self.prior.sample((n,), generator)


PosteriorVAE._methods = {name: getattr(PosteriorVAE, name) for name in ("decode", "_nll")}
register_output(PosteriorOutput)


class SphericalVAE(PosteriorVAE):
    """Codes on the unit sphere, and the uniform distribution on it as prior.

    Davidson et al. 2018, "Hyperspherical variational auto-encoders" (S-VAE), of the von
    Mises-Fisher distribution; De Cao and Aziz 2020, "The power spherical distribution", of that
    one, whose samples need no rejection.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: numbers of a code, one more than the sphere has dimensions; at least 2.
        posterior: "power_spherical" or "von_mises_fisher".
        **networks: the other arguments of a model.

    Raises:
        ValueError: it is another posterior.

    Example:
        >>> import torch
        >>> from vae_fast.models import SphericalVAE
        >>> model = SphericalVAE(784, 3)
        >>> model(torch.rand(8, 784)).z.norm(dim=1).allclose(torch.ones(8))
        True
    """

    kind: ClassVar[str] = "spherical_vae"
    title: ClassVar[str] = "Spherical VAE"

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        posterior: Literal["power_spherical", "von_mises_fisher"] = "power_spherical",
        **networks: Any,
    ) -> None:
        check_choice(
            "SphericalVAE", "posterior", posterior, ("power_spherical", "von_mises_fisher")
        )
        super().__init__(input_shape, latent_dim, posterior=posterior, **networks)


class _WithPrior(PosteriorVAE):
    """The diagonal normal posterior, and another prior than N(0, I)."""

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        posterior: str = "diagonal_normal",
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, posterior=posterior, **networks)


class LearnedPriorVAE(_WithPrior):
    """The prior is a diagonal normal whose mean and variances are learned; the KL is exact.

    Example:
        >>> import torch
        >>> from vae_fast.models import LearnedPriorVAE
        >>> LearnedPriorVAE(784, 10).loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "learned_prior_vae"
    title: ClassVar[str] = "VAE of a learned normal prior"

    def __init__(self, input_shape: Shape = 784, latent_dim: Shape = 20, **networks: Any) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self.prior = DiagonalNormal(self.latent_shape[0])


class FlowPriorVAE(_WithPrior):
    """The prior is a masked autoregressive flow, which is learned.

    Chen et al. 2017, "Variational lossy autoencoder". Of the package zuko:
    ``pip install 'vae_fast[flows]'``.

    Example:
        >>> import torch
        >>> from vae_fast.models import FlowPriorVAE
        >>> FlowPriorVAE(784, 4).loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "flow_prior_vae"
    title: ClassVar[str] = "VAE of a flow as prior"

    def __init__(self, input_shape: Shape = 784, latent_dim: Shape = 20, **networks: Any) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self.prior = Flow(self.latent_shape[0])


class MixtureVAE(_WithPrior):
    """The prior is a mixture of diagonal normals, which are learned.

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        num_components: how many.
        **networks: the other arguments of a model.

    Example:
        >>> import torch
        >>> from vae_fast.models import MixtureVAE
        >>> MixtureVAE(784, 10, num_components=5).loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "mixture_vae"
    title: ClassVar[str] = "VAE of a mixture as prior"
    num_components: int

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_components: int = 10,
        **networks: Any,
    ) -> None:
        super().__init__(input_shape, latent_dim, **networks)
        self._keep(num_components=check_whole(self, "num_components", num_components))
        self.prior = MixtureOfGaussians(self.latent_shape[0], self.num_components)


class VampVAE(_WithPrior):
    """The prior is the posteriors of pseudo-inputs, which are learned, in equal parts.

    Tomczak and Welling 2018, "VAE with a VampPrior". Pseudo-inputs of intensities are held within
    [0, 1], as in the paper, and start as random ones; of real values they start in N(0, I).

    Args:
        input_shape: see :class:`vae_fast.models.LatentModel`, as of all that is not here.
        latent_dim: likewise.
        num_pseudo_inputs: how many; 500 in the paper.
        posterior: "diagonal_normal", which the mixture is made of.
        **networks: the other arguments of a model.

    Raises:
        ValueError: the likelihood is of counts or classes.

    Example:
        >>> import torch
        >>> from vae_fast.models import VampVAE
        >>> VampVAE(784, 10, num_pseudo_inputs=20).loss(torch.rand(8, 784)).loss.isfinite()
        tensor(True)
    """

    kind: ClassVar[str] = "vamp_vae"
    title: ClassVar[str] = "VAE of a VampPrior"
    num_pseudo_inputs: int

    def __init__(
        self,
        input_shape: Shape = 784,
        latent_dim: Shape = 20,
        *,
        num_pseudo_inputs: int = 100,
        posterior: Literal["diagonal_normal"] = "diagonal_normal",
        **networks: Any,
    ) -> None:
        check_choice("VampVAE", "posterior", posterior, ("diagonal_normal",))
        super().__init__(input_shape, latent_dim, posterior=posterior, **networks)
        count = check_whole(self, "num_pseudo_inputs", num_pseudo_inputs)
        self._keep(num_pseudo_inputs=count)
        if self.likelihood.data not in ("intensities", "numbers"):
            raise ValueError(
                f"VampVAE: likelihood is {self.likelihood.name!r}, of {self.likelihood.data}; "
                f"expected one of intensities or real values, which a gradient moves"
            )
        draw = torch.rand if self._of_intensities else torch.randn
        self.prior = VampPrior(self._encode_pseudo_inputs, draw(count, *self.input_shape))

    @property
    def _of_intensities(self) -> bool:
        return self.likelihood.data == "intensities"

    def _encode_pseudo_inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q: Any = self.encode(x.clamp(0, 1) if self._of_intensities else x)
        return q.loc, q.logvar
