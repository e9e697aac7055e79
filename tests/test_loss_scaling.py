"""Training in float16 with torch.amp.GradScaler, as people train: it follows the float32 run."""

from collections.abc import Callable

import pytest
import torch
from device import DEVICE
from torch import Tensor, nn
from torch.nn import functional

import vae_fast as vf

BATCH, EVENT, LATENT, STEPS = 64, 64, 8, 60

Terms = Callable[[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor], int], tuple[Tensor, Tensor]]


def ours(x, mu, logvar, decode, step):
    z, kl = vf.reparameterize_kl(mu, logvar, seed=step)
    return vf.bernoulli_nll(decode(z), x), kl


def torchs(x, mu, logvar, decode, step):
    """The example's lines; the noise is the seed's."""
    zeros = torch.zeros(mu.shape)
    z = mu + torch.exp(0.5 * logvar) * vf.reparameterize(zeros, zeros, seed=step).to(mu.dtype)
    nll = functional.binary_cross_entropy_with_logits(decode(z), x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return nll, kl


def losses(terms: Terms, half: bool) -> tuple[Tensor, float]:
    """Those of every step, and the scale that the scaler ends with."""
    torch.manual_seed(3)
    data = (torch.rand(STEPS, BATCH, EVENT) < torch.linspace(0.05, 0.95, EVENT)).float()
    encode = nn.Sequential(nn.Linear(EVENT, 32), nn.ReLU(), nn.Linear(32, 2 * LATENT))
    decode = nn.Sequential(nn.Linear(LATENT, 32), nn.ReLU(), nn.Linear(32, EVENT))
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=1e-2)
    scaler = torch.amp.GradScaler(DEVICE, enabled=half)
    result = []
    for step, x in enumerate(data):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.float16, enabled=half):
            mu, logvar = encode(x).chunk(2, dim=1)
            assert mu.dtype == (torch.float16 if half else torch.float32)
            nll, kl = terms(x, mu, logvar, decode, step)
            loss = nll + kl
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        result.append(loss.detach().double())
    return torch.stack(result), scaler.get_scale()


@pytest.mark.torch_devices_only  # torch.amp.GradScaler
def test_a_scaled_float16_run_follows_the_float32_run():
    exact, _ = losses(ours, half=False)
    assert exact[-1] < 0.9 * exact[0]
    torch.testing.assert_close(losses(torchs, half=False)[0], exact, rtol=1e-4, atol=0)
    (mine, my_scale), (theirs, their_scale) = losses(ours, half=True), losses(torchs, half=True)
    assert my_scale >= their_scale  # no step is left out that torch takes
    assert my_scale > 1
    apart = [(x - exact).abs() / exact for x in (mine, theirs)]
    assert apart[0].max() <= 2 * apart[1].max()
    assert apart[0].mean() <= 2 * apart[1].mean()
    assert apart[0].max() < 0.01
