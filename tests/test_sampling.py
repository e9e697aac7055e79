"""What the samplers compute is what is asked for: gradients, noise, layouts."""

import math

import pytest
import torch
import torch.autograd.forward_ad as fwAD  # noqa: N812
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


def test_a_tangent_in_mu_alone_draws_no_noise():
    mu, logvar, tangent = torch.randn(3, 2, 4)
    with fwAD.dual_level(), Calls() as calls:
        z = vf.reparameterize(fwAD.make_dual(mu, tangent), logvar, seed=1)
        assert torch.equal(fwAD.unpack_dual(z).tangent, tangent)
    draws = [name for name, _ in calls.seen if name.startswith("vae_fast")]
    assert draws == ["vae_fast.reparameterize.default"]


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
    weight = torch.linspace(0.5, 2, z.numel(), device=z.device).reshape(z.shape)
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


# ---- a generator for each datum, a seed for each part --------------------------------------------


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def assert_same(actual, expected, backend):
    """To the bit; plain PyTorch's own functions differ by where in a vector an element lies."""
    exact = {"rtol": 0, "atol": 0} if backend == "compiled" else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(actual, expected, **exact)


def test_a_generator_for_each_datum(backend):
    mu, logvar = torch.randn(2, 3, 5, 7)
    z = vf.reparameterize(mu, logvar, generator=generators(4, 5, 6))
    again, kl = vf.reparameterize_kl(mu, logvar, generator=tuple(generators(4, 5, 6)))
    free, _ = vf.reparameterize_kl(mu, logvar, generator=generators(4, 5, 6), free_bits=0.1)
    assert torch.equal(again, z)
    assert torch.equal(free, z)
    torch.testing.assert_close(kl, vf.gaussian_kl(mu, logvar))
    for k, generator in enumerate(generators(4, 5, 6)):
        one = slice(k, k + 1)
        alone = vf.reparameterize(mu[one], logvar[one], generator=generator)
        assert_same(z[one], alone, backend)


def test_each_generator_advances_as_in_a_single_draw(backend):
    zeros = torch.zeros(2, 40)
    together, alone = generators(1, 2), generators(1, 2)
    for _ in range(2):
        z = vf.reparameterize(zeros, zeros, generator=together)
        rows = [vf.reparameterize(zeros[:1], zeros[:1], generator=one) for one in alone]
        assert_same(z, torch.cat(rows), backend)
    assert not torch.equal(z[0], z[1])


def test_a_list_is_a_seed_with_a_row_from_each(backend):
    mu, logvar = torch.randn(2, 3, 5)
    seed = vf.draw_seed(generators(4, 5, 6))
    rows = [vf.draw_seed(one) for one in generators(4, 5, 6)]
    assert torch.equal(seed, torch.cat(rows))
    expected = vf.reparameterize(mu, logvar, generator=generators(4, 5, 6))
    assert torch.equal(vf.reparameterize(mu, logvar, seed=seed), expected)
    if backend == "compiled":
        compiled = torch.compile(vf.reparameterize, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(mu, logvar, seed=seed), expected)


def test_a_row_of_the_seed_for_each_part(backend):
    """Of the samples, of the data, of half the data: the parts follow one another in z."""
    mu, logvar = torch.randn(2, 4, 5)
    seed = vf.draw_seed(generators(1, 2))
    samples = vf.reparameterize(mu, logvar, num_samples=2, seed=seed)
    for k in range(2):
        assert_same(samples[k], vf.reparameterize(mu, logvar, seed=seed[k : k + 1]), backend)
    z = vf.reparameterize(mu, logvar, seed=seed)
    for k, half in enumerate((slice(0, 2), slice(2, 4))):
        alone = vf.reparameterize(mu[half], logvar[half], seed=seed[k : k + 1])
        assert_same(z[half], alone, backend)


def test_gradients_of_rows_of_seeds(backend):
    tensors = operands_of(2, 3, torch.float64)
    seed = vf.draw_seed(generators(1, 2, 3))

    def function(mu, logvar):
        return vf.reparameterize_kl(mu, logvar, seed=seed)

    assert gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, tensors)


# ---- a standard deviation in place of a log-variance ---------------------------------------------


SPELLED = {
    "reparameterize": lambda mu, **spread: vf.reparameterize(mu, **spread, seed=3),
    "samples": lambda mu, **spread: vf.reparameterize(mu, **spread, seed=3, num_samples=2),
    "gaussian_kl": vf.gaussian_kl,
    "free_bits": lambda mu, **spread: vf.gaussian_kl(mu, **spread, free_bits=0.2),
    "elementwise": lambda mu, **spread: vf.gaussian_kl(mu, **spread, reduction="none"),
    "z": lambda mu, **spread: vf.reparameterize_kl(mu, **spread, seed=3)[0],
    "kl": lambda mu, **spread: vf.reparameterize_kl(mu, **spread, seed=3)[1],
    "nll": lambda mu, **spread: vf.gaussian_nll(mu, 2 * mu, **spread),
    "nlls": lambda mu, **spread: vf.gaussian_nll(mu, 2 * mu, **spread, reduction="none"),
}
each_spelled = pytest.mark.parametrize("function", SPELLED.values(), ids=SPELLED)


