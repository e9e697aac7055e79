"""A linear VAE is probabilistic PCA, whose likelihood is known exactly."""

from __future__ import annotations

import torch
from chapter import Figures, Numbers, cosine_adam, label, main, panels
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn

import vae_fast as vf
from vae_fast.plots.figure import COLORS, MUTED


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """The bound over training beside PCA's likelihood, for three sizes of the code."""
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    rows, curves = {}, {}
    for latent in (2,) if small else (2, 10, 20):
        exact = PCA(latent).fit(x.numpy())
        model, curves[latent] = _trained(x, latent, 1500 if small else 2000 + 200 * latent)
        truth = float(exact.score(x.numpy()))
        with torch.no_grad():
            bound = -torch.stack([model.loss(x).loss for _ in range(50)]).mean().item()
        rows[str(latent)] = {
            "log_prob": truth,
            "elbo": bound,
            "gap": truth - bound,
            "variance": model.likelihood.shared[0].exp().item(),
            "variance_of_pca": float(exact.noise_variance_),
        }
    return rows, {"linear": _figure(rows, curves)}


def _trained(x: Tensor, latent: int, steps: int) -> tuple[vf.VAE, list[tuple[int, float]]]:
    """All data a step; by sticking the landing, whose noise ends where q is the posterior."""
    model = vf.VAE(
        64, latent, likelihood="gaussian",
        encoder=nn.Linear(64, 2 * latent), decoder=nn.Linear(latent, 64),
    )  # fmt: skip
    optimizer, schedule = cosine_adam(model.parameters(), 2e-2, steps)
    curve = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.loss(x, estimator="stl").loss
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            curve.append((step + 1, -loss.item()))
    return model, curve


def _figure(rows: Numbers, curves: dict[int, list[tuple[int, float]]]) -> object:
    figure, (bound, gap) = panels(2)
    for (latent, curve), colour in zip(curves.items(), COLORS, strict=False):
        truth = rows[str(latent)]["log_prob"]
        steps, values = zip(*curve, strict=True)
        bound.plot(steps, values, color=colour, label=f"ELBO, {latent} dimensions")
        bound.axhline(truth, color=colour, linewidth=1, linestyle=":")
        gap.plot(steps, [abs(truth - value) for value in values], color=colour)
    bound.set_ylim(min(row["log_prob"] for row in rows.values()) - 15)
    bound.legend(fontsize=8)
    gap.set_yscale("log")
    gap.axhline(0.05, color=MUTED, linewidth=1, linestyle=":")
    label(bound, "dotted: log p(x) of PCA", "step", "nats per datum")
    label(gap, "how far apart", "step", "|log p(x) - ELBO|, nats")
    return figure


if __name__ == "__main__":
    main("linear", run)
