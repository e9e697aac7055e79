"""A model of single cells after scVI, in a few lines: counts of genes, most of them zero.

    python examples/cells.py                # synthetic cells of five types
    python examples/cells.py cells.h5ad     # your own: the raw counts of AnnData's X
    python examples/cells.py counts.npz     # or of scipy.sparse.save_npz, in CSR

The encoder reads log(1 + x) through 128 hidden units into 10 latents; the decoder gives each gene's
share of the cell's total and the logits of its dropout, and each gene has a dispersion of its own
(Lopez et al. 2018). `vae-fast train --data cells.h5ad --likelihood zero_inflated_negative_binomial
--hidden 128 --latent 10` does the same, and keeps the run.
"""

import argparse

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

import vae_fast as vf
from vae_fast.data import load

TYPES = 5


def synthetic(cells: int, genes: int) -> tuple[Tensor, Tensor]:
    """Counts (cells, genes), negative binomial, a tenth of them dropped; and the cells' types."""
    draw = np.random.default_rng(0)
    types = draw.integers(TYPES, size=cells)
    common = draw.gamma(0.3, size=genes)  # most genes are rare, a few are everywhere
    shares = common * draw.lognormal(0, 0.5, (TYPES, genes))
    shares /= shares.sum(1, keepdims=True)
    library = draw.lognormal(np.log(1500), 0.4, size=(cells, 1))
    theta = draw.gamma(2, size=genes) + 0.2
    rates = shares[types] * library * draw.gamma(theta, 1 / theta, size=(cells, genes))
    counts = draw.poisson(rates) * (draw.random((cells, genes)) > 0.1)
    return torch.from_numpy(counts), torch.from_numpy(types)


def train(counts: Tensor, epochs: int) -> tuple[vf.VAE, list[float]]:
    """The model, and its loss after each epoch, in nats per cell."""
    torch.manual_seed(0)
    model = vf.VAE(counts.shape[1], 10, hidden=(128,), likelihood="zero_inflated_negative_binomial")
    history = vf.Trainer(model, vf.TrainerConfig(epochs=epochs)).fit(counts)
    return model, [metrics.train_loss for metrics in history]


def agreement(model: vf.VAE, counts: Tensor, types: Tensor) -> float:
    """How well k-means of the codes finds the types again: 1 is perfectly, 0 by chance."""
    found = KMeans(TYPES, n_init=5, random_state=0).fit_predict(model.embed(counts))
    return float(adjusted_rand_score(types, found))


def main() -> None:
    """As the head of this file says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", nargs="?", help="counts of your own")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    types = None
    if arguments.file is None:
        counts, types = synthetic(3000, 1000)
    else:
        counts = load(arguments.file, counts=True).train
    model, losses = train(counts, arguments.epochs)
    for epoch in sorted({1, len(losses) // 2, len(losses)}):
        print(f"after epoch {epoch}: {losses[epoch - 1]:.1f} nats per cell")
    if types is not None:
        index = agreement(model, counts, types)
        print(f"k-means of the codes finds the types again: adjusted Rand index {index:.2f}")


if __name__ == "__main__":
    main()