@each_spelled
def test_scale_is_another_spelling(function, backend):
    """Values and gradients, of a tensor that broadcasts, and of a number."""
    mu = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    root = (0.3 + torch.rand(4, dtype=torch.float64)).requires_grad_()
    ours, right = function(mu, scale=root), function(mu, logvar=2 * root.log())
    torch.testing.assert_close(ours, right)
    weight = torch.rand_like(right)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (mu, root), weight),
        torch.autograd.grad(right, (mu, root), weight),
    )
    torch.testing.assert_close(function(mu, scale=0.7), function(mu, logvar=2 * math.log(0.7)))


@each_spelled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_logarithm_is_not_rounded_to_half(function, dtype, backend):
    mu, root = torch.randn(3, 4).to(dtype), (0.3 + torch.rand(3, 4)).to(dtype)
    ours, right = function(mu, scale=root), function(mu.float(), scale=root.float())
    assert ours.dtype == function(mu, logvar=root).dtype
    torch.testing.assert_close(ours, right.to(ours.dtype))


def test_scales_at_the_ends(backend):
    """Of zero there is no spread; of a negative one the logarithm is NaN."""
    mu = torch.randn(3, 4)
    assert torch.equal(vf.reparameterize(mu, scale=0.0, seed=3), mu)
    assert vf.gaussian_kl(mu, scale=torch.tensor(0.0)) == torch.inf
    for negative in (-1.0, torch.full((4,), -1.0)):
        assert vf.reparameterize(mu, scale=negative).isnan().all()
        assert vf.gaussian_nll(mu, mu, scale=negative).isnan()


def test_compiled_scales():
    mu, root = torch.randn(3, 4), torch.rand(4) + 0.5
    for function in (vf.gaussian_kl, SPELLED["z"], SPELLED["nll"]):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(mu, scale=root), function(mu, scale=root))


# ---- noise that is given -------------------------------------------------------------------------


def test_given_noise(backend):
    mu, logvar, noise = (x.requires_grad_() for x in torch.randn(3, 2, 5, dtype=torch.float64))
    z = vf.reparameterize(mu, logvar, noise=noise)
    right = mu + (0.5 * logvar).exp() * noise
    torch.testing.assert_close(z, right)
    torch.testing.assert_close(
        torch.autograd.grad(z.sum(), (mu, logvar, noise)),
        torch.autograd.grad(right.sum(), (mu, logvar, noise)),
    )
    scaled = vf.reparameterize(mu, scale=2.0, noise=noise)
    torch.testing.assert_close(scaled, mu + 2 * noise)


def test_given_noise_is_the_kernels_own(backend):
    """What a seed draws, given as noise, makes the same z."""
    mu, logvar = torch.randn(2, 3, 50)
    noise = vf.reparameterize(torch.zeros(3, 50), 0.0, seed=9)
    z = vf.reparameterize(mu, logvar, seed=9)
    torch.testing.assert_close(vf.reparameterize(mu, logvar, noise=noise), z)
    half = vf.reparameterize(mu.half(), logvar.half(), noise=noise)
    assert half.dtype == torch.float16


# ---- the order of z in memory --------------------------------------------------------------------


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": channels_last,
    "half of channels_last": lambda x: channels_last(torch.cat([x, x], 1)).chunk(2, 1)[1],
    "half": lambda x: torch.cat([x, x], 1).chunk(2, 1)[0],
    "permuted": lambda x: x.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0),
    "every second": lambda x: x.repeat_interleave(2, -1)[..., ::2],
}
each_layout = pytest.mark.parametrize("view", LAYOUTS.values(), ids=LAYOUTS)


@each_layout
def test_z_keeps_the_layout_of_mu(view, backend):
    """As torch's own expression does; and the noise is that of the logical order."""
    mu, logvar = torch.randn(2, 4, 6, 3, 5)
    strided = view(mu).detach().requires_grad_(), view(logvar).detach().requires_grad_()
    right = strided[0] + (0.5 * strided[1]).exp()
    z = vf.reparameterize(*strided, seed=5)
    again, _ = vf.reparameterize_kl(*strided, seed=5)
    assert z.stride() == again.stride() == right.stride()
    expected = vf.reparameterize(mu, logvar, seed=5)
    assert_same(z, expected, backend)
    assert_same(again, expected, backend)
    mixed = vf.reparameterize(strided[0].half(), logvar, seed=5)
    assert mixed.stride() == (strided[0].half() + logvar).stride()
    upstream = torch.rand(4, 6, 3, 5)
    plain = mu.requires_grad_(), logvar.requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(z, strided, upstream),
        torch.autograd.grad(vf.reparameterize(*plain, seed=5), plain, upstream),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("samples", [{"num_samples": 64}, {}])
