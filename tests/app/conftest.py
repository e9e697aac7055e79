"""What the tests of models, trainer, data, command line and pictures stand on."""

import pytest
import torch

from vae_fast.data import load
from vae_fast.models import VAE


@pytest.fixture(autouse=True)
def _one_thread(cpu_threads):
    """These models are small: a second thread costs more than it gives."""
    cpu_threads(1)


@pytest.fixture(scope="session")
def digits():
    return load("digits")


@pytest.fixture
def make_vae(digits):
    """A maker of small VAEs with the same first weights every time."""

    def make(seed: int = 3, **arguments) -> VAE:
        torch.manual_seed(seed)
        return VAE(digits.shape, 4, hidden=(32,), **arguments)

    return make
