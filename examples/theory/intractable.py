"""Where the likelihood is not tractable: what each way to estimate it costs, and what EM lacks."""

from __future__ import annotations

import torch
from chapter import Figures, Numbers, descend, fitted, label, main, panels, small_digits
from nonlinear import (
    effective_sample_size,
    log_mean,
    log_prob_by_quadrature,
    log_prob_of_pca,
    log_weights,
    make,
    noise_logvar,
)
from torch import Tensor

import vae_fast as vf
from vae_fast.plots.figure import COLORS, MUTED

_CODES = 128  # that a step of training decodes, whatever draws them


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """Estimates of log p(x), the cost of the naive one over dimensions, and training by both."""
    train, test = small_digits()
    test = test[:16] if small else test
    x = test[:100]
    model = fitted(make(2), train, steps=500 if small else 3000)
    coarse, truth = (
        log_prob_by_quadrature(model, x, cells) for cells in ((100, 200) if small else (300, 600))
    )
    errors, sizes = _estimates(model, x, truth, 12 if small else 15)
    dimensions = list(range(1, 5 if small else 10))
    naive = [_samples_until_a_nat(train, test[:32], k, 18 if small else 22) for k in dimensions]
    latents = [2, 10] if small else [2, 5, 10, 20]
    trained = {k: _trained(train, test, k, 500 if small else 3000) for k in latents}
    numbers: Numbers = {
        "log_prob": truth.mean().item(),
        "quadrature_error": (coarse - truth).abs().max().item(),
        **errors,
        "naive": {str(k): row for k, row in zip(dimensions, naive, strict=True)},
        "trained": {str(k): row for k, row in trained.items()},
    }
    return numbers, {"intractable": _figure(numbers, sizes)}


