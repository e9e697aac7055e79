"""Bounds and estimators against quadrature: a Gaussian model whose likelihood is known.

z ~ N(0, 1), x | z ~ N(weight z + shift, 1), q(z | x) = N(mu, exp(logvar)). What K = 2 samples give
on average is an integral over two noises, which Gauss and Hermite's rule has to the last digits: of
the bound, whose gradient autograd takes, and of an estimator's gradients, which must be the same.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Normal
from torch.func import grad, vmap

import vae_fast as vf
from vae_fast.bounds.estimators import ESTIMATORS
from vae_fast.bounds.log_mean_exp import log_mean_exp

pytestmark = pytest.mark.of_samples

X = 0.7
PARAMETERS = {"weight": 0.8, "shift": 0.3, "mu": 0.1, "logvar": -0.4}
# An estimator, its settings, and the bound that it is one of: an alpha of Renyi's.
UNBIASED = {
    "elbo": ("elbo", {}, 1.0),
    "iwae": ("iwae", {}, 0.0),
    "renyi": ("renyi", {"alpha": 0.5}, 0.5),
    "renyi above": ("renyi", {"alpha": -1.0}, -1.0),
    "stl": ("stl", {}, 1.0),
    "dreg": ("dreg", {}, 0.0),
    "dreg of renyi": ("dreg", {"alpha": 0.5}, 0.5),
    "dreg of the elbo": ("dreg", {"alpha": 1.0}, 1.0),
    "reinforce": ("reinforce", {}, 1.0),
    "reinforce with a baseline": ("reinforce", {"baseline": -1.3}, 1.0),
    "reinforce_loo": ("reinforce_loo", {}, 1.0),
    "vimco": ("vimco", {}, 0.0),
}
each_unbiased = pytest.mark.parametrize("case", UNBIASED)


def parameters(*shape, dtype=torch.float64):
    """The model's and q's, one of each for every entry."""
    return {k: torch.full(shape, v, dtype=dtype).requires_grad_() for k, v in PARAMETERS.items()}


def log_normal(x, mean, logvar):
    return -0.5 * (math.log(2 * math.pi) + logvar + (x - mean).square() * (-logvar).exp())


def log_joint(z, weight, shift, **_):
    zero = torch.zeros_like(z)
    return log_normal(z, zero, zero) + log_normal(X, weight * z + shift, zero)


def log_posterior(z, mu, logvar, **_):
    return log_normal(z, mu, logvar)


def loss_of(noise, estimator, values, reduction="batchmean", **settings):
    """By the public functions, of noise (K, *batch): as a user of another posterior writes it."""
    row = ESTIMATORS[estimator]
    z = values["mu"] + (0.5 * values["logvar"]).exp() * noise
    parts = {}
    if not row.has_path:
        z = z.detach()
    if "log_q" in row.wants:
        parts["log_q"] = log_posterior(z.detach(), **values)
    if "path" in row.wants:
        z, parts["path"] = vf.mark_path(z, batch_dims=z.dim())
    log_weights = log_joint(z, **values) - log_posterior(z, **values)
    return vf.importance_weighted_loss(
        log_weights, estimator=estimator, reduction=reduction, **parts, **settings
    )


def two_noises(nodes=90):
    """Noise (2, N) and the N weights of a mean over it."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    noise = torch.tensor(list(itertools.product(x, x))).T.contiguous()
    weights = torch.tensor(np.outer(w, w).ravel())
    return noise, weights / weights.sum()


def gradients(value, values):
    return dict(zip(values, torch.autograd.grad(value, tuple(values.values())), strict=True))


def exact_bound(alpha, noise, weights):
    """The mean of Renyi's bound of two samples, and its gradients, by autograd alone."""
    values = parameters()
    z = values["mu"] + (0.5 * values["logvar"]).exp() * noise
    log_weights = log_joint(z, **values) - log_posterior(z, **values)
    if alpha == 1:
        each = log_weights.mean(0)
    else:
        power = 1 - alpha
        each = (torch.logsumexp(power * log_weights, 0) - math.log(2)) / power
    value = (weights * each).sum()
    return value.detach(), gradients(value, values)


# ---- unbiased ------------------------------------------------------------------------------------


