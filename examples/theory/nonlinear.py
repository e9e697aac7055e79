"""The model of two sections: one hidden layer over a code, and its exact likelihood."""

from __future__ import annotations

import math

import torch
from chapter import cosine_adam
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor, nn

import vae_fast as vf

_HALF = 6.0  # the prior has 1 - 4e-9 of its mass within


def make(latent: int, pixels: int = 64, hidden: int = 64) -> vf.VAE:
    """Of x = W_2 tanh(W_1 z + b_1) + b_2 + noise of one learned variance; its encoder alike."""
    return vf.VAE(
        pixels,
        latent,
        likelihood="gaussian",
        encoder=nn.Sequential(
            nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent)
        ),
        decoder=nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, pixels)),
    )  # fmt: skip


def noise_logvar(model: vf.VAE) -> Tensor:
    """The logarithm of the learned variance."""
    return model.likelihood.shared[0]


def grid(cells: int) -> Tensor:
    """A square lattice of codes over the prior's mass, (cells^2, 2)."""
    line = torch.linspace(-_HALF, _HALF, cells)
    return torch.cartesian_prod(line, line)


@torch.no_grad()
def log_prob_by_quadrature(model: vf.VAE, x: Tensor, cells: int = 300) -> Tensor:
    """The truth, log p(x), (B,), of a model whose codes are in the plane, by the trapezoidal rule.

    The sum over a lattice is a mixture: a component for each code, of the prior's weight there. Of
    what is smooth and vanishes at the ends, the rule converges exponentially in the step.
    """
    z = grid(cells)
    mean = model.decoder(z)
    logits = -0.5 * z.square().sum(1)
    return vf.gaussian_mixture_log_prob(x, mean, noise_logvar(model), logits)


def log_weights(model: vf.VAE, x: Tensor, mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """Of q = N(mu, exp(logvar)), noise (K, B, latent): log p(x, z_k) - log q(z_k | x), (K, B)."""
    shape = noise.shape
    z = vf.reparameterize(mu.expand(shape), logvar.expand(shape), noise=noise)
    mean = model.decoder(z.flatten(0, 1)).unflatten(0, shape[:2])
    nll = vf.gaussian_nll(mean, x, noise_logvar(model), batch_dims=2, reduction="sample")
    ratio = vf.gaussian_log_ratio(z, mu, logvar, noise=noise, batch_dims=2, reduction="sample")
    return -nll - ratio


def elbo(model: vf.VAE, x: Tensor, mu: Tensor, logvar: Tensor, nodes: int = 16) -> Tensor:
    """The bound of q = N(mu, exp(logvar)) in the plane, (B,), by the Gauss-Hermite rule."""
    at, weight = (torch.tensor(part, dtype=x.dtype) for part in hermegauss(nodes))
    noise = torch.cartesian_prod(at, at).unsqueeze(1).expand(-1, len(x), -1)
    weights = torch.cartesian_prod(weight, weight).prod(1, keepdim=True)
    return (weights / weights.sum() * log_weights(model, x, mu, logvar, noise)).sum(0)


def best_posterior(model: vf.VAE, x: Tensor, steps: int = 300) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of each datum's best Gaussian q: by Adam, from the encoder's."""
    mu, logvar = (part.detach().clone().requires_grad_() for part in model.encode(x))
    optimizer, schedule = cosine_adam((mu, logvar), 0.05, steps)
    for _ in range(steps):
        loss = -elbo(model, x, mu, logvar, 6).sum()
        mu.grad, logvar.grad = torch.autograd.grad(loss, (mu, logvar))
        optimizer.step()
        schedule.step()
    return mu.detach(), logvar.detach()


@torch.no_grad()
def posterior_on_grid(model: vf.VAE, x: Tensor, cells: int, half: float) -> tuple[Tensor, Tensor]:
    """Of one datum, the codes of a lattice over [-half, half]^2 and p(z | x) up to its largest."""
    line = torch.linspace(-half, half, cells)
    z = torch.cartesian_prod(line, line)
    nll = vf.gaussian_nll(
        model.decoder(z), x.expand(len(z), -1), noise_logvar(model), reduction="sample"
    )
    joint = -nll - 0.5 * z.square().sum(1)
    return line, (joint - joint.max()).exp().reshape(cells, cells).T


def log_prob_of_pca(x: Tensor, latent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilistic PCA of the best fit, whose likelihood and posterior are closed forms.

    With the eigenvalues l of the data's covariance: noise of variance s, the mean of those left
    out, and axes of length sqrt(l - s) (Tipping and Bishop 1999, equations 7 and 8).

    Returns:
        The data in the axes' frame, (B, latent), the axes' lengths, s, and log p(x) less what the
        directions without an axis give it, (B,).
    """
    centred = x.double() - x.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T.cov())
    values, vectors = values.flip(0), vectors.flip(1)
    noise = values[latent:].mean()
    inside = centred @ vectors[:, :latent]
    truth = torch.distributions.Normal(0, values[:latent].sqrt()).log_prob(inside).sum(1)
    return inside, (values[:latent] - noise).sqrt(), noise, truth


def effective_sample_size(weights: Tensor) -> Tensor:
    """Of log weights (K, B), how many equal ones are worth as much, (B,)."""
    shares = weights.log_softmax(0)
    return (-torch.logsumexp(2 * shares, 0)).exp()


def log_mean(weights: Tensor) -> Tensor:
    """The logarithm of the mean of weights (K, *), of which the logarithms are given."""
    return weights.logsumexp(0) - math.log(len(weights))