@torch.no_grad()
def _estimates(model: vf.VAE, x: Tensor, truth: Tensor, most: int) -> tuple[Numbers, list[int]]:
    """The error of 1 to 2^most samples: mean over the data of the absolute one, in nats."""
    sizes = [2**j for j in range(most + 1)]
    prior = model.decoder(torch.randn(sizes[-1], 2))
    noise = torch.randn(min(sizes[-1], 1024), len(x), 2)
    of_q = log_weights(model, x, *model.encode(x), noise)

    def naive(size: int) -> Tensor:
        """Of each of up to 16 disjoint parts of the samples."""
        parts = prior[: size * min(16, sizes[-1] // size)].split(size)
        return torch.stack(
            [vf.gaussian_mixture_log_prob(x, part, noise_logvar(model)) for part in parts]
        )

    errors = {
        "naive_error": [(naive(size) - truth).abs().mean().item() for size in sizes],
        "q_error": [
            (log_mean(of_q[: size * (len(noise) // size)].unflatten(0, (-1, size)).transpose(0, 1))
             - truth).abs().mean().item()
            for size in sizes if size <= len(noise)
        ],
    }  # fmt: skip
    errors["naive_until_a_nat"] = _first_below(errors["naive_error"], sizes)
    errors["q_until_a_nat"] = _first_below(errors["q_error"], sizes)
    errors["q_share"] = (effective_sample_size(of_q) / len(of_q)).mean().item()
    return errors, sizes


def _first_below(errors: list[float], sizes: list[int], limit: float = 1.0) -> int | None:
    return next((n for error, n in zip(errors, sizes, strict=False) if error < limit), None)


@torch.no_grad()
def _samples_until_a_nat(train: Tensor, x: Tensor, latent: int, most: int) -> Numbers:
    """Of probabilistic PCA, by how many samples half of the data are within a nat.

    And what theory says: exp KL(posterior || prior) samples (Chatterjee and Diaconis 2018).
    """
    inside, lengths, noise, truth = log_prob_of_pca(train, latent)
    inside, truth = inside[: len(x)], truth[: len(x)]
    until = None
    for j in range(most + 1):
        repeats = max(1, min(8, 2 ** (most - j)))
        errors = [
            vf.gaussian_mixture_log_prob(
                inside.float(), torch.randn(2**j, latent) * lengths.float(), noise.log().item()
            )
            - truth
            for _ in range(repeats)
        ]
        if torch.stack(errors).abs().median() < 1:
            until = 2**j
            break
    variance = noise / (noise + lengths**2)  # of the posterior, the same for all data
    mean = inside * lengths / (noise + lengths**2)
    kl = vf.gaussian_kl(mean, variance.log().expand_as(mean), reduction="sample")
    return {"samples": until, "kl": kl.median().item(), "predicted": kl.median().exp().item()}


def _trained(train: Tensor, test: Tensor, latent: int, steps: int) -> Numbers:
    """What a model trained by its bound, and one by codes of the prior, say of the test set.

    Codes of the prior, weighed by what they say of x, are EM's E-step by Monte Carlo: the gradient
    of log 1/K sum_k p(x | z_k) is that of sum_k r_k log p(x | z_k) with r_k the weights' shares.
    """
    by_bound = fitted(make(latent), train, steps=steps)
    by_prior = make(latent)

    def naive(batch: Tensor) -> Tensor:
        mean = by_prior.decoder(torch.randn(_CODES, latent))
        return -vf.gaussian_mixture_log_prob(batch, mean, noise_logvar(by_prior)).mean()

    decoder = [*by_prior.decoder.parameters(), *by_prior.likelihood.parameters()]
    descend(naive, decoder, train, rate=3e-3, steps=steps)
    with torch.no_grad():
        prior = by_prior.decoder(torch.randn(4096, latent))
        seen = test[:64]
        each = prior.unsqueeze(1).expand(-1, len(seen), -1)
        logvar = noise_logvar(by_prior)
        nll = vf.gaussian_nll(each, seen, logvar, batch_dims=2, reduction="sample")
    encoder = by_prior.encoder.parameters()  # only to measure: the decoder stays as it is
    descend(lambda b: by_prior.loss(b).loss, encoder, train, rate=3e-3, steps=steps)
    return {
        "recognition_model": _log_prob(by_bound, test),
        "prior_samples": _log_prob(by_prior, test),
        "ess_of_4096": effective_sample_size(-nll).median().item(),
    }


@torch.no_grad()
def _log_prob(model: vf.VAE, x: Tensor) -> float:
    if model.latent_shape == (2,):
        return log_prob_by_quadrature(model, x).mean().item()
    return model.log_likelihood(x, 1000, chunk=50).mean().item()


def _figure(numbers: Numbers, sizes: list[int]) -> object:
    figure, axes = panels(3, height=3.3)
    for name, title, colour in (
        ("naive_error", "codes of the prior", COLORS[1]),
        ("q_error", "codes of q(z | x)", COLORS[0]),
    ):
        errors = numbers[name]
        axes[0].loglog(sizes[: len(errors)], errors, color=colour, marker=".", label=title)
    axes[0].axhline(1, color=MUTED, linewidth=1, linestyle=":")
    axes[0].legend(fontsize=8)
    label(axes[0], "codes in the plane", "samples", "mean |error| of log p(x), nats")
    rows = {int(k): row for k, row in numbers["naive"].items()}
    axes[1].semilogy(
        list(rows),
        [row["samples"] for row in rows.values()],
        "o",
        color=COLORS[1],
        label="measured",
    )
    axes[1].semilogy(
        list(rows), [row["predicted"] for row in rows.values()], color=MUTED, linestyle="--",
        label="exp KL(posterior || prior)",
    )  # fmt: skip
    axes[1].legend(fontsize=8)
    label(axes[1], "codes of the prior until 1 nat", "dimensions of the code", "samples")
    for name, title, colour in (
        ("prior_samples", "EM, codes of the prior", COLORS[1]),
        ("recognition_model", "with a recognition model", COLORS[0]),
    ):
        points = [(int(k), row[name]) for k, row in numbers["trained"].items()]
        axes[2].plot(*zip(*points, strict=True), color=colour, marker="o", label=title)
    axes[2].legend(fontsize=8)
    label(axes[2], "trained by 128 codes a step", "dimensions of the code", "log p(x), nats")
    return figure


if __name__ == "__main__":
    main("intractable", run)