@each_unbiased
def test_the_mean_is_the_bounds_own(case):
    """To the last digits, by quadrature over the noise."""
    estimator, settings, alpha = UNBIASED[case]
    noise, weights = two_noises()
    value, right = exact_bound(alpha, noise, weights)
    values = parameters()
    loss = (weights * loss_of(noise, estimator, values, "none", **settings)).sum()
    torch.testing.assert_close(-loss, value, rtol=1e-12, atol=0)
    of_loss = gradients(-loss, values)
    torch.testing.assert_close(of_loss, right, rtol=1e-9, atol=1e-9)


def test_sticking_the_landing_of_the_iwae_would_be_biased():
    """Why its bound is the ELBO: IWAE's weights on the path alone miss this much."""
    noise, weights = two_noises()
    _, right = exact_bound(0.0, noise, weights)
    values = parameters()
    z = values["mu"] + (0.5 * values["logvar"]).exp() * noise
    stopped = {name: x.detach() for name, x in values.items()}
    each = log_mean_exp(log_joint(z, **values) - log_posterior(z, **stopped))[0]
    wrong = gradients((weights * each).sum(), values)
    assert abs(wrong["mu"] - right["mu"]) > 0.01


@each_unbiased
def test_unbiased_over_a_million_samples(case):
    estimator, settings, alpha = UNBIASED[case]
    _, right = exact_bound(alpha, *two_noises())
    count = 1_000_000 // 2
    values = parameters(count)
    noise = torch.randn(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    loss = loss_of(noise, estimator, values, "sum", **settings)
    for name, each in gradients(-loss, values).items():
        error = each.std() / math.sqrt(count)
        assert abs(each.mean() - right[name]) <= 3 * error, name


# ---- variances -----------------------------------------------------------------------------------


def variances(estimator, count=200_000, samples=4, dtype=torch.float64, **settings):
    values = parameters(count, dtype=dtype)
    noise = torch.randn(samples, count, generator=torch.Generator().manual_seed(3)).to(dtype)
    each = gradients(loss_of(noise, estimator, values, "sum", **settings), values)
    return {name: x.double().var().item() for name, x in each.items()}


def test_a_better_estimator_varies_less(monkeypatch):
    """Of q's mean, in the order that the literature has them in; q is not yet a good one."""
    monkeypatch.setitem(PARAMETERS, "mu", 2.0)
    for better, worse in itertools.pairwise(("stl", "elbo", "reinforce_loo", "reinforce")):
        assert variances(better)["mu"] < variances(worse)["mu"], better
    for better, worse in itertools.pairwise(("dreg", "iwae", "vimco")):
        assert variances(better)["mu"] < variances(worse)["mu"], better


@pytest.mark.parametrize("estimator", ["stl", "dreg"])
def test_no_variance_where_q_is_the_posterior(estimator, monkeypatch):
    weight, shift = PARAMETERS["weight"], PARAMETERS["shift"]
    variance = 1 / (1 + weight**2)
    monkeypatch.setitem(PARAMETERS, "mu", variance * weight * (X - shift))
    monkeypatch.setitem(PARAMETERS, "logvar", math.log(variance))
    own = variances(estimator, 1000)
    assert own["mu"] < 1e-28
    assert own["logvar"] < 1e-28
    total = variances("elbo", 1000)
    assert total["logvar"] > 1e-3


def test_four_against_495():
    """f(z) = (z - k)^2 under N(mu, 1), in mu = 1 with k = -3; see test_gradient_variance."""
    count, k = 2_000_000, -3.0
    mu = torch.ones(count, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(1, count, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def expected(estimator, z):
        """The mean of f: log q has no part in the weights, only its score."""
        log_q = Normal(mu, 1.0).log_prob(z.detach())
        log_weights = (z - k).square() - (log_q - log_q.detach())
        parts = {"log_q": log_q} if estimator != "elbo" else {}
        loss = vf.importance_weighted_loss(
            log_weights, estimator=estimator, reduction="sum", **parts
        )
        return torch.autograd.grad(-loss, mu)[0]

    by_path = expected("stl", mu + noise)
    by_score = expected("reinforce", (mu + noise).detach())
    for each, variance in ((by_path, 4.0), (by_score, 495.0)):
        assert abs(each.mean() - 8) < 3 * math.sqrt(variance / count)
        assert each.var() == pytest.approx(variance, rel=0.02)


# ---- bounds --------------------------------------------------------------------------------------


def bound(log_weights, estimator, **settings):
    """Minus the loss of each batch entry."""
    row = ESTIMATORS[estimator]
    parts = {"log_q": log_weights, "path": torch.zeros(2, *log_weights.shape)}
    parts = {name: parts[name] for name in row.wants}
    return -vf.importance_weighted_loss(
        log_weights, estimator=estimator, reduction="none", **parts, **settings
    )


def settings_of(estimator):
    row = ESTIMATORS[estimator]
    given = {"groups": 1, "alpha": 0.5}
    return {name: given[name] for name in row.takes if name in given}


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS.keys() - {"reinforce_loo", "vimco"}))
def test_one_sample_is_the_elbo(estimator):
    log_weights = torch.randn(1, 6)
    value = bound(log_weights, estimator, **settings_of(estimator))
    torch.testing.assert_close(value, log_weights[0])


def test_order_of_the_bounds():
    """Of the same samples, each is at most the next, by Jensen's inequality; and so up to log p."""
    log_weights = 3 * torch.randn(12, 100, dtype=torch.float64)
    rising = [
        bound(log_weights, "renyi", alpha=3.0),
        bound(log_weights, "elbo"),
        bound(log_weights, "miwae", groups=4),
        bound(log_weights, "miwae", groups=2),
        bound(log_weights, "iwae"),
        bound(log_weights, "renyi", alpha=-2.0),
        bound(log_weights, "vr_max"),
    ]
    for low, high in itertools.pairwise(rising):
        assert (low < high).all()
    mixed = bound(log_weights, "ciwae", alpha=0.25)
    torch.testing.assert_close(mixed, 0.25 * rising[1] + 0.75 * rising[4])
    evidence = Normal(PARAMETERS["shift"], math.sqrt(1 + PARAMETERS["weight"] ** 2))
    evidence = evidence.log_prob(torch.tensor(X)).item()
    elbo, iwae = (exact_bound(alpha, *two_noises())[0] for alpha in (1.0, 0.0))
    assert elbo < iwae < evidence


def test_the_elbo_and_its_gap_to_the_evidence():
    """ELBO + KL(q || posterior) = log p(x), which the model has in closed form."""
    weight, shift = PARAMETERS["weight"], PARAMETERS["shift"]
    elbo = exact_bound(1.0, *two_noises())[0]
    variance = 1 / (1 + weight**2)
    mean = torch.tensor([[variance * weight * (X - shift)]], dtype=torch.float64)
    q = (torch.tensor([[PARAMETERS[k]]], dtype=torch.float64) for k in ("mu", "logvar"))
    gap = vf.gaussian_kl(*q, mean, math.log(variance))
    evidence = Normal(torch.tensor(shift, dtype=torch.float64), math.sqrt(1 + weight**2))
    exact = evidence.log_prob(torch.tensor(X, dtype=torch.float64))
    torch.testing.assert_close(elbo + gap, exact, rtol=1e-12, atol=0)


def test_limits_of_alpha():
    log_weights = torch.randn(5, 40, dtype=torch.float64)
    for alpha, estimator in ((1.0, "elbo"), (0.0, "iwae")):
        exact = bound(log_weights, estimator)
        torch.testing.assert_close(bound(log_weights, "renyi", alpha=alpha), exact)
        for near in (alpha - 1e-6, alpha + 1e-6):
            close = bound(log_weights, "renyi", alpha=near)
            torch.testing.assert_close(close, exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        bound(log_weights, "renyi", alpha=-1e5), bound(log_weights, "vr_max"), rtol=0, atol=1e-4
    )
    assert torch.equal(bound(log_weights, "vr_max"), log_weights.amax(0))


def test_groups_are_losses_of_their_own():
    """MIWAE, and DReG of it: the mean over the groups, in order."""
    values, noise = parameters(7), torch.randn(6, 7, dtype=torch.float64)
    for one, several in (("iwae", "miwae"), ("dreg", "dreg")):
        whole = loss_of(noise, several, values, groups=3)
        parts = sum(loss_of(part, one, values) for part in noise.split(2)) / 3
        torch.testing.assert_close(whole, parts)
        torch.testing.assert_close(gradients(whole, values), gradients(parts, values))


@pytest.mark.parametrize("apart", [0.0, 300.0])
def test_piwae_is_two_losses(apart):
    """The model's gradient is the IWAE's, q's the MIWAE's: also where a group has no weight."""
    values, noise = parameters(7, dtype=torch.float32), torch.randn(6, 7)
    noise[:3] += apart / 10
    loss = loss_of(noise, "piwae", values, groups=2)
    one, two = (loss_of(noise, e, values, **s) for e, s in (("iwae", {}), ("miwae", {"groups": 2})))
    torch.testing.assert_close(loss, one)
    got, of_model, of_q = (gradients(x, values) for x in (loss, one, two))
    right = {k: (of_q if k in ("mu", "logvar") else of_model)[k] for k in values}
    torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


# ---- a baseline, as its user keeps it ------------------------------------------------------------


def test_a_baseline_of_ones_own():
    """Constants change the variance and not the mean; one for each datum broadcasts."""
    plain = variances("reinforce")["mu"]
    elbo = exact_bound(1.0, *two_noises())[0]
    less = variances("reinforce", baseline=elbo)["mu"]
    assert less < 0.2 * plain
    values, noise = parameters(5), torch.randn(3, 5, dtype=torch.float64)
    baseline = torch.randn(5, dtype=torch.float64, requires_grad=True)
    loss = loss_of(noise, "reinforce", values, baseline=baseline)
    assert torch.autograd.grad(loss, baseline, allow_unused=True)[0] is None


# ---- numbers -------------------------------------------------------------------------------------


def test_weights_of_zero_and_of_anything():
    log_weights = torch.tensor(
        [[-math.inf, -math.inf, -2e4, 3e4], [0.0, -math.inf, -2e4, -3e4]], requires_grad=True
    )
    value = -vf.importance_weighted_loss(log_weights, reduction="none")
    log2 = math.log(2)
    torch.testing.assert_close(value, torch.tensor([-log2, -math.inf, -2e4, 3e4 - log2]))
    (gradient,) = torch.autograd.grad(value.sum(), log_weights)
    assert gradient.tolist() == [[0, 0, 0.5, 1], [1, 0, 0.5, 0]]
    for estimator in ("dreg", "vimco", "vr_max", "piwae", "renyi"):
        # Of VIMCO, what is left without the only sample that has a weight is -infinity.
        columns = [2, 3] if estimator == "vimco" else [0, 2, 3]
        leaf = log_weights.detach()[:, columns].requires_grad_()
        value = bound(leaf, estimator, **settings_of(estimator))
        assert value.isfinite().all(), estimator
        assert torch.autograd.grad(value.sum(), leaf)[0].isfinite().all(), estimator


def test_log_mean_exp_is_as_exact_as_torch_has_it():
    log_weights = 8 * torch.randn(50, 2000)
    exact = log_weights.double().logsumexp(0) - math.log(50)
    shares = log_weights.double().softmax(0)
    value, weights = log_mean_exp(log_weights)
    theirs = (log_weights.logsumexp(0) - math.log(50) - exact).abs().max()
    assert (value - exact).abs().max() <= 2 * theirs
    ours, theirs = weights, log_weights.softmax(0)
    error, allowed = (((x - shares).abs() / shares).max() for x in (ours, theirs))
    assert error <= 2 * allowed


@pytest.mark.parametrize("alpha", [1 - 1e-7, 1 + 1e-7, 0.999, 0.5, 0.0, -3.0, 4.0])
def test_orders_near_one_lose_no_digits(alpha):
    """What is divided by 1 - alpha is as exact as a log weight."""
    for spread in (1e-3, 1.0, 30.0):
        log_weights = spread * torch.randn(20, 500) - 100
        exact = bound(log_weights.double(), "renyi", alpha=alpha)
        error = (bound(log_weights, "renyi", alpha=alpha) - exact).abs().max()
        assert error <= 4 * torch.finfo(torch.float32).eps * exact.abs().max()
    with mpmath.workdps(40):
        with_mpmath = mpmath.log(sum(mpmath.exp((1 - alpha) * w) for w in (-3, -1, -2)) / 3)
    value = bound(torch.tensor([-3.0, -1.0, -2.0], dtype=torch.float64), "renyi", alpha=alpha)
    assert value.item() == pytest.approx(float(with_mpmath / (1 - alpha)), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("estimator", ["iwae", "renyi", "vr_max", "miwae", "ciwae", "elbo"])
def test_half_precision(estimator, dtype):
    """Arithmetic in float32, the gradient of the operand's dtype, rounded once."""
    leaf = (4 * torch.randn(6, 9) - 90).to(dtype).requires_grad_()
    wide = leaf.detach().double().requires_grad_()
    value, exact = (bound(x, estimator, **settings_of(estimator)) for x in (leaf, wide))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact)
    got, right = (torch.autograd.grad(v.sum(), x)[0] for v, x in ((value, leaf), (exact, wide)))
    assert got.dtype == dtype
    torch.testing.assert_close(got, right.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("estimator", ["dreg", "piwae"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_path_of_half_precision(estimator, dtype):
    z = torch.randn(4, 3, 2).to(dtype).requires_grad_()
    marked, path = vf.mark_path(z, batch_dims=2)
    log_weights = -marked.float().square().sum(2)
    vf.importance_weighted_loss(
        log_weights,
        estimator=estimator,
        log_q=log_weights.detach(),
        path=path,
        **settings_of(estimator),
    ).backward()
    assert z.grad.dtype == dtype
    assert z.grad.isfinite().all()


# ---- reductions, transforms, the compiler --------------------------------------------------------


def test_reductions():
    log_weights = torch.randn(5, 3, 4)
    each = vf.importance_weighted_loss(log_weights, reduction="none")
    assert each.shape == (3, 4)
    reduced = {"sample": each, "sum": each.sum(), "batchmean": each.mean(), "mean": each.mean()}
    for reduction, right in reduced.items():
        loss = vf.importance_weighted_loss(log_weights, reduction=reduction)
        torch.testing.assert_close(loss, right)
    alone = vf.importance_weighted_loss(log_weights[:, 0, 0])
    torch.testing.assert_close(alone, each[0, 0])
    strided = torch.randn(4, 3, 5).permute(2, 1, 0)
    torch.testing.assert_close(
        vf.importance_weighted_loss(strided), vf.importance_weighted_loss(strided.contiguous())
    )


@pytest.mark.parametrize("estimator", ["elbo", "iwae", "miwae", "ciwae", "renyi", "vr_max"])
def test_derivatives_of_the_first_and_second_order(estimator):
    leaf = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def value(x):
        return bound(x, estimator, **settings_of(estimator))

    assert gradcheck(value, leaf, check_forward_ad=True)
    assert gradgradcheck(value, leaf, check_fwd_over_rev=True)


@pytest.mark.parametrize("scale", [1.0, 65536.0, 1e-6])
def test_the_path_under_any_upstream(scale):
    """Loss scaling, and a second backward."""
    values, noise = parameters(7, dtype=torch.float32), torch.randn(5, 7)
    loss = loss_of(noise, "dreg", values)
    scaled = torch.autograd.grad(scale * loss, tuple(values.values()), retain_graph=True)
    once = torch.autograd.grad(loss, tuple(values.values()))
    torch.testing.assert_close([x / scale for x in scaled], list(once))
    two = (loss_of(noise, "dreg", values, "none") * torch.arange(7)).sum()  # one has none
    assert all(x.isfinite().all() for x in torch.autograd.grad(two, tuple(values.values())))


each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


@each_estimator
def test_transforms(estimator):
    """A gradient for each datum by torch.func is what autograd gives of each."""
    noise = torch.randn(4, 5, dtype=torch.float64)
    values = parameters(5)
    settings = settings_of(estimator)

    def loss(values, noise):
        return loss_of(noise, estimator, values, "sum", **settings)

    each = vmap(grad(loss), (0, 1))({k: v.detach() for k, v in values.items()}, noise)
    torch.testing.assert_close(each, gradients(loss(values, noise), values))


@each_estimator
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled(estimator):
    noise = torch.randn(4, 5)
    values, settings = parameters(5, dtype=torch.float32), settings_of(estimator)

    def loss(noise, values):
        return loss_of(noise, estimator, values, **settings)

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(noise, values)
    right = loss(noise, values)
    torch.testing.assert_close(value, right)
    torch.testing.assert_close(gradients(value, values), gradients(right, values))
