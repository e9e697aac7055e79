"""Clusters of codes: a mixture of diagonal Gaussians, by EM."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.latent import gaussian_mixture_log_prob

_SMALLEST_VARIANCE = 1e-6  # of the codes' own, below which no component shrinks


class GaussianMixture(NamedTuple):
    """A mixture of K diagonal Gaussians, as :func:`vae_fast.gaussian_mixture_log_prob` takes it.

    Attributes:
        mean: (K, D) float64.
        logvar: (K, D) float64.
        logits: (K,) float64, the logarithms of the components' shares.
        log_likelihood: mean of log p(z) over what it was fitted to, in nats.
    """

    mean: Tensor
    logvar: Tensor
    logits: Tensor
    log_likelihood: float


def fit_gaussian_mixture(
    z: Tensor, components: int, *, seed: int = 0, tolerance: float = 1e-6, iterations: int = 500
) -> GaussianMixture:
    """Fit a mixture to codes by expectation and maximisation (Dempster et al. 1977).

    The expectations are the gradients of the mixture's log density: its gradient in the logits is
    sum_n r_nk - N pi_k, those in means and log-variances are the moments of (z - mean) under the
    responsibilities r. It starts from k-means' centres.

    Args:
        z: (N, D).
        components: K, at most N.
        seed: of k-means.
        tolerance: nats per code; less gain than that between two iterations ends it.
        iterations: at most.

    Raises:
        TypeError: z is no floating tensor.
        ValueError: it is not (N, D), or the components are not from 1 to N.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import fit_gaussian_mixture
        >>> z = torch.tensor([[-5.0], [-4.0], [4.0], [5.0]])
        >>> mixture = fit_gaussian_mixture(z, 2)
        >>> [round(float(value), 4) for value in mixture.mean.sort(0).values]
        [-4.5, 4.5]
    """
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]

    if not isinstance(z, Tensor) or not z.is_floating_point():
        kind = getattr(z, "dtype", type(z).__name__)
        raise TypeError(f"fit_gaussian_mixture: z is {kind}; expected a floating tensor")
    if z.dim() != 2:
        raise ValueError(f"fit_gaussian_mixture: z has shape {tuple(z.shape)}; expected (N, D)")
    if not 1 <= components <= len(z):
        raise ValueError(
            f"fit_gaussian_mixture: components is {components}; expected from 1 to {len(z)}, one "
            "for each code"
        )
    z = z.detach().double()
    centres = KMeans(components, n_init=4, random_state=seed).fit(z.cpu().numpy())
    least = _SMALLEST_VARIANCE * z.var(0, correction=0).clamp(min=torch.finfo(z.dtype).tiny)
    mean = torch.from_numpy(centres.cluster_centers_).to(z)
    variance = (z - mean[torch.from_numpy(centres.labels_).long()]).square().mean(0)
    logvar = torch.maximum(variance, least).log().expand_as(mean)
    logits = mean.new_full((components,), 1 / components).log()
    before = -torch.inf
    for _ in range(iterations):
        total, mean, logvar, logits = _improved(z, mean, logvar, logits, least)
        if total - before < tolerance:
            break
        before = total
    return GaussianMixture(mean, logvar, logits, total)


def _improved(
    z: Tensor, mean: Tensor, logvar: Tensor, logits: Tensor, least: Tensor
) -> tuple[float, Tensor, Tensor, Tensor]:
    """The mean log-likelihood of a mixture, and the mixture after one step of EM."""
    leaves = [part.detach().requires_grad_() for part in (mean, logvar, logits)]
    with torch.enable_grad():
        total = gaussian_mixture_log_prob(z, *leaves).sum()
        slopes = torch.autograd.grad(total, leaves)
    variance = logvar.exp()
    # What a component without a code would divide by.
    counts = (slopes[2] + len(z) * torch.softmax(logits, 0)).clamp(min=1e-10).unsqueeze(1)
    shift = variance * slopes[0] / counts
    spread = variance * (1 + 2 * slopes[1] / counts)  # around the old mean
    return (
        total.item() / len(z),
        mean + shift,
        torch.maximum(spread - shift * shift, least).log(),
        (counts.squeeze(1) / counts.sum()).log(),
    )


@torch.no_grad()
def assign(z: Tensor, mixture: GaussianMixture) -> Tensor:
    """The most probable component of each code.

    Args:
        z: (N, D).
        mixture: as :func:`vae_fast.evaluation.fit_gaussian_mixture` gives it.

    Returns:
        (N,) int64.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import assign, fit_gaussian_mixture
        >>> z = torch.tensor([[-5.0], [-4.0], [4.0], [5.0]])
        >>> labels = assign(z, fit_gaussian_mixture(z, 2))
        >>> bool(labels[0] == labels[1]), bool(labels[1] == labels[2])
        (True, False)
    """
    z = z.detach().to(mixture.mean)
    parts = [
        weight + gaussian_mixture_log_prob(z, mean.unsqueeze(0), logvar.unsqueeze(0))
        for mean, logvar, weight in zip(
            mixture.mean, mixture.logvar, torch.log_softmax(mixture.logits, 0), strict=True
        )
    ]
    return torch.stack(parts, dim=1).argmax(1)
