"""The VAE of pytorch/examples, its loss switched to vae_fast by one import and one line.

    python examples/drop_in.py            # scikit-learn's digits
    VAE_FAST_DATA=DIR python examples/drop_in.py    # MNIST, from the four IDX files in DIR
    python examples/drop_in.py --plain    # the loss as it was, to compare

Model, loss and loop are the example's own (784-400-20, Adam 1e-3, batch 128, losses summed); the
input's width follows the data. The two lines of this package are marked.
"""
# ruff: noqa: D101, D102, D103

import argparse
import os
import time

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vae_fast as vf  # <- the import
from vae_fast.data import load


class VAE(nn.Module):
    def __init__(self, pixels: int = 784) -> None:
        super().__init__()
        self.pixels = pixels
        self.fc1 = nn.Linear(pixels, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, pixels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z: Tensor) -> Tensor:
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x.view(-1, self.pixels))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def plain_loss(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The example's loss, summed over pixels and batch."""
    bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def fused_loss(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The same number and the same gradients; the one line."""
    return vf.elbo_loss(recon_x, x, mu, logvar, likelihood="bernoulli_probs", reduction="sum").loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--plain", action="store_true", help="the loss in plain PyTorch")
    arguments = parser.parse_args()
    loss_function = plain_loss if arguments.plain else fused_loss

    torch.manual_seed(1)
    data = load("mnist" if os.environ.get("VAE_FAST_DATA") else "digits")
    train, test = ((part.flatten(1).float() / 255) for part in (data.train, data.test))
    train_loader = DataLoader(TensorDataset(train), batch_size=128, shuffle=True)
    test_loader = DataLoader(TensorDataset(test), batch_size=128)
    model = VAE(train.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    for epoch in range(1, arguments.epochs + 1):
        start = time.perf_counter()
        model.train()
        train_loss = 0.0
        for (batch,) in train_loader:
            optimizer.zero_grad()
            recon_batch, mu, logvar = model(batch)
            loss = loss_function(recon_batch, batch, mu, logvar)
            loss.backward()
            train_loss += loss.item()
            optimizer.step()
        model.eval()
        test_loss = 0.0
        with torch.no_grad():
            for (batch,) in test_loader:
                recon_batch, mu, logvar = model(batch)
                test_loss += loss_function(recon_batch, batch, mu, logvar).item()
        print(
            f"epoch {epoch:2d}  train {train_loss / len(train):8.3f}  "
            f"test {test_loss / len(test):8.3f} nats  {time.perf_counter() - start:.2f} s"
        )


if __name__ == "__main__":
    main()
