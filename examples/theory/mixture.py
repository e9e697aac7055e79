"""Where the likelihood is tractable: a Gaussian mixture, by EM, with its exact posterior."""

from __future__ import annotations

import math

import torch
from chapter import Figures, Numbers, label, main, panels
from matplotlib.patches import Ellipse
from torch import Tensor

import vae_fast as vf
from vae_fast.plots.figure import COLORS, MUTED

_COMPONENTS = 6
_A, _B = 2.0, 1.0  # the MAP prior: each variance is inverse gamma
_COLLAPSED = 1e-12  # where a variance is held that would go on to zero

Parameters = tuple[Tensor, Tensor, Tensor]  # mean (K, D), logvar (K, D), logits (K,)


def true_mixture() -> Parameters:
    """Where the data are drawn from: four components in the plane."""
    mean = torch.tensor([[-2.0, 0.0], [1.0, 2.0], [1.5, -1.5], [2.5, 0.5]], dtype=torch.float64)
    variance = torch.tensor([[0.3, 1.0], [1.0, 0.2], [0.2, 0.2], [0.15, 0.5]], dtype=torch.float64)
    return mean, variance.log(), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()


def drawn(count: int) -> Tensor:
    """Data of the true mixture, (count, 2)."""
    mean, logvar, logits = true_mixture()
    which = torch.multinomial(logits.exp(), count, replacement=True)
    return mean[which] + (0.5 * logvar[which]).exp() * torch.randn(count, 2, dtype=mean.dtype)


def em_step(x: Tensor, parameters: Parameters, *, maximum_a_posteriori: bool) -> Parameters:
    """One step of EM; what the E-step counts are gradients of the log-likelihood.

    Of L = sum_n log p(x_n), with r_nk the posterior of component k: in the logits dL = N_k - N pi_k
    for N_k = sum_n r_nk; in mean_k dL = sum_n r_nk (x_n - mean_k) / var_k; in logvar_k
    dL = sum_n r_nk ((x_n - mean_k)^2 / var_k - 1) / 2 (Bishop 2006, equations 9.16 to 9.26).
    """
    mean, logvar, logits = (p.detach().requires_grad_() for p in parameters)
    total = vf.gaussian_mixture_log_prob(x, mean, logvar, logits).sum()
    to_mean, to_logvar, to_logits = torch.autograd.grad(total, (mean, logvar, logits))
    with torch.no_grad():
        counts = (to_logits + len(x) * logits.softmax(0)).unsqueeze(1)
        variance = logvar.exp()
        shift = to_mean * variance / counts
        squares = (2 * to_logvar + counts) * variance - counts * shift**2
        if maximum_a_posteriori:
            variance = (squares + 2 * _B) / (counts + 2 * (_A + 1))
        else:
            variance = squares / counts
        return mean + shift, variance.clamp(min=_COLLAPSED).log(), counts.squeeze(1).log()


def start(x: Tensor) -> Parameters:
    """Components on data, one of them on the farthest and narrow: what tempts MLE."""
    far = x.norm(dim=1).argmax()
    mean = torch.cat((x[torch.randperm(len(x))[: _COMPONENTS - 1]], x[far : far + 1]))
    logvar = torch.zeros_like(mean)
    logvar[-1] = math.log(1e-3)
    return mean, logvar, torch.zeros(_COMPONENTS, dtype=x.dtype)


