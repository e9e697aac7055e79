"""The variance of gradients: in closed form, on a VAE, and what training makes of it."""

from __future__ import annotations

import torch
from chapter import Figures, Numbers, binarized, label, main, panels, pictures
from torch import Tensor

import vae_fast as vf
from vae_fast.plots.figure import COLORS, MUTED

_SAMPLES = 4
# And what is written beside their curves; of all, four codes of each datum.
ESTIMATORS = {
    "reinforce": "score function",
    "reinforce_loo": "with a baseline",
    "elbo": "reparameterized",
    "stl": "STL",
    "dreg": "DReG",
}
_COLOURS = (*COLORS, "black")


def closed_form(distance: float, samples: int) -> Numbers:
    """Of f(z) = (z - k)^2 and q = N(mu, 1), mu - k the distance, both variances, and measured."""
    mu = torch.full((samples,), distance, requires_grad=True)
    z = vf.reparameterize(mu, 0.0)
    loss = z.square()
    (path,) = torch.autograd.grad(loss.sum(), mu)
    score = (loss * (z - mu)).detach()
    return {
        "path": 4.0,
        "score": 15 + 14 * distance**2 + distance**4,
        "path_measured": path.double().var().item(),
        "score_measured": score.double().var().item(),
    }


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """The parabola; then the same weights seen by all estimators, and a run of each."""
    parabola = [
        {"distance": a, **closed_form(a, 20_000 if small else 1_000_000)}
        for a in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    ]
    data = pictures(data_dir)
    train = binarized(data.train[: 1000 if small else 10_000], 1)
    test = binarized(data.test[: 200 if small else 2000], 2)
    epochs = 12 if small else 20
    curves, variances = {}, []
    for name in ESTIMATORS:
        torch.manual_seed(0)
        model = _model(train)
        looks = variances if name == "elbo" else None
        curves[name] = _trained(model, name, train, test, epochs, looks, 10 if small else 50)
    numbers: Numbers = {
        "parabola": {f"{row['distance']:g}": row for row in parabola},
        "data": data.name,
        "epochs": epochs,
        "variance": {name: [look[name] for look in variances] for name in ESTIMATORS},
        "test": curves,
        "first_variance": variances[0],
        "last_variance": variances[-1],
        "last_test": {name: curve[-1] for name, curve in curves.items()},
        "best_test": {name: max(curve) for name, curve in curves.items()},
    }
    return numbers, {"gradients": _figure(parabola, numbers)}


def _model(x: Tensor) -> vf.VAE:
    return vf.VAE(x.shape[1], 10, hidden=(200,))


def _trained(
    model: vf.VAE,
    estimator: str,
    train: Tensor,
    test: Tensor,
    epochs: int,
    variances: list[dict[str, float]] | None,
    draws: int,
) -> list[float]:
    """The bound on the test set after each epoch, the start first."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    curve = []
    for epoch in range(epochs + 1):
        if epoch:
            for batch in train[torch.randperm(len(train))].split(100):
                optimizer.zero_grad()
                model.loss(batch, estimator=estimator, num_samples=_SAMPLES).loss.backward()
                optimizer.step()
        with torch.no_grad():
            curve.append(-model.loss(test, num_samples=_SAMPLES).loss.item())
        if variances is not None:
            variances.append(
                {name: variance(model, name, train[:100], draws) for name in ESTIMATORS}
            )
    return curve


def variance(model: vf.VAE, estimator: str, x: Tensor, draws: int) -> float:
    """Of the gradient of a batch's mean loss in the encoder's weights, summed over these."""
    weights = list(model.encoder.parameters())
    total, squares = 0.0, 0.0
    for _ in range(draws):
        loss = model.loss(x, estimator=estimator, num_samples=_SAMPLES).loss
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).double()
        total, squares = total + gradient, squares + gradient.square()
    return ((squares - total.square() / draws) / (draws - 1)).sum().item()


def _figure(parabola: list[Numbers], numbers: Numbers) -> object:
    figure, axes = panels(3, height=3.4)
    a = torch.linspace(0, 8.5, 100)
    for formula, key, what, colour in (
        (15 + 14 * a**2 + a**4, "score", "score function", COLORS[0]),
        (torch.full_like(a, 4), "path", "reparameterized", COLORS[2]),
    ):
        axes[0].plot(a, formula, color=colour, label=what)
        measured = [row[f"{key}_measured"] for row in parabola]
        axes[0].plot([row["distance"] for row in parabola], measured, "o", color=colour)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=8)
    label(axes[0], "$f(z) = (z - k)^2$, q = N(μ, 1)", "μ - k", "variance of one sample")
    for (name, values), colour in zip(numbers["variance"].items(), _COLOURS, strict=True):
        axes[1].semilogy(values, color=colour, label=ESTIMATORS[name])
    label(axes[1], "a VAE, the same weights for all", "epoch", "variance of the gradient, summed")
    for (name, values), colour in zip(numbers["test"].items(), _COLOURS, strict=True):
        axes[2].plot(values, color=colour, label=ESTIMATORS[name])
    best = max(values[-1] for values in numbers["test"].values())
    axes[2].set_ylim(min(values[2] for values in numbers["test"].values()) - 20, best + 5)
    axes[2].legend(fontsize=8)
    axes[2].axhline(best, color=MUTED, linewidth=0.6)
    label(axes[2], "trained by each", "epoch", "ELBO of the test set, nats")
    return figure


if __name__ == "__main__":
    main("gradients", run)
