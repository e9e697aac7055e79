"""An ordinary VAE in plain PyTorch changes by one line: same loss, same gradients, no copy."""

import importlib.util
from pathlib import Path

import pytest
import torch
from device import DEVICE
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

import vae_fast as vf

EXAMPLE = Path(__file__).parent.parent / "examples" / "drop_in.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("drop_in", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_loss(logits, x, mu, logvar):
    """The loss as VAE code has it, per datum."""
    nll = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (nll + kl) / len(x)


def fused_loss(logits, x, mu, logvar):
    """The same in one line."""
    return vf.elbo_loss(logits, x, mu, logvar).loss


def step(model, loss_function, x):
    """One forward and backward with the noise of seed 7; the loss, and all gradients."""
    torch.manual_seed(7)
    model.zero_grad()
    loss = loss_function(*model(x))
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters())]


def assert_same_step(model, x, plain, fused):
    expected = step(model, lambda y, mu, logvar: plain(y, x, mu, logvar), x)
    actual = step(model, lambda y, mu, logvar: fused(y, x, mu, logvar), x)
    assert len(actual) > 1
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5 * e.abs().max().item())


def allocated_bytes(function):
    """What a call allocates in all, whether it keeps it or not."""
    function()  # what is allocated once does not count
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()

    def total(events):
        own = sum(getattr(event.extra_fields, "alloc_size", 0) for event in events if grows(event))
        return own + sum(total(event.children) for event in events)

    def grows(event):
        return getattr(event.extra_fields, "alloc_size", 0) > 0

    return total(profiler.profiler.kineto_results.experimental_event_tree())


class ConvVAE(nn.Module):
    """Channels-last, and an encoder whose one output is cut into mu and logvar over dimension 1."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 2 * 6, 4, stride=4)
        self.decoder = nn.ConvTranspose2d(6, 3, 4, stride=4)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        mu, logvar = self.encoder(x.contiguous(memory_format=torch.channels_last)).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def test_examples_vae(example):
    model, x = example.VAE(), torch.rand(16, 784)
    assert_same_step(model, x, example.plain_loss, example.fused_loss)


def test_convolutional_vae():
    model, x = ConvVAE(), torch.rand(4, 3, 16, 16)
    logits, mu, _ = model(x)
    assert logits.is_contiguous(memory_format=torch.channels_last)
    assert not logits.is_contiguous()
    assert not mu.is_contiguous()
    assert_same_step(model, x, plain_loss, fused_loss)


def test_the_sampling_line():
    """vf.reparameterize in place of the three lines: other noise, the same gradients in it."""
    mu = torch.randn(8, 20, requires_grad=True)
    logvar = torch.randn(8, 20, requires_grad=True)
    z = vf.reparameterize(mu, logvar)
    upstream = torch.randn_like(z)
    actual = torch.autograd.grad(z, (mu, logvar), upstream)
    noise = (z - mu).detach() / torch.exp(0.5 * logvar.detach())
    plain = mu + torch.exp(0.5 * logvar) * noise
    expected = torch.autograd.grad(plain, (mu, logvar), upstream)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


CHANNELS_LAST = torch.channels_last
# Bytes for losses, upstream ones and seeds; on a GPU for the partial sums of its blocks, too, each
# allocation rounded up. A copy of an operand would be 96 KiB or more.
SCALARS = 1024 if DEVICE == "cpu" else 32 * 1024

LAYOUTS = {
    "dense": lambda: torch.randn(32, 3, 16, 16),
    "channels_last": lambda: torch.randn(32, 3, 16, 16).to(memory_format=CHANNELS_LAST),
    "chunk": lambda: torch.randn(32, 6, 16, 16).chunk(2, dim=1)[1],
    "channels_last_chunk": lambda: (
        torch.randn(32, 6, 16, 16).to(memory_format=CHANNELS_LAST).chunk(2, dim=1)[1]
    ),
    "samples": lambda: torch.randn(5, 32, 3, 16, 16),
}


each_layout = {"argvalues": LAYOUTS.values(), "ids": LAYOUTS}


@pytest.mark.parametrize("make", **each_layout)
def test_the_likelihood_allocates_its_gradient_alone(make):
    logits, target = make().requires_grad_(), torch.rand(32, 3, 16, 16)
    batch_dims = logits.dim() - 3

    def forward_and_backward():
        torch.autograd.grad(vf.bernoulli_nll(logits, target, batch_dims=batch_dims), logits)

    assert allocated_bytes(forward_and_backward) <= logits.nbytes + SCALARS


@pytest.mark.parametrize("make", **each_layout)
def test_the_divergence_allocates_its_gradients_alone(make):
    mu, logvar = make().requires_grad_(), make().requires_grad_()

    def forward_and_backward():
        torch.autograd.grad(vf.gaussian_kl(mu, logvar), (mu, logvar))

    assert allocated_bytes(forward_and_backward) <= 2 * mu.nbytes + SCALARS


@pytest.mark.parametrize("make", **each_layout)
def test_the_sampling_allocates_z_its_noise_and_its_gradients_alone(make):
    mu, logvar = make().requires_grad_(), make().requires_grad_()
    upstream = torch.randn_like(mu)

    def forward_and_backward():
        outputs = vf.reparameterize_kl(mu, logvar)
        torch.autograd.grad(outputs, (mu, logvar), (upstream, None))

    assert allocated_bytes(forward_and_backward) <= 4 * mu.nbytes + SCALARS
