"""The divergence of the ELBO taken apart: what the code knows, how its parts hang together."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.aggregated import aggregated_log_prob
from vae_fast.evaluation.annealing import standard_normal_log_prob
from vae_fast.evaluation.checks import check_posterior
from vae_fast.latent import gaussian_kl


class Decomposition(NamedTuple):
    """KL(q(z | x) || p(z)), averaged over the data, as a sum of three; nats.

    Attributes:
        mutual_information: I(x; z) = KL(q(z, x) || q(z) p(x)), at most log N of N data.
        total_correlation: KL(q(z) || prod_j q(z_j)): how far the dimensions depend on each other.
        dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
        standard_errors: of the three, in this order, by the noise of the codes drawn.
    """

    mutual_information: float
    total_correlation: float
    dimension_wise_kl: float
    standard_errors: tuple[float, float, float]

    @property
    def kl(self) -> float:
        """Their sum, which is the divergence itself, exactly."""
        return self.mutual_information + self.total_correlation + self.dimension_wise_kl


@torch.no_grad()
def decompose_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    samples: int = 2,
    generator: torch.Generator | None = None,
) -> Decomposition:
    """Mutual information, total correlation and dimension-wise KL of codes N(mu, exp(logvar)).

    The prior is N(0, I).
    Hoffman and Johnson 2016, equation 8; Chen et al. 2018, equation 2. q(z) is the mixture of the
    posteriors of all data that are given; from a minibatch, for training, there is
    :func:`vae_fast.kl_decomposition`. What is left to
    chance are the codes in E_q; of them log q(z | x) and log p(z) have known expectations, and a
    regression on these (control variates) makes the three sum to the exact divergence.

    Args:
        mu: (N, D), the means of q(z | x) of N data.
        logvar: (N, D), the logarithms of its variances.
        samples: codes that are drawn for each datum; the work is N^2 D times this.
        generator: for the noise, of the CPU.

    Raises:
        TypeError: mu or logvar is no floating tensor.
        ValueError: they are not (N, D) both, with at least 2 data; or samples is below 1.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import decompose_kl
        >>> mu = torch.tensor([[-9.0], [9.0]])  # data that are told apart: log 2 nats
        >>> parts = decompose_kl(mu, torch.zeros(2, 1))
        >>> round(parts.mutual_information, 4), round(parts.total_correlation, 4)
        (0.6931, 0.0)
        >>> round(parts.kl, 4)
        40.5
    """
    check_posterior("decompose_kl", mu, logvar)
    if samples < 1:
        raise ValueError(f"decompose_kl: samples is {samples}; expected at least 1")
    mu, logvar = mu.double(), logvar.double()
    noise = torch.randn(samples, *mu.shape, generator=generator, dtype=mu.dtype, device="cpu")
    noise = noise.to(mu.device)
    z = mu + (0.5 * logvar).exp() * noise
    log_q, log_marginals = aggregated_log_prob(z.flatten(0, 1), mu, logvar)
    log_product = log_marginals.sum(-1)
    entropy = 0.5 * (logvar + math.log(2 * math.pi) + 1).sum(-1)
    own = (-0.5 * (noise * noise + logvar + math.log(2 * math.pi))).sum(-1).flatten()
    prior = standard_normal_log_prob(z).flatten()
    parts = torch.stack([own - log_q, log_q - log_product, log_product - prior], dim=1)
    # What these two are off by is known for each datum; so is where its divergence stands.
    kl = gaussian_kl(mu, logvar, reduction="sample")
    known_prior = (-entropy - kl).repeat(samples)
    controls = torch.stack(
        [own + entropy.repeat(samples), prior - known_prior, (kl - kl.mean()).repeat(samples)], 1
    )
    return _controlled(parts, controls)


def _controlled(parts: Tensor, controls: Tensor) -> Decomposition:
    """The means of the parts (n, 3), where those of the controls (n, c) are known to be 0.

    A sum of parts that is linear in the controls is then exact, whatever the others are.
    """
    centred = controls - controls.mean(0)
    # Of columns that are constant, such as the divergence of data with equal ones, the pseudo-
    # inverse takes nothing; gelsd knows them by their size beside the others'.
    slopes = torch.linalg.lstsq(
        centred.cpu(), (parts - parts.mean(0)).cpu(), driver="gelsd"
    ).solution.to(parts)
    means = parts.mean(0) - controls.mean(0) @ slopes
    residuals = parts - parts.mean(0) - centred @ slopes
    errors = residuals.std(0) / math.sqrt(len(parts))
    first, second, third = means.tolist()
    return Decomposition(first, second, third, tuple(errors.tolist()))
