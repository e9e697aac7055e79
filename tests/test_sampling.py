"""What the samplers compute is what is asked for: gradients, noise, layouts."""

import pytest
import torch
from dispatched import Calls
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

import vae_fast as vf

SHAPES = ((3, 4), (4,), (3, 1), (1, 4))  # of mu, logvar and the prior's
OPERANDS = (2, 4)

# Which operands require a gradient, as the bits of the ops' `want`.
each_wanted = pytest.mark.parametrize(
    ("count", "wanted"), [(n, bits) for n in OPERANDS for bits in range(1, 2**n)]
)
some_wanted = pytest.mark.parametrize(
    ("count", "wanted"), [(2, 1), (2, 2), (4, 1), (4, 3), (4, 6), (4, 12)]
)


def operands_of(count, wanted, dtype=torch.float32):
    tensors = [torch.randn(shape, dtype=dtype) for shape in SHAPES[:count]]
    return [x.requires_grad_(bool(wanted >> k & 1)) for k, x in enumerate(tensors)]


def requiring(tensors):
    return [x for x in tensors if x.requires_grad]


def made(gradients):
    """The bits of those that are not empty."""
    return sum((gradient.numel() > 0) << k for k, gradient in enumerate(gradients))


# ---- only what is wanted is made -----------------------------------------------------------------


@each_wanted
def test_only_the_wanted_is_made(count, wanted):
    tensors = operands_of(count, wanted)
    with Calls() as calls:
        z, kl = vf.reparameterize_kl(*tensors, reduction="sum")
        torch.autograd.grad(z.sum() + kl, requiring(tensors))
    noise = calls.results["vae_fast.reparameterize_kl.default"][2]
    assert noise.shape == (z.shape if wanted & 2 else (0,))
    assert made(calls.results["vae_fast.reparameterize_kl_backward.default"]) == wanted


def test_nothing_is_made_where_nothing_is_wanted():
    mu = torch.randn(3, 4, requires_grad=True)
    with Calls() as calls, torch.no_grad():
        vf.reparameterize_kl(mu, mu)
        vf.reparameterize(mu, mu)
    assert calls.results["vae_fast.reparameterize_kl.default"][2].shape == (0,)
    assert calls.results["vae_fast.reparameterize.default"][1].shape == (0,)


def test_a_constant_logvar_costs_no_noise():
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    upstream = torch.randn(3, 4)
    with Calls() as calls:
        z = vf.reparameterize(mu, logvar)
        (gradient,) = torch.autograd.grad(z, mu, upstream)
    assert calls.results["vae_fast.reparameterize.default"][1].shape == (0,)
    assert calls.seen[-1][0].startswith("vae_fast.reparameterize")  # the backward computes nothing
    assert torch.equal(gradient, upstream)


@each_wanted
def test_what_the_backward_asks_for_is_made(count, wanted):
    """All require a gradient, and some of them are asked for."""
    tensors = operands_of(count, 2**count - 1)
    asked = [x for k, x in enumerate(tensors) if wanted >> k & 1]
    z, kl = vf.reparameterize_kl(*tensors, reduction="sum")
    with Calls() as calls:
        torch.autograd.grad(z.sum() + kl, asked)
    assert made(calls.results["vae_fast.reparameterize_kl_backward.default"]) == wanted


# ---- and it is right -----------------------------------------------------------------------------


def weighted(tensors, through, function=vf.reparameterize_kl):
    """A number made of z, of the divergence, or of both."""
    z, kl = function(*tensors, reduction="sample", seed=3)
    weight = torch.linspace(0.5, 2, z.numel()).reshape(z.shape)
    return {
        "z": (z * weight).sum(),
        "kl": (kl * weight[:, 0]).sum(),
        "both": (z * weight).sum() + (kl * weight[:, 0]).sum(),
    }[through]


@each_wanted
@pytest.mark.parametrize("through", ["z", "kl", "both"])
def test_a_gradient_does_not_depend_on_which_others_are_wanted(count, wanted, through, backend):
    tensors = operands_of(count, 2**count - 1)
    every = torch.autograd.grad(
        weighted(tensors, through), tensors, allow_unused=True, materialize_grads=True
    )
    some = [x.detach().requires_grad_(bool(wanted >> k & 1)) for k, x in enumerate(tensors)]
    value = weighted(some, through)
    if not value.requires_grad:  # of the prior's parameters z has none
        assert wanted & 3 == 0
        return
    ours = torch.autograd.grad(value, requiring(some), allow_unused=True, materialize_grads=True)
    expected = [gradient for k, gradient in enumerate(every) if wanted >> k & 1]
    torch.testing.assert_close(ours, tuple(expected), rtol=1e-6, atol=1e-6)


@some_wanted
def test_gradcheck_of_some(count, wanted, backend):
    tensors = operands_of(count, wanted, torch.float64)

    def function(*own):
        left = iter(own)
        whole = (next(left) if x.requires_grad else x for x in tensors)
        z, kl = vf.reparameterize_kl(*whole, seed=7)
        return (z, kl) if wanted & 3 else kl  # of the prior's parameters z has no gradient

    own = requiring(tensors)
    assert gradcheck(function, own, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, own)


@pytest.mark.parametrize("wanted", [1, 2])
def test_gradcheck_of_z_alone(wanted, backend):
    mu, logvar = operands_of(2, wanted, torch.float64)

    def function(x):
        return vf.reparameterize(*((x, logvar) if wanted == 1 else (mu, x)), seed=7)

    (own,) = requiring((mu, logvar))
    assert gradcheck(function, own, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, own)


@some_wanted
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_gradients_of_some(count, wanted):
    tensors = operands_of(count, wanted)
    compiled = torch.compile(weighted, fullgraph=True, backend="aot_eager")
    for through in ("z", "both") if wanted & 3 else ("kl",):
        expected = torch.autograd.grad(weighted(tensors, through), requiring(tensors))
        ours = torch.autograd.grad(compiled(tensors, through), requiring(tensors))
        torch.testing.assert_close(ours, expected)


@some_wanted
def test_transformed_gradients_of_some(count, wanted):
    """torch.func: of each datum, by the batch rules."""
    batches = [torch.randn(5, *shape) for shape in SHAPES[:count]]
    argnums = tuple(k for k in range(count) if wanted >> k & 1)

    def of_one(*tensors):
        z, kl = vf.reparameterize_kl(*tensors, seed=3, reduction="sum", batch_dims=0)
        return z.square().sum() + kl

    ours = vmap(grad(of_one, argnums), randomness="same")(*batches)
    rows = [grad(of_one, argnums)(*row) for row in zip(*batches, strict=True)]
    expected = tuple(torch.stack(column) for column in zip(*rows, strict=True))
    torch.testing.assert_close(ours, expected)
