"""Real data: pictures of digits, and the genes that are read in blood cells."""

import functools
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vae_fast.data import load

BATCH = 128


@functools.cache
def pictures(side=None):
    """(N, 1, side, side) in [0, 1]: MNIST where VAE_FAST_DATA has it, else scikit-learn's."""
    found = load("mnist" if os.environ.get("VAE_FAST_DATA") else "digits").train[:4096]
    x = found.reshape(len(found), 1, *found.shape[-2:]).float() / 255
    if side not in (None, x.shape[-1]):
        x = functional.interpolate(x, size=(side, side), mode="bilinear")
    return x


@functools.cache
def counts():
    """(700, 765) whole numbers: the counts of 10x' blood cells that scanpy brings along.

    It keeps log(1 + 1e4 x / total) of each cell; x is found to 5e-4 (median), 0.08 at most.
    """
    import anndata
    import scanpy

    file = Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    cells = anndata.read_h5ad(file)
    shares = np.expm1(cells.raw.X.toarray())
    total = cells.obs["n_counts"].to_numpy()[:, None]
    return np.round(shares * total / 1e4).astype(np.float32)


def batch(x, index, size=BATCH):
    """The index-th one, of as many as there are, over and over."""
    whole = len(x) // size
    return x[index % whole * size :][:size]


def binary(x, seed=0):
    """Pixels drawn to be 0 or 1, for likelihoods of those alone."""
    return torch.bernoulli(x, generator=torch.Generator().manual_seed(seed))
