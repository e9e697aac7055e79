"""Mixtures: of any elementwise likelihood, and of the discretized logistics of pixels."""

import math

import mpmath
import pytest
import torch
from cases import CASE_OF_OP, leaves

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.engine.mixture import has_components
from vae_fast.engine.table import LIKELIHOODS as ALL
from vae_fast.models import VAE

CAPABILITIES = extension.C.cpu_capabilities()
LIKELIHOODS = list(filter(has_components, ALL))


def _torchs(logits, target, mean, logvar, event_dims, mask):
    """As mixture density networks have it, of a Gaussian, one batch dimension."""
    scale = torch.exp(0.5 * logvar)
    log_p = torch.distributions.Normal(mean, scale).log_prob(target.unsqueeze(1))
    if mask is not None:
        log_p = torch.where(mask.unsqueeze(1), log_p, 0)
    log_p = log_p.sum(tuple(range(-event_dims, 0))) if event_dims else log_p
    return -torch.logsumexp(torch.log_softmax(logits, 1) + log_p, 1)


# Logits and event: a network's, pixels', rows that take several tiles, positions that do.
SHAPES = [((4, 3), (5,)), ((2, 3, 70), ()), ((3, 4, 2), (7, 2)), ((2, 2), (5000,)), ((150, 10), ())]
TOLERANCES = {
    torch.float64: 1e-12,
    torch.float32: 4e-6,
    torch.bfloat16: 8e-3,
    torch.float16: 1e-3,
}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("shape", "event"), SHAPES, ids=str)
def test_values_and_gradients(backend, shape, event, dtype):
    def drawn(*sizes):
        return torch.randn(*sizes, dtype=torch.float64).to(dtype).requires_grad_()

    operands = drawn(*shape), drawn(*shape, *event), drawn(shape[1], *[1] * len(shape[2:] + event))
    target = drawn(shape[0], *shape[2:], *event).detach()
    exact = [x.detach().double().requires_grad_() for x in operands]
    for reduction, masked in (("sample", False), ("none", True), ("batchmean", True)):
        mask = torch.rand(target.shape) < 0.7 if masked else None
        value = vf.mixture_nll(
            operands[0],
            target,
            *operands[1:],
            event_dims=len(event),
            mask=mask,
            reduction=reduction,
        )
        right = _torchs(exact[0], target.double(), *exact[1:], len(event), mask)
        if reduction == "sample":
            right = right.flatten(1).sum(1) if right.dim() > 1 else right
        if reduction == "batchmean":
            right = right.sum() / len(right)
        upstream = torch.randn_like(value)
        got = (value, *torch.autograd.grad(value, operands, upstream))
        expected = (right, *torch.autograd.grad(right, exact, upstream.double()))
        assert value.dtype == torch.promote_types(dtype, torch.float32)
        for x, y in zip(got, expected, strict=True):
            size = TOLERANCES[x.dtype] * y.abs().max().item()
            torch.testing.assert_close(x.double(), y, rtol=0, atol=size)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_single_component_is_the_likelihood(likelihood):
    """To the last bit, value and gradients; its defaults and whole numbers as targets too."""
    case = CASE_OF_OP[f"{likelihood}_nll"]
    *params, target = leaves(case, 3, 40, dtype=torch.float32)
    target = target.detach()
    logits = torch.randn(3, 1, 40, requires_grad=True)
    inner = [x.detach().unsqueeze(1).requires_grad_() for x in params]
    value = vf.mixture_nll(logits, target, *inner, likelihood=likelihood, reduction="none")
    expected = case.public(*params, target, reduction="none")
    assert torch.equal(value, expected)
    found = torch.autograd.grad(value.sum(), (logits, *inner))
    assert not found[0].any()
    of_one = torch.autograd.grad(expected.sum(), params)
    assert all(torch.equal(x.squeeze(1), y) for x, y in zip(found[1:], of_one, strict=True))


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "von_mises"])
def test_components_of_other_likelihoods(backend, likelihood):
    """Against their values, mixed in float64; the counts as int32, shared by samples of z."""
    case = CASE_OF_OP[f"{likelihood}_nll"]
    params = [draw((2, 3, 4, 30)) for draw in case.draws[:-1]]
    target = case.draws[-1]((3, 30)).round()
    logits = torch.randn(2, 3, 4, 30, dtype=torch.float64)
    each = case.public(*params, target.unsqueeze(1).expand(2, 3, 4, 30), reduction="none")
    expected = -torch.logsumexp(torch.log_softmax(logits, 2) - each, 2).sum(2)
    whole = target if likelihood == "von_mises" else target.int()
    value = vf.mixture_nll(
        logits, whole, *params, likelihood=likelihood, batch_dims=2, reduction="sample"
    )
    torch.testing.assert_close(value, expected)


