"""Codebooks of several processes: one for all of them, and that of all their data."""

import pytest
import torch
from ranks import WORLD, of_each_rank
from torch import nn

from vae_fast.latent.quantizers import VectorQuantizer

pytestmark = pytest.mark.of_samples


def _started(quantizer):
    """With the codebook that it was made with, and none of the first batch."""
    quantizer.started.fill_(True)
    return quantizer


def _averaged(rank):
    torch.manual_seed(rank)  # of the drawing of the first codes
    quantizer = VectorQuantizer(8, 3, restart_below=0.3, decay=0.8)
    x = torch.randn(12, 40, 3, generator=torch.Generator().manual_seed(5))
    for batch in x[:, rank::WORLD]:
        quantizer(batch)
    return quantizer.state_dict()


def test_processes_average_together(tmp_path):
    """They have one codebook, and it is that of all their data: no restart at the last step."""
    first, second = of_each_rank(_averaged, tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first)


def _summed(rank):
    torch.manual_seed(0)
    quantizer = _started(VectorQuantizer(8, 3, restart_below=0.0))
    quantizer(torch.randn(40, 3, generator=torch.Generator().manual_seed(5))[rank::WORLD])
    return quantizer.state_dict()


def test_processes_sum_what_one_would(tmp_path):
    torch.manual_seed(0)
    alone = _started(VectorQuantizer(8, 3, restart_below=0.0))
    alone(torch.randn(40, 3, generator=torch.Generator().manual_seed(5)))
    for state in of_each_rank(_summed, tmp_path):
        torch.testing.assert_close(state, dict(alone.state_dict()))


class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(8, 3)
        self.quantizer = VectorQuantizer(8, 3, update="gradient", restart_below=0.3, decay=0.8)

    def forward(self, x):
        found = self.quantizer(self.encoder(x))
        return found.quantized.square().mean() + found.loss


def _replicated(rank):
    torch.manual_seed(rank)
    model = nn.parallel.DistributedDataParallel(Loss())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for batch in torch.randn(12, 40, 8, generator=torch.Generator().manual_seed(5))[:, rank::WORLD]:
        optimizer.zero_grad()
        model(batch).backward()
        optimizer.step()
    return model.module.state_dict()


def test_replicas_that_learn_by_gradients_stay_one(tmp_path):
    first, second = of_each_rank(_replicated, tmp_path)
    assert all(torch.equal(first[name], second[name]) for name in first)