def posterior(x: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Of each component, log p(x, k), (B, K), and log p(k | x)."""
    mean, logvar, logits = parameters
    each = (part.unsqueeze(1).expand(-1, len(x), -1) for part in (mean, logvar))
    nll = vf.gaussian_nll(next(each), x, next(each), batch_dims=2, reduction="sample")
    joint = logits.log_softmax(0) - nll.T
    return joint, joint.log_softmax(1)


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """MLE and MAP from the same start; then the identity, for any q."""
    train, test = drawn(150), drawn(5000)
    first = start(train)
    fits, curves = {}, {}
    for name, prior in (("mle", False), ("map", True)):
        fits[name], curves[name] = _fit(train, test, first, prior)
    errors, walk = _identity(test, fits["map"], 10 if small else 1000)
    numbers = {
        "iterations": len(curves["mle"]) - 1,
        "entropy": vf.gaussian_mixture_log_prob(test, *true_mixture()).mean().item(),
        "identity_error": errors,
        **{
            name: {
                "train": curve[-1][0],
                "test": curve[-1][1],
                "smallest_variance": fits[name][1].exp().min().item(),
            }
            for name, curve in curves.items()
        },
    }
    return numbers, {"mixture": _figure(train, fits, curves, walk, numbers["entropy"])}


def _fit(
    train: Tensor, test: Tensor, parameters: Parameters, prior: bool
) -> tuple[Parameters, list[tuple[float, float]]]:
    curve = []
    for step in range(81):
        if step:
            parameters = em_step(train, parameters, maximum_a_posteriori=prior)
        values = (vf.gaussian_mixture_log_prob(x, *parameters).mean() for x in (train, test))
        curve.append(tuple(value.item() for value in values))
    return parameters, curve


def _identity(x: Tensor, parameters: Parameters, draws: int) -> tuple[float, Tensor]:
    """How far ELBO + KL(q || posterior) is from log p(x) at most; and both on a walk of q."""
    truth = vf.gaussian_mixture_log_prob(x, *parameters)
    joint, exact = posterior(x, parameters)

    def terms(log_q: Tensor) -> tuple[Tensor, Tensor]:
        q = log_q.exp()
        return (q * (joint - log_q)).sum(1), (q * (log_q - exact)).sum(1)

    worst = 0.0
    for _ in range(draws):
        elbo, kl = terms((3 * torch.randn_like(exact)).log_softmax(1))
        worst = max(worst, (elbo + kl - truth).abs().max().item())
    # Of the datum whose second component is likeliest, what q gives that one of the share of two.
    datum = exact.topk(2).values[:, 1].argmax()
    first, second = exact[datum].topk(2).indices
    both = exact[datum, first].exp() + exact[datum, second].exp()
    shares, walk = torch.linspace(0.001, 0.999, 99, dtype=x.dtype), []
    for share in shares:
        log_q = exact.clone()
        log_q[datum, first] = (both * (1 - share)).log()
        log_q[datum, second] = (both * share).log()
        walk.append(torch.stack([part[datum] for part in terms(log_q)]))
    return worst, torch.cat((shares.unsqueeze(1), torch.stack(walk)), 1)


def _figure(train: Tensor, fits: dict, curves: dict, walk: Tensor, entropy: float) -> object:
    figure, axes = panels(3, height=3.4)
    axes[0].scatter(*train.T, s=4, color=MUTED, alpha=0.5)
    for (name, (mean, logvar, _)), colour in zip(fits.items(), (COLORS[1], COLORS[0]), strict=True):
        for centre, size in zip(mean.tolist(), (4 * (0.5 * logvar).exp()).tolist(), strict=True):
            ellipse = Ellipse(centre, *size, fill=False, color=colour, linewidth=1.5)
            axes[0].add_patch(ellipse)
            axes[0].plot(*centre, marker="+", color=colour)
        axes[0].plot([], [], color=colour, label=name.upper())
    axes[0].set_aspect("equal", "datalim")
    axes[0].legend(fontsize=8, loc="upper left")
    label(axes[0], "two standard deviations", "$x_1$", "$x_2$")
    for (name, curve), colour in zip(curves.items(), (COLORS[1], COLORS[0]), strict=True):
        fitted, held_out = zip(*curve, strict=True)
        axes[1].plot(fitted, color=colour, label=f"{name.upper()}, training data")
        axes[1].plot(held_out, color=colour, linestyle="--", label=f"{name.upper()}, held out")
    axes[1].axhline(entropy, color=MUTED, linewidth=1, linestyle=":", label="the truth, held out")
    axes[1].set_ylim(min(curves["map"][2]) - 0.2)
    axes[1].legend(fontsize=7, loc="lower right")
    label(axes[1], "EM", "iteration", "log p(x), nats per datum")
    share, elbo, kl = walk.T
    axes[2].plot(share, elbo, color=COLORS[0], label="ELBO(q)")
    axes[2].fill_between(
        share, elbo, elbo + kl, color=COLORS[1], alpha=0.35, label="KL to the posterior"
    )
    axes[2].plot(share, elbo + kl, color="black", label="log p(x)")
    axes[2].legend(fontsize=8, loc="lower center")
    label(axes[2], "a datum between components", "q of the second component", "nats")
    return figure


if __name__ == "__main__":
    main("mixture", run)