def test_numbers_stand_for_parameters(backend):
    logits, mean, x = torch.randn(4, 3), torch.randn(4, 3, 5), torch.randn(4, 5)
    value = vf.mixture_nll(logits, x, mean, event_dims=1)
    torch.testing.assert_close(
        value, vf.mixture_nll(logits, x, mean, torch.zeros(4, 3, 5), event_dims=1)
    )
    torch.testing.assert_close(value, vf.mixture_nll(logits, x, mean, 0, event_dims=1))


def test_what_is_impossible_has_no_share(backend):
    """Components that are excluded, hold NaN or overflow: no gradient, and none that is NaN."""
    inf, nan = torch.inf, torch.nan
    logits = torch.tensor([[0.0, -inf, 1], [-inf, -inf, 0], [-inf] * 3, [0.0] * 3, [1e4, -1e4, 0]])
    mean = torch.tensor([[0.0, 1, 2], [0, nan, 1], [1.0] * 3, [1e30] * 3, [0, 1, 2]])
    logvar = torch.tensor([[0.0] * 3, [0.0] * 3, [0.0] * 3, [-1.0] * 3, [0, -1e3, 0]])
    operands = [x.requires_grad_() for x in (logits, mean, logvar)]
    value = vf.mixture_nll(operands[0], torch.zeros(5), *operands[1:], reduction="none")
    one = 0.5 * math.log(2 * math.pi)
    two = -math.log((1 + math.exp(1 - 2)) / (1 + math.e)) + one
    torch.testing.assert_close(value, torch.tensor([two, one + 0.5, inf, inf, one]))
    found = torch.autograd.grad(value.sum(), operands)
    assert all(x.isfinite().all() for x in found)
    assert not any(x[2:4].any() for x in found)
    assert not found[1][0, 1]
    assert found[1][1].tolist() == [0, 0, 1]
    assert vf.mixture_nll(torch.zeros(1, 2), torch.zeros(1), torch.tensor([[nan, 0]])).isnan()


def test_what_is_masked_may_be_anything(backend):
    logits = torch.tensor([[0.0, 1.0], [math.nan, 1.0]], requires_grad=True)
    mean = torch.tensor([[[0.0, math.nan], [1.0, math.nan]]] * 2, requires_grad=True)
    x = torch.tensor([[0.5, math.nan], [math.nan, math.nan]])
    mask = torch.tensor([[True, False], [False, False]])
    value = vf.mixture_nll(logits, x, mean, event_dims=1, mask=mask, reduction="sample")
    expected = vf.mixture_nll(logits[:1], x[:1, 0], mean[:1, :, 0], reduction="none")
    torch.testing.assert_close(value, torch.cat([expected, torch.zeros(1)]))
    found = torch.autograd.grad(value.sum(), (logits, mean))
    assert all(g.isfinite().all() and not g[1].any() for g in found)


@pytest.mark.parametrize("where", ["target", "parameters", "logits", "a parameter", "a logit"])
def test_not_a_number_stays_one(where, backend):
    logits, mean, logvar = torch.zeros(2, 3, 4), torch.randn(2, 3, 4), torch.zeros(2, 3, 4)
    x = torch.randn(2, 4)
    spoilt = {
        "target": x[0],
        "parameters": mean[0],
        "logits": logits[0],
        "a parameter": mean[0, 1],
        "a logit": logits[0, 1],
    }
    spoilt[where].fill_(math.nan)
    leaves = [logits.requires_grad_(), mean.requires_grad_()]
    value = vf.mixture_nll(*leaves[:1], x, mean, logvar, likelihood="gaussian", reduction="none")
    assert value[0].isnan().all()
    assert value[1].isfinite().all()
    for gradient in torch.autograd.grad(value.sum(), leaves):
        assert gradient[0].isnan().any(0).all()
        assert gradient[1].isfinite().all()


def test_kernels_compute_on_every_device():
    params = torch.randn(2, 6, 3, 4, requires_grad=True)
    logits, mean = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, 7)
    pixels = vf.discretized_logistic_mixture_nll(params, torch.rand(2, 1, 3, 4))
    gaussians = vf.mixture_nll(logits, torch.randn(5, 7), mean, event_dims=1)
    names = [value.grad_fn.name() for value in (pixels, gaussians)]
    functions = ("discretized_logistic_mixture_nll", "mixture_nll of gaussian_nll")
    assert names == [f"VaeFastBackward[{name}]" for name in functions]


