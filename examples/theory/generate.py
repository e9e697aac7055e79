"""An auto-encoder cannot generate: its codes are anywhere, a VAE's are where the prior is."""

from __future__ import annotations

import math

import torch
from chapter import Figures, Numbers, label, main, panels, pictures
from scipy.stats import chi2
from torch import Tensor

import vae_fast as vf
from vae_fast.plots.figure import show, tiles


def radius_of_prior(latent: int) -> float:
    """Within it are 99% of the draws from N(0, I)."""
    return float(chi2.ppf(0.99, latent)) ** 0.5


def run(small: bool, data_dir: str | None) -> tuple[Numbers, Figures]:
    """Auto-encoders and VAEs of 2 and 10 numbers a code."""
    data = pictures(data_dir)
    train, test = data.train.flatten(1), data.test.flatten(1)
    epochs, batch = (6, 256) if len(train) > 10_000 else (60, 128)
    epochs = epochs // 4 if small else epochs
    config = vf.TrainerConfig(
        epochs=epochs, batch_size=batch, learning_rate=2e-3, schedule="cosine"
    )
    models = {}
    for latent in (2, 10):
        for kind in (vf.AutoEncoder, vf.VAE):
            model = kind(train.shape[1], latent)
            vf.Trainer(model, config).fit(train)
            models[f"{model.kind}_{latent}"] = model.eval()
    shown = torch.randperm(len(test))[:2000]
    labels, shown = data.test_labels[shown], test[shown]
    distance = _Discrepancy(shown.float() / 255)
    numbers: Numbers = {"data": data.name, "epochs": epochs}
    numbers["mmd_of_training_data"] = distance(train[: len(shown)].float() / 255)
    for name, model in models.items():
        numbers[name] = _numbers(model, shown, distance)
    codes = models["ae_10"].embed(shown)
    fitted = codes.mean(0) + torch.randn(2000, 10) @ torch.linalg.cholesky(codes.T.cov()).T
    of_fitted = _decoded(models["ae_10"], fitted)
    numbers["ae_10"]["mmd_of_fitted_gaussian"] = distance(of_fitted)
    return numbers, {
        "plane": _plane(models, shown, labels),
        "generate": _pictures(models, shown, of_fitted, data.shape),
    }


class _Discrepancy:
    """The squared maximum mean discrepancy from these pictures, x 1000."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures
        self.bandwidth = torch.pdist(pictures[:500]).median().item()

    def __call__(self, samples: Tensor) -> float:
        return 1e3 * vf.mmd(samples, self.pictures, bandwidths=[self.bandwidth]).item()


@torch.no_grad()
def _decoded(model: vf.VAE | vf.AutoEncoder, z: Tensor) -> Tensor:
    return model.decode(z).sigmoid()


@torch.no_grad()
def _numbers(model: vf.VAE | vf.AutoEncoder, x: Tensor, distance: _Discrepancy) -> Numbers:
    loss, nll, kl = model.loss(x)
    codes = model.embed(x)
    radius = codes.norm(dim=1)
    drawn = _decoded(model, torch.randn(2000, codes.shape[1]))
    return {
        "loss": loss.item(),
        "nll": nll.item(),
        "kl": kl.item(),
        "mean_radius": radius.mean().item(),
        "outside": (radius > radius_of_prior(codes.shape[1])).double().mean().item(),
        "mmd_of_samples": distance(drawn),
    }


def _plane(models: dict, x: Tensor, labels: Tensor) -> object:
    figure, axes = panels(2, height=4.0)
    radius = radius_of_prior(2)
    for axis, name, title in (
        (axes[0], "ae_2", "auto-encoder: codes of test digits"),
        (axes[1], "vae_2", "VAE: means of q(z | x)"),
    ):
        codes = models[name].embed(x)
        dots = axis.scatter(*codes.T, c=labels, s=5, cmap="tab10", vmin=-0.5, vmax=9.5)
        angle = torch.linspace(0, 2 * math.pi, 100)
        axis.plot(radius * angle.cos(), radius * angle.sin(), color="black", linewidth=1.2)
        axis.set_aspect("equal", "datalim")
        label(axis, title, "$z_1$", "$z_2$")
    axes[1].annotate(
        "99% of the prior", (0, radius), (0, 6), textcoords="offset points", ha="center",
        fontsize=9, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip
    bar = figure.colorbar(dots, ax=axes, ticks=range(10), pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=8)
    return figure


@torch.no_grad()
def _pictures(models: dict, x: Tensor, of_fitted: Tensor, shape: tuple) -> object:
    torch.manual_seed(1)
    plane, ten = torch.randn(14, 2), torch.randn(14, 10)
    rows = {
        "test digits": x[:14].float() / 255,
        "AE, 10: reconstructed": models["ae_10"].reconstruct(x[:14]),
        "VAE, 10: reconstructed": models["vae_10"].reconstruct(x[:14]),
        "AE, 2: of prior codes": _decoded(models["ae_2"], plane),
        "AE, 10: of prior codes": _decoded(models["ae_10"], ten),
        "AE, 10: of a Gaussian\nfitted to its codes": of_fitted[:14],
        "VAE, 2: of prior codes": _decoded(models["vae_2"], plane),
        "VAE, 10: of prior codes": _decoded(models["vae_10"], ten),
    }
    figure, (axis,) = panels(1, height=4.3)
    show(axis, tiles(torch.cat(list(rows.values())), shape, 14))
    axis.grid(visible=False)
    side = shape[1] + max(1, round(shape[1] / 16))
    axis.set_yticks([side * (i + 0.5) for i in range(len(rows))], list(rows), fontsize=9)
    axis.tick_params(length=0)
    return figure


if __name__ == "__main__":
    main("generate", run)
