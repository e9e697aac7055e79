"""The gap: what the ELBO lacks of log p(x), over training, and whose fault it is."""

from __future__ import annotations

import torch
from chapter import Figures, Numbers, batches, cosine_adam, label, main, panels, small_digits
from nonlinear import best_posterior, elbo, log_prob_by_quadrature, make, posterior_on_grid
from torch import Tensor

import vae_fast as vf
from vae_fast.plots.figure import COLORS, MUTED


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """The parts of the gap at steps of training, of data that were seen and that were not."""
    train, test = small_digits()
    count = 24 if small else 150
    looks = [30, 400] if small else [30, 100, 300, 1000, 3000, 10000]
    parts = {"train": train[:count], "test": test[:count]}
    model = make(2)
    optimizer, schedule = cosine_adam(model.parameters(), 3e-3, looks[-1])
    rows = []
    stream = batches(train, 128, looks[-1])
    for step in range(looks[-1] + 1):
        if step in looks:
            rows.append({"step": step, **{name: _gap(model, x) for name, x in parts.items()}})
        if step < looks[-1]:
            optimizer.zero_grad()
            model.loss(next(stream)).loss.backward()
            optimizer.step()
            schedule.step()
    figures = {"gap": _figure(rows), "posteriors": _posteriors(model, parts["test"])}
    return {"rows": rows, "last": rows[-1]}, figures


def _gap(model: vf.VAE, x: Tensor) -> Numbers:
    """Of means over data, in nats."""
    best = best_posterior(model, x)
    with torch.no_grad():
        truth = log_prob_by_quadrature(model, x).mean()
        of_best = elbo(model, x, *best).mean()
        of_encoder = elbo(model, x, *model.encode(x)).mean()
    return {
        "log_prob": truth.item(),
        "elbo": of_encoder.item(),
        "approximation": (truth - of_best).item(),
        "amortization": (of_best - of_encoder).item(),
    }


def _figure(rows: list[Numbers]) -> object:
    figure, axes = panels(2)
    steps = [row["step"] for row in rows]
    for name, style in (("train", "-"), ("test", "--")):
        said = "training data" if name == "train" else "held out"
        for key, what, colour in (
            ("log_prob", "log p(x)", "black"),
            ("elbo", "ELBO", COLORS[0]),
        ):
            values = [row[name][key] for row in rows]
            axes[0].plot(steps, values, style, color=colour, label=f"{what}, {said}")
        for key, what, colour in (
            ("amortization", "amortization", COLORS[1]),
            ("approximation", "approximation", COLORS[2]),
        ):
            values = [row[name][key] for row in rows]
            axes[1].plot(steps, values, style, color=colour, marker=".", label=f"{what}, {said}")
    for axis in axes:
        axis.set_xscale("log")
        axis.legend(fontsize=8)
    axes[0].set_ylim(rows[1]["test"]["elbo"] - 2)  # before, it is far below
    axes[1].set_yscale("log")
    label(axes[0], "the bound and the truth", "step of training", "nats per datum")
    label(axes[1], "the two parts of the gap", "step of training", "nats per datum")
    return figure


def _posteriors(model: vf.VAE, x: Tensor) -> object:
    """Of three data, the exact posterior with the encoder's q and the best one."""
    with torch.no_grad():
        gap = log_prob_by_quadrature(model, x) - elbo(model, x, *model.encode(x))
    order = gap.argsort()
    chosen = x[order[[len(x) // 10, len(x) // 2, len(x) - 1 - len(x) // 50]]]
    best, own = best_posterior(model, chosen), model.encode(chosen)
    figure, axes = panels(3, height=3.3)
    angle = torch.linspace(0, 2 * torch.pi, 100)
    circle = 2 * torch.stack((angle.cos(), angle.sin()))
    titles = ("a small gap", "the median", "a large gap")
    for i, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        line, density = posterior_on_grid(model, chosen[i], 500, 4.0)
        axis.contourf(line, line, density, levels=[0.01, 0.135, 0.6, 1.0], cmap="Greys")
        ends = []
        for (mu, logvar), colour, what in (
            (own, COLORS[1], "encoder's q"), (best, COLORS[2], "best q"),
        ):  # fmt: skip
            mu, sigma = mu[i].detach(), (0.5 * logvar[i]).exp().detach()
            ring = mu.unsqueeze(1) + sigma.unsqueeze(1) * circle
            axis.plot(*ring, color=colour, label=what)
            ends.append(ring)
        rows, columns = (density > 0.01).nonzero().T
        ends.append(torch.stack((line[columns], line[rows])))
        low, high = torch.cat(ends, 1).amin(1), torch.cat(ends, 1).amax(1)
        middle, reach = (low + high) / 2, 0.55 * (high - low).max()
        axis.set_xlim(*(middle[0] + torch.tensor([-reach, reach])).tolist())
        axis.set_ylim(*(middle[1] + torch.tensor([-reach, reach])).tolist())
        axis.set_aspect("equal")
        label(axis, title, "$z_1$", "$z_2$" if i == 0 else "")
    axes[0].plot([], [], color=MUTED, linewidth=5, label="p(z | x)")
    axes[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main("gap", run)
