"""Published rows: four models of binarized MNIST trained as they were, as far as one lets them.

    python examples/theory/published.py --epochs vae=12,iwae=1       # of the chapter: minutes
    python examples/theory/published.py --epochs vamp=2000 --out runs/vamp    # days on a CPU

The rows are those of pythae's reproductions (Chadebec et al. 2022), whose scripts say how each was
trained. One thing differs: static binarization is one seeded draw here, not Larochelle's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from chapter import Figures, Numbers, binarized, label, main, panels, pictures
from torch import Tensor, nn

import vae_fast as vf
from vae_fast.latent.priors import VampPrior
from vae_fast.plots.figure import COLORS

_CHUNK = 10  # samples that are decoded at a time, where a likelihood is estimated


class VampVAE(vf.VAE):
    """Of Tomczak and Welling 2018: the prior is posteriors of learned inputs, layers are gated."""

    def __init__(self, pixels: int, latent: int = 40, components: int = 500) -> None:
        def gated(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, 2 * outputs), nn.GLU()]

        super().__init__(
            pixels,
            latent,
            encoder=nn.Sequential(
                *gated(pixels, 300), *gated(300, 300), nn.Linear(300, 2 * latent)
            ),
            decoder=nn.Sequential(*gated(latent, 300), *gated(300, 300), nn.Linear(300, pixels)),
        )  # fmt: skip
        self.prior = VampPrior(self.encode, torch.rand(components, pixels))


def log_weights(model: vf.VAE, x: Tensor, num_samples: int) -> Tensor:
    """Of codes drawn from q, log p(x, z_k) - log q(z_k | x), (K, B)."""
    mu, logvar = model.encode(x)
    z = vf.reparameterize(mu, logvar, num_samples=num_samples)
    logits = model.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    nll = vf.bernoulli_nll(logits, x, batch_dims=2, reduction="sample")
    if not isinstance(model, VampVAE):
        return -nll - vf.gaussian_log_ratio(z, mu, logvar, batch_dims=2, reduction="sample")
    each = (part.expand(z.shape) for part in (mu, logvar))
    log_q = -vf.gaussian_nll(next(each), z, next(each), batch_dims=2, reduction="sample")
    return model.prior.log_prob(z) - nll - log_q


class Row(NamedTuple):
    """A published row and how it was trained.

    Attributes:
        published: the negative log-likelihood of the test set, nats.
        samples: by how many importance samples.
        make: the model, of the number of pixels.
        dynamic: whether pixels are drawn anew in each epoch.
        settings: of `VAE.loss`.
        batch: data in a step; of many samples 20, as in Burda et al. 2016.
    """

    published: float
    samples: int
    make: Callable[[int], vf.VAE]
    dynamic: bool
    settings: dict[str, object]
    batch: int = 100


def _tanh(pixels: int) -> vf.VAE:
    """Of Burda et al. 2016: two hidden layers of 200 on either side."""
    between = [nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
    return vf.VAE(
        pixels,
        50,
        encoder=nn.Sequential(nn.Linear(pixels, 200), *between, nn.Linear(200, 100)),
        decoder=nn.Sequential(
            nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, pixels)
        ),
    )


ROWS = {
    "vae": Row(89.78, 200, lambda pixels: vf.VAE(pixels, 40), False, {}),
    "vamp": Row(85.79, 5000, VampVAE, False, {}),
    "iwae": Row(86.82, 5000, _tanh, False, {"estimator": "iwae", "num_samples": 50}, 20),
    "piwae": Row(
        84.58, 5000, _tanh, True, {"estimator": "piwae", "num_samples": 64, "groups": 8}, 20
    ),
}  # fmt: skip


def run(small: bool, data_dir: str | None, epochs: str | None = None) -> tuple[Numbers, Figures]:
    """The rows that `epochs` names, as "vae=12,iwae=1": their curves beside what was published."""
    wanted = dict(part.split("=") for part in (epochs or "vae=12,iwae=1").split(","))
    unknown = sorted(set(wanted) - set(ROWS))
    if unknown:
        raise ValueError(f"--epochs names {', '.join(unknown)}; expected some of {', '.join(ROWS)}")
    data = pictures(data_dir)
    train = data.train[:400] if small else data.train
    test = binarized(data.test[: 50 if small else 500], 2)
    samples = 20 if small else 200
    rows = {}
    for name, count in wanted.items():
        torch.manual_seed(0)
        curve = _trained(ROWS[name], train, test, 1 if small else int(count), samples)
        rows[name] = {"epochs": curve[-1][0], "nll": curve[-1][1], "curve": curve}
    published = {name: row.published for name, row in ROWS.items()}
    numbers = {"data": data.name, "samples": samples, "published": published, "rows": rows}
    return numbers, {"published": _figure(rows)}


def _trained(
    row: Row, train: Tensor, test: Tensor, epochs: int, samples: int
) -> list[tuple[float, float]]:
    """(epoch, -log p(x) of the test set by importance samples), after ever longer stretches."""
    model = row.make(test.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-4, fused=True)
    # Burda et al. 2016: the rate 10^(-i / 7) of the first for 3^i epochs.
    ends = [(3**i - 1) // 2 for i in range(1, 8)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, ends, 10 ** (-1 / 7))
    steps, per_epoch, curve = 0, -(-len(train) // row.batch), []
    for epoch in range(epochs):
        x = binarized(train, 1 + epoch if row.dynamic else 1)
        for batch in x[torch.randperm(len(x))].split(row.batch):
            optimizer.zero_grad()
            if isinstance(model, VampVAE):
                loss = vf.importance_weighted_loss(log_weights(model, batch, 1))
            else:
                loss = model.loss(batch, **row.settings).loss
            loss.backward()
            optimizer.step()
            steps += 1
            # 75, 150, 300, ... and the last
            if steps == epochs * per_epoch or (steps % 75 == 0 and (steps // 75).bit_count() == 1):
                curve.append((steps / per_epoch, -_log_prob(model, test, samples)))
        schedule.step()
    return curve


@torch.no_grad()
def _log_prob(model: vf.VAE, x: Tensor, samples: int) -> float:
    weights = torch.cat([log_weights(model, x, _CHUNK) for _ in range(samples // _CHUNK)])
    return -vf.importance_weighted_loss(weights).item()


def _figure(rows: Numbers) -> object:
    figure, (axis,) = panels(1, width=7.0)
    for (name, row), colour in zip(ROWS.items(), COLORS, strict=True):
        axis.axhline(row.published, color=colour, linestyle=":", linewidth=1.2)
        if name in rows:
            ran = rows[name]
            axis.plot(
                *zip(*ran["curve"], strict=True), color=colour, marker=".",
                label=f"{name.upper()}, to epoch {ran['epochs']:g}",
            )  # fmt: skip
        axis.plot(
            [], [], color=colour, linestyle=":", label=f"{name.upper()}, published {row.published}"
        )
    axis.set_xscale("log")
    lowest = min(row.published for row in ROWS.values())
    highest = max(value for row in rows.values() for _, value in row["curve"])
    axis.set_ylim(lowest - 2, min(highest, lowest + 75))  # the first steps are far above
    axis.legend(fontsize=8, ncols=2)
    label(axis, "binarized digits", "epoch", "-log p(x) of the test set, nats")
    return figure


if __name__ == "__main__":
    main("published", run, epochs="of which rows: vae=12,iwae=1")
