"""Training steps and epochs: pytorch/examples' VAE in plain PyTorch, and the trainer with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from vae_fast.bench import plain
from vae_fast.models import VAE
from vae_fast.training import Trainer, TrainerConfig

PIXELS, HIDDEN, _LATENT = 784, 400, 20


class PlainVAE(nn.Module):
    """784-400-20 as the example has it, but for logits, which its loss should have taken."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, hidden)
        self.mu = nn.Linear(hidden, _LATENT)
        self.logvar = nn.Linear(hidden, _LATENT)
        self.decoder_hidden = nn.Linear(_LATENT, hidden)
        self.logits = nn.Linear(hidden, PIXELS)

    def forward(self, x: Tensor) -> Tensor:
        """The loss of a batch, per datum."""
        h = functional.relu(self.hidden(x))
        z, kl = plain.reparameterize_kl(self.mu(h), self.logvar(h))
        logits = self.logits(functional.relu(self.decoder_hidden(z)))
        nll = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return nll / len(x) + kl


def _plain_step(model: Callable[[Tensor], Tensor], adam: torch.optim.Optimizer, x: Tensor) -> None:
    adam.zero_grad()
    model(x).backward()  # type: ignore[no-untyped-call]
    adam.step()


def _trainer(device: str, batch_size: int, hidden: int = HIDDEN) -> Trainer:
    model = VAE((PIXELS,), latent_dim=_LATENT, hidden=(hidden,))
    return Trainer(model, TrainerConfig(epochs=1, batch_size=batch_size, device=device))


def products(device: str, batch: int, hidden: int = HIDDEN) -> Callable[[], None]:
    """The eleven matrix products of a step of that model, into memory that is there already."""
    layers = ((PIXELS, hidden), (hidden, 2 * _LATENT), (_LATENT, hidden), (hidden, PIXELS))
    operands: list[tuple[Tensor, Tensor, Tensor]] = []
    for inputs, outputs in layers:
        x, y = (torch.rand(batch, n, device=device) for n in (inputs, outputs))
        weight = torch.rand(outputs, inputs, device=device)
        if operands:  # the data, read by the first layer, need no gradient
            operands.append((y, weight, torch.empty_like(x)))
        operands += [(x, weight.t(), torch.empty_like(y)), (y.t(), x, torch.empty_like(weight))]

    def run() -> None:
        for left, right, out in operands:
            torch.mm(left, right, out=out)

    return run


def step_peers(
    device: str, batch: int, with_compile: bool, hidden: int = HIDDEN
) -> dict[str, Callable[[], Any]]:
    """One optimizer step of each on the same batch."""
    torch.manual_seed(0)
    x = torch.rand(batch, PIXELS, device=device)
    model = PlainVAE(hidden).to(device)
    adam = torch.optim.Adam(model.parameters())
    trainer = _trainer(device, batch, hidden)
    peers: dict[str, Callable[[], Any]] = {
        "products": products(device, batch, hidden),
        "eager": lambda: _plain_step(model, adam, x),
        "vae_fast": lambda: trainer._step(x, place=0.0),
    }
    if with_compile:
        other = PlainVAE(hidden).to(device)
        fused_adam = torch.optim.Adam(other.parameters(), fused=True)
        compiled = torch.compile(other, dynamic=False)
        peers["compile"] = lambda: _plain_step(compiled, fused_adam, x)
    return peers


class _Pictures(Dataset[Tensor]):
    """Items as the example's loader makes them: torchvision's MNIST, and its ToTensor."""

    def __init__(self, data: Tensor) -> None:
        side = math.isqrt(PIXELS)
        self._data = data.view(-1, side, side)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self._data[index].numpy())
        pixels = torch.from_numpy(np.array(picture, copy=True)).view(*picture.size, 1)
        return pixels.permute(2, 0, 1).contiguous().float().div(255)


def epoch_peers(device: str, data: Tensor, batch: int) -> dict[str, Callable[[], Any]]:
    """One epoch over uint8 images: the example's loop with its loader, and the trainer."""
    torch.manual_seed(0)
    model = PlainVAE().to(device)
    adam = torch.optim.Adam(model.parameters())
    pictures = _Pictures(data.cpu())
    loader = DataLoader(pictures, batch_size=batch, shuffle=True, pin_memory=device != "cpu")

    def eager() -> None:
        for x in loader:
            _plain_step(model, adam, x.to(device, non_blocking=True).view(-1, PIXELS))

    return {"eager": eager, "vae_fast": lambda: _trainer(device, batch).fit(data)}
