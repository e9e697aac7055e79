"""A linear VAE with one learned variance is probabilistic PCA, whose likelihood is known exactly.

Lucas et al. 2019, "Don't blame the ELBO!": at the optimum the bound is tight.
"""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from vae_fast.models import VAE

STEPS = 2500


@pytest.mark.parametrize(("latent", "tolerance"), [(2, 0.02), (10, 0.2)])
def test_linear_vae_reaches_the_likelihood_of_pca(latent, tolerance):
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    exact = PCA(latent).fit(x.numpy())
    torch.manual_seed(0)
    model = VAE(
        64, latent, likelihood="gaussian",
        encoder=nn.Linear(64, 2 * latent), decoder=nn.Linear(latent, 64),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.loss(x).loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        bound = -torch.stack([model.loss(x).loss for _ in range(50)]).mean()
        variance = model.likelihood.shared[0].exp()
    # A bound, but for the noise of its estimate.
    assert exact.score(x.numpy()) - tolerance < bound < exact.score(x.numpy()) + 0.02
    assert variance == pytest.approx(exact.noise_variance_, rel=0.01)