def test_every_instruction_set_and_thread_count(cpu_capability, cpu_threads):
    params = torch.randn(3, 50, 9, 300, requires_grad=True)
    x = torch.randint(0, 256, (3, 3, 9, 300), dtype=torch.uint8)
    every = []
    for capability in CAPABILITIES:
        cpu_capability(capability)
        results = []
        for threads in (1, 2, 3):
            cpu_threads(threads)
            value = vf.discretized_logistic_mixture_nll(params, x, reduction="none")
            results.append((value, *torch.autograd.grad(value.sum(), params)))
        assert all(
            torch.equal(a, b) for r in results[1:] for a, b in zip(r, results[0], strict=True)
        )
        every.append(results[0])
    for result in every[1:]:
        torch.testing.assert_close(result, every[0], rtol=1e-5, atol=1e-4)


# ---- pixels --------------------------------------------------------------------------------------


def _exact_pixel(params, x, components):
    """Of one pixel, by mpmath, from what its decoder gave and its intensities."""
    channels = len(x)
    numbers = 2 if channels == 1 else 3
    y = [2 * v - 1 for v in x]

    def number(channel, kind, k):
        return params[components * (1 + channel * numbers + kind) + k]

    total = mpmath.mpf(0)
    for k in range(components):
        p = mpmath.exp(params[k])
        for c in range(channels):
            mean = number(c, 0, k)
            for j in range(c):
                mean += mpmath.tanh(number(c * (c - 1) // 2 + j, 2, k)) * y[j]
            scale = mpmath.exp(max(number(c, 1, k), -7))
            a, b = (
                (y[c] + half - mean) / scale for half in (mpmath.mpf(1) / 255, -mpmath.mpf(1) / 255)
            )
            below, above = 1 / (1 + mpmath.exp(-a)), 1 / (1 + mpmath.exp(b))
            if y[c] > 1 - mpmath.mpf(1) / 255:
                p *= above
            elif y[c] < mpmath.mpf(1) / 255 - 1:
                p *= below
            elif a + b > 0:  # the difference of two that are near 0, not near 1
                p *= above - 1 / (1 + mpmath.exp(a))
            else:
                p *= below - 1 / (1 + mpmath.exp(-b))
        total += p
    return -mpmath.log(total / sum(mpmath.exp(params[k]) for k in range(components)))


PIXELS = {
    "ten": (10, [0.2, 0.9, 0.45], 0.0),
    "one": (1, [0.2, 0.9, 0.45], 0.0),
    "edges": (3, [0.0, 1.0, 0.0], -1.0),
    "narrow": (3, [0.25, 0.5, 0.75], -6.0),
    "bounded": (2, [0.3, 0.6, 0.1], -40.0),
    "wide": (2, [0.3, 0.6, 1.0], 30.0),
    "grey": (4, [0.7], -3.0),
}


@pytest.mark.parametrize("pixel", PIXELS)
def test_pixels_against_mpmath(backend, pixel):
    """What the papers' code approximates by the density in narrow intervals, too."""
    components, x, shift = PIXELS[pixel]
    channels = len(x)
    numbers = 2 if channels == 1 else 3
    params = torch.randn(components * (1 + channels * numbers), dtype=torch.float32)
    for c in range(channels):
        first = components * (2 + c * numbers)
        params[first : first + components] += shift
    code = [round(255 * v) for v in x]
    with mpmath.workdps(60):
        exact_x = [mpmath.mpf(v) / 255 for v in code]
        given = [mpmath.mpf(v.item()) for v in params]
        right = _exact_pixel(given, exact_x, components)
        step = mpmath.mpf(10) ** -20
        slopes = []
        for i, v in enumerate(given):
            up, down = (
                _exact_pixel([*given[:i], v + d, *given[i + 1 :]], exact_x, components)
                for d in (step, -step)
            )
            slopes.append(float((up - down) / (2 * step)))
    target = torch.tensor(code, dtype=torch.uint8).view(1, channels, 1, 1)
    right, slopes = float(right), torch.tensor(slopes, dtype=torch.float64)
    # A mean is wrong by its rounding, in scales; the slope by as much again.
    scales = [params[components * (2 + c * numbers) :][:components] for c in range(channels)]
    inverse = math.exp(-max(-7.0, torch.cat(scales).min().item()))
    for dtype in (torch.float64, torch.float32):
        eps = torch.finfo(dtype).eps
        leaf = params.to(dtype).view(1, -1, 1, 1).requires_grad_()
        value = vf.discretized_logistic_mixture_nll(leaf, target)
        found = torch.autograd.grad(value, leaf)[0].flatten().double()
        size = slopes.abs().max().item()
        assert abs(value.item() - right) <= 4 * eps * (1 + abs(right) + size)
        assert (found - slopes).abs().max().item() <= eps * (8 * (1 + size) + inverse**2 / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pixels_of_channels_last_and_in_half_precision(dtype):
    """The values of a strided view, and gradients in its order of dimensions."""
    params = torch.randn(2, 5, 6, 40).to(dtype).movedim(-1, 1).requires_grad_()
    x = torch.rand(2, 3, 5, 6)
    wide = params.detach().float().contiguous().requires_grad_()
    for reduction in ("batchmean", "none"):
        value = vf.discretized_logistic_mixture_nll(params, x, num_mixtures=4, reduction=reduction)
        right = vf.discretized_logistic_mixture_nll(wide, x, num_mixtures=4, reduction=reduction)
        torch.testing.assert_close(value, right)
        (found,) = torch.autograd.grad(value.sum(), params)
        assert found.dtype == dtype
        assert found.stride() == params.stride()
        (expected,) = torch.autograd.grad(right.sum(), wide)
        torch.testing.assert_close(found, expected.to(dtype))


def test_masked_pixels(backend):
    params = torch.randn(2, 30, 4, 5)
    x, mask = torch.rand(2, 3, 4, 5), torch.rand(2, 4, 5) < 0.6
    each = vf.discretized_logistic_mixture_nll(params, x, reduction="none")
    nothing = torch.where(mask.unsqueeze(1), 0, math.nan)
    leaf = (params + nothing).requires_grad_()
    value = vf.discretized_logistic_mixture_nll(leaf, x + nothing, mask=mask, reduction="none")
    torch.testing.assert_close(value, torch.where(mask, each, 0))
    (found,) = torch.autograd.grad(value.sum(), leaf)
    assert not found.movedim(1, -1)[~mask].any()
    assert found.isfinite().all()


def test_derivatives_of_higher_order():
    params = (0.5 * torch.randn(1, 20, 1, 2, dtype=torch.float64)).requires_grad_()
    x = torch.tensor([[0.2, 0.5], [0.7, 1.0], [0.0, 0.4]], dtype=torch.float64).view(1, 3, 1, 2)

    def of_pixels(params):
        return vf.discretized_logistic_mixture_nll(params, x, levels=6, reduction="sample")

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    def mixed(logits, mean, logvar, target):
        return vf.mixture_nll(logits, target, mean, logvar, event_dims=1)

    operands = drawn(2, 3, 2), drawn(2, 3, 2, 2), drawn(3, 1, 1), drawn(2, 2, 2)
    for function, leaf in ((of_pixels, (params,)), (mixed, operands)):
        assert torch.autograd.gradcheck(function, leaf, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, leaf, fast_mode=True)


def test_functional_transforms():
    params, x = torch.randn(3, 30, 2, 2, dtype=torch.float64), torch.rand(3, 3, 2, 2).double()
    leaf = params.clone().requires_grad_()
    total = vf.discretized_logistic_mixture_nll(leaf, x, reduction="sum")
    each = torch.func.vmap(
        torch.func.grad(
            lambda p, x: vf.discretized_logistic_mixture_nll(p[None], x[None], reduction="sum")
        )
    )(params, x)
    torch.testing.assert_close(each, torch.autograd.grad(total, leaf)[0])


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.torch_devices_only  # AOTAutograd
def test_compiles_whole():
    """In one graph, which TorchInductor would take half a minute to compile."""

    def model(params, x, logits, mean, target):
        pixels = vf.discretized_logistic_mixture_nll(params, x)
        return pixels + vf.mixture_nll(logits, target, mean, event_dims=1)

    params = torch.randn(2, 6, 3, 4, requires_grad=True)
    logits, mean = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, 7, requires_grad=True)
    x, target = torch.randint(0, 256, (2, 1, 3, 4), dtype=torch.uint8), torch.randn(5, 7)
    operands = (params, x, logits, mean, target)
    value, right = (
        torch.compile(model, fullgraph=True, backend="aot_eager")(*operands),
        model(*operands),
    )
    torch.testing.assert_close(value, right)
    found, expected = (torch.autograd.grad(v, (params, logits, mean)) for v in (value, right))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_draws_have_the_probabilities():
    """Of all 27 pixels of three levels, and of the levels of a grey one."""
    for channels, levels in ((3, 3), (1, 5)):
        params = torch.randn(1, 2 * (1 + channels * (3 if channels > 1 else 2)), 1, 1)
        every = torch.cartesian_prod(*[torch.arange(levels)] * channels).view(-1, channels, 1, 1)
        costs = vf.discretized_logistic_mixture_nll(
            params.expand(len(every), -1, 1, 1),
            every / (levels - 1),
            levels=levels,
            reduction="sample",
        )
        p = torch.exp(-costs)
        assert p.sum().item() == pytest.approx(1, abs=1e-5)
        count = 40_000
        drawn = vf.discretized_logistic_mixture_sample(
            params.expand(count, -1, 1, 1),
            num_channels=channels,
            levels=levels,
            generator=torch.Generator().manual_seed(3),
        )
        assert drawn.shape == (count, channels, 1, 1)
        places = levels ** torch.arange(channels - 1, -1, -1)
        codes = ((drawn.flatten(1) * (levels - 1)).round().long() * places).sum(1)
        shares = torch.bincount(codes, minlength=len(every)) / count
        assert (shares - p).abs().max() < 5 * math.sqrt(0.25 / count)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_pictures_learns(channels):
    """One colour, which its mean then has."""
    torch.manual_seed(0)
    model = VAE((channels, 6, 6), 2, hidden=(16,), likelihood="discretized_logistic_mixture")
    x = torch.full((8, channels, 6, 6), 200, dtype=torch.uint8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(x).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.4 * losses[0]  # it goes up and down
    # On average: a pixel's ten components may have one that is still on its way.
    assert (model.reconstruct(x) - 200 / 255).abs().mean() < 0.02
    elbo = vf.elbo_loss(
        model.decode(torch.zeros(8, 2)),
        x,
        torch.zeros(8, 2),
        torch.zeros(8, 2),
        likelihood="discretized_logistic_mixture",
    )
    assert elbo.nll.isfinite()


MISTAKES = {
    "logits is of type": {"logits": [1.0]},
    "logits has shape": {"logits": torch.zeros(2, 0)},
    "logits has dtype": {"logits": torch.zeros(2, 3, dtype=torch.int64)},
    "mean has shape": {"mean": torch.zeros(2, 4, 5)},
    "mean is on meta": {"mean": torch.zeros(2, 3, 5, device="meta")},
    "target has shape": {"target": torch.zeros(2, 3, 5)},
    "target has dtype": {"target": torch.zeros(2, 5, dtype=torch.complex64)},
    "mask has shape": {"mask": torch.ones(2, 3, 5, dtype=torch.bool)},
    "mask has dtype": {"mask": torch.ones(2, 5)},
    "likelihood is 'multinomial'": {"likelihood": "multinomial"},
    "params are 1, expected 3": {"likelihood": "student_t"},
    "event_dims is 3": {"event_dims": 3},
    "batch_dims is 2": {"batch_dims": 2},
    "reduction is 'total'": {"reduction": "total"},
}
PIXEL_MISTAKES = {
    "params has shape": {"params": torch.zeros(2, 29, 4, 4)},
    "params has shape .* expected 40": {"num_mixtures": 4},
    "target has shape": {"target": torch.zeros(2, 2, 4, 4)},
    "target has dtype": {"target": torch.zeros(2, 3, 4, 4, dtype=torch.int64)},
    "mask has shape": {"mask": torch.ones(2, 3, 4, 4, dtype=torch.bool)},
    "num_mixtures is of type": {"num_mixtures": 3.0},
    "num_mixtures is 0": {"num_mixtures": 0},
    "levels is of type": {"levels": "256"},
    "batch_dims is 4": {"batch_dims": 4},
}


@pytest.mark.parametrize("message", sorted({*MISTAKES, *PIXEL_MISTAKES}))
def test_mistakes_are_named(message):
    if message in MISTAKES:
        arguments = {"logits": torch.zeros(2, 3), "mean": torch.zeros(2, 3, 5)}
        arguments |= {"target": torch.zeros(2, 5), "event_dims": 1} | MISTAKES[message]
        operands = [arguments.pop(name) for name in ("logits", "target", "mean")]
        with pytest.raises((TypeError, ValueError), match=f"mixture_nll: {message}"):
            vf.mixture_nll(*operands, **arguments)
    if message in PIXEL_MISTAKES:
        arguments = {"params": torch.zeros(2, 30, 4, 4), "target": torch.zeros(2, 3, 4, 4)}
        name = "discretized_logistic_mixture_nll"
        with pytest.raises((TypeError, ValueError), match=f"{name}: {message}"):
            vf.discretized_logistic_mixture_nll(**arguments | PIXEL_MISTAKES[message])
