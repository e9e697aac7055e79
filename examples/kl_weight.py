"""What each way to control the KL term does to a VAE of handwritten digits, as two tables.

    python examples/kl_weight.py               # half a minute on one core
    python examples/kl_weight.py --epochs 200

The test set's negative log-likelihood and KL in nats, their sum (the bound, whatever was trained),
and how many of the code's 20 numbers say something (Burda et al. 2016: their mean varies over the
data by more than 0.01). The first table is of black and white digits, the second of grey ones.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import vae_fast as vf
from vae_fast.data import load

LATENT = 20


class TotalCorrelationVAE(vf.VAE):
    """A beta-TC-VAE (Chen et al. 2018): beta weighs the total correlation alone."""

    dataset_size: int

    def loss(self, x: Tensor, *, beta: float | Tensor = 1.0, **_: Any) -> vf.ELBO:
        """As of any model."""
        params, mu, logvar, z, kl = self(x)
        nll = self.likelihood.nll(params, x, self.prepare(x), 1, "batchmean")
        if not self.training:
            return vf.ELBO(nll + kl, nll, kl)
        information, correlation, rest = vf.kl_decomposition(
            z, mu, logvar, dataset_size=self.dataset_size
        )
        return vf.ELBO(nll + information + beta * correlation + rest, nll, kl)


def trained(model: vf.VAE, train: Tensor, test: Tensor, **settings: Any) -> list[float]:
    """The figures of a row."""
    config = vf.TrainerConfig(learning_rate=2e-3, device="cpu", **settings)
    vf.Trainer(model, config).fit(train)
    model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        terms = model.loss(test)
        square = (model.reconstruct(test) - model.prepare(test)).square().mean()
        active = (model.embed(test).var(0) > 0.01).sum()
    nll, kl = terms.nll.item(), terms.kl.item()
    return [nll, kl, nll + kl, active.item(), square.item()]


def controls(epochs: int, pixels: int) -> dict[str, dict[str, Any]]:
    """The settings of the first table, by what they are called there."""
    return {
        "beta 1, the bound": {},
        f"means of both terms: beta {pixels}/{LATENT}": {"beta": pixels / LATENT},
        f"mean of the nll, sum of the KL: beta {pixels}": {"beta": float(pixels)},
        f"sum of the nll, mean of the KL: beta 1/{LATENT}": {"beta": 1 / LATENT},
        "beta 4 (Higgins et al.)": {"beta": 4.0},
        "warm-up, a quarter of the run": {"kl_warmup": epochs / 4},
        "4 cycles (Fu et al.)": {"kl_warmup": epochs / 8, "kl_cycles": 4},
        "capacity 5 nats, weight 10 (Burgess et al.)": {
            "beta": 10.0,
            "kl_capacity": 5.0,
            "kl_capacity_warmup": epochs / 2,
        },
        "free bits, 0.25 nats a dimension": {"free_bits": 0.25},
        "beta-TC 4 (Chen et al.)": {"beta": 4.0},
    }


def first_table(epochs: int, train: Tensor, test: Tensor) -> list[list[Any]]:
    """Of black and white: the ways to control the KL term."""
    train, test = (255 * (x >= 128).to(torch.uint8) for x in (train, test))
    rows: list[list[Any]] = []
    for name, settings in controls(epochs, train.shape[1]).items():
        torch.manual_seed(0)
        kind = TotalCorrelationVAE if "TC" in name else vf.VAE
        model = kind(train.shape[1], LATENT, hidden=(200,))
        if isinstance(model, TotalCorrelationVAE):
            model.dataset_size = len(train)
        rows.append([name, *trained(model, train, test, epochs=epochs, **settings)[:4]])
    return rows


def second_table(epochs: int, train: Tensor, test: Tensor) -> list[list[Any]]:
    """Of the grey levels as real numbers: the decoder's variance."""
    logvars: dict[str, Any] = {
        "mean of the squares + KL: sigma^2 = pixels / 2": torch.tensor(train.shape[1] / 2).log(),
        "sigma^2 = 1": 0.0,
        "sum of the squares + KL: sigma^2 = 1/2": torch.tensor(0.5).log(),
        "sigma^2 learned": "learned",
        "sigma^2 optimal (Rybkin et al.)": "optimal",
    }
    rows: list[list[Any]] = []
    for name, logvar in logvars.items():
        torch.manual_seed(0)
        value = logvar.item() if isinstance(logvar, Tensor) else logvar
        model = vf.VAE(
            train.shape[1], LATENT, hidden=(200,), likelihood="gaussian", decoder_logvar=value
        )
        _, kl, bound, active, square = trained(model, train, test, epochs=epochs)
        rows.append([name, square, kl, bound, active])
    return rows


def shown(heads: Sequence[str], rows: list[list[Any]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", f"| --- {'| ---: ' * (len(heads) - 1)}|"]
    for name, *figures in rows:
        cells = [f"{x:d}" if isinstance(x, int) else f"{x:.4g}" for x in figures]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def main(epochs: int) -> None:
    """Train all, and print."""
    torch.set_num_threads(1)
    data = load("digits")
    assert data.test is not None
    train, test = (x.flatten(1) for x in (data.train, data.test))
    heads = ("loss", "nll", "KL", "nll + KL", "active")
    print(shown(heads, first_table(epochs, train, test)))
    print()
    heads = ("decoder", "mean square", "KL", "nll + KL", "active")
    print(shown(heads, second_table(epochs, train, test)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=80)
    main(parser.parse_args().epochs)