def test_what_is_summed_over_samples_is_rounded_once(dtype, samples):
    """The gradients of K samples, or of rows that share a log-variance."""
    mu = torch.randn((3, 20) if samples else (64, 3, 20)).to(dtype).requires_grad_()
    logvar = torch.randn(3, 20).to(dtype).requires_grad_()
    z = vf.reparameterize(mu, logvar, seed=5, **samples)
    upstream = torch.randn(z.shape).to(dtype)
    of_mu, of_logvar = torch.autograd.grad(z, (mu, logvar), upstream)
    each = logvar.detach().expand(z.shape).clone().requires_grad_()
    again = vf.reparameterize(mu.detach().expand(z.shape), each, seed=5)
    (noise,) = torch.autograd.grad(again.sum(), each)
    exact = (upstream.double() * noise.double()).sum(0)
    torch.testing.assert_close(of_logvar, exact.to(dtype), rtol=torch.finfo(dtype).eps / 2, atol=0)
    exact = upstream.double().sum(0) if samples else upstream.double()
    torch.testing.assert_close(of_mu, exact.to(dtype), rtol=torch.finfo(dtype).eps / 2, atol=1e-6)


@each_layout
def test_fakes_have_the_layout(view):
    mu, logvar = (view(x).requires_grad_() for x in torch.randn(2, 4, 6, 3, 5))
    checks = {"test_utils": ("test_schema", "test_faketensor", "test_aot_dispatch_static")}
    seed = vf.draw_seed()
    torch.library.opcheck(
        torch.ops.vae_fast.reparameterize.default, (mu, logvar, seed, 2), **checks
    )
    torch.library.opcheck(
        torch.ops.vae_fast.reparameterize_kl.default,
        (mu.expand(3, 4, 6, 3, 5), logvar, None, None, seed, 1, 0, 3),
        **checks,
    )


# ---- antithetic pairs ----------------------------------------------------------------------------


def test_a_pair_shares_its_noise_to_the_last_bit(backend):
    """Also where sigma is so small beside the mean that 2 mu - z would have lost it."""
    mu, logvar = torch.randn(3, 5), torch.randn(3, 5) - 8
    z = vf.reparameterize(mu, logvar, num_samples=6, seed=4, antithetic=True)
    half = vf.reparameterize(mu, logvar, num_samples=3, seed=4)
    assert torch.equal(z[:3], half)
    assert torch.equal(z[3:], -vf.reparameterize(-mu, logvar, num_samples=3, seed=4))
    zeros = torch.zeros(3, 5)
    centred = vf.reparameterize(zeros, logvar, num_samples=6, seed=4, antithetic=True)
    assert torch.equal(centred[3:], -centred[:3])
    scaled = vf.reparameterize(
        mu, scale=(0.5 * logvar).exp(), num_samples=6, seed=4, antithetic=True
    )
    torch.testing.assert_close(scaled, z)


def test_the_noise_of_pairs_is_the_generators(backend):
    """The first half is what half as many samples are, and the generator has gone on as far."""
    mu = torch.zeros(4, 2)
    draws = []
    for settings in ({"num_samples": 8, "antithetic": True}, {"num_samples": 4}):
        generator = torch.Generator(mu.device).manual_seed(6)
        z = vf.reparameterize(mu, 0.0, generator=generator, **settings)
        draws.append((z[:4], vf.reparameterize(mu, 0.0, generator=generator)))
    torch.testing.assert_close(*draws, rtol=0, atol=0)


def test_gradients_of_pairs(backend):
    mu, logvar = (torch.randn(2, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    z = vf.reparameterize(mu, logvar, num_samples=4, seed=2, antithetic=True)
    of_mu, of_logvar = torch.autograd.grad(z.sum(), (mu, logvar), retain_graph=True)
    torch.testing.assert_close(of_mu, torch.full_like(mu, 4))
    torch.testing.assert_close(of_logvar, torch.zeros_like(logvar))  # the pairs' cancel
    (of_logvar,) = torch.autograd.grad(z.square().sum(), logvar)
    noise = (z - mu) / (0.5 * logvar).exp()
    torch.testing.assert_close(of_logvar, (z * noise * (0.5 * logvar).exp()).sum(0))


@pytest.mark.usefixtures("fresh_compiler")
def test_transformed_pairs():
    mu, logvar, seed = torch.randn(2, 5), torch.randn(2, 5), vf.draw_seed()

    def pairs(m, v):
        return vf.reparameterize(m, v, num_samples=4, seed=seed, antithetic=True)

    compiled = torch.compile(pairs, fullgraph=True, backend="aot_eager")(mu, logvar)
    torch.testing.assert_close(compiled, pairs(mu, logvar))
    each = vmap(pairs)(mu, logvar)
    torch.testing.assert_close(each, torch.stack([pairs(*x) for x in zip(mu, logvar, strict=True)]))
