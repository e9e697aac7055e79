"""The functions inside of modules that are replicated or sharded over two processes."""

import torch
from ranks import WORLD, of_each_rank
from torch import nn
from torch.distributed import device_mesh, fsdp, tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import vae_fast as vf


class Bound(nn.Module):
    """The sampler, a likelihood of outputs and one of a layer's own parameters."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 2 * 3), nn.Linear(3, 12)
        self.logvar = nn.Parameter(torch.zeros(12))  # of each element, and of no layer

    def decode(self, z, x):
        layer = vf.linear_nll(z, self.decoder.weight, self.decoder.bias, x)
        return layer + vf.gaussian_nll(self.decoder(z), x, self.logvar)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, kl = vf.reparameterize_kl(mu, logvar)
        return checkpoint(self.decode, z, x, use_reentrant=False) + kl


def _bound():
    torch.manual_seed(3)
    return Bound()


def _gradients(module, rank, whole=lambda x: x):
    torch.manual_seed(100 + rank)
    x = torch.rand(16, 12, generator=torch.Generator().manual_seed(1))
    module(x[rank::WORLD]).backward()
    return [whole(p.grad) for p in module.parameters()]


def _replicated(rank):
    module, hooked = DistributedDataParallel(_bound()), []
    for p in module.parameters():
        p.register_post_accumulate_grad_hook(hooked.append)
    gradients = _gradients(module, rank)
    assert len(hooked) == len(gradients)
    return gradients


def _sharded(rank, **settings):
    module = _bound()
    mesh = device_mesh.init_device_mesh("cpu", (WORLD,))
    fsdp.fully_shard(module, mesh=mesh, **settings)
    return _gradients(module, rank, tensor.DTensor.full_tensor)


def _sharded_in_bfloat16(rank):
    return _sharded(rank, mp_policy=fsdp.MixedPrecisionPolicy(torch.bfloat16, torch.float32))


def _of_a_part(rank):
    """The remedy for a DTensor: each process the likelihood of its own rows."""
    mesh = device_mesh.init_device_mesh("cpu", (WORLD,))
    logits, target = (
        tensor.distribute_tensor(x, mesh, [tensor.Shard(0)]) for x in _logits_and_target()
    )
    logits.requires_grad_()
    vf.bernoulli_nll(logits.to_local(), target.to_local(), reduction="sum").backward()
    return logits.grad.full_tensor()


def _logits_and_target():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator)


def _of_a_rank(rank):
    calls = _replicated, _sharded, _sharded_in_bfloat16, _of_a_part
    return {call.__name__: call(rank) for call in calls}


def test_two_processes(tmp_path):
    each = [_gradients(_bound(), rank) for rank in range(WORLD)]
    expected = [sum(of_ranks) / WORLD for of_ranks in zip(*each, strict=True)]
    logits, target = _logits_and_target()
    for found in of_each_rank(_of_a_rank, tmp_path):
        torch.testing.assert_close(found["_replicated"], expected)
        torch.testing.assert_close(found["_sharded"], expected)
        # A unit of bfloat16 is 2^-8.
        torch.testing.assert_close(found["_sharded_in_bfloat16"], expected, rtol=0.02, atol=0.02)
        torch.testing.assert_close(found["_of_a_part"], logits.sigmoid() - target)
