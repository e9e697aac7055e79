"""Small models of each class, their data and noise."""

import torch

from vae_fast.models import LinearVAE

INPUTS, LATENT, COUNT = 12, 4, 9


def made(kind, dtype=torch.float64, **settings):
    torch.manual_seed(3)
    return kind(INPUTS, LATENT, **({} if kind is LinearVAE else {"hidden": (8,)}), **settings).to(
        dtype
    )


def data():
    torch.manual_seed(5)
    return torch.rand(COUNT, INPUTS, dtype=torch.float64)


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)
