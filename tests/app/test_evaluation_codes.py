"""What is said of codes: against closed forms, quadrature, and codes perfect or useless."""

import doctest
import importlib
import json
import math
import pkgutil

import pytest
import torch
from linear_vae import VARIANCE, linear_vae, on_the_cpu  # noqa: F401
from sklearn.mixture import GaussianMixture as OfSklearn

import vae_fast as vf
from vae_fast import evaluation
from vae_fast.evaluation import (
    Evaluation,
    active_units,
    assign,
    decompose_kl,
    disentanglement_completeness_informativeness,
    evaluate_model,
    fit_gaussian_mixture,
    impute,
    kl_per_dimension,
    mutual_information_gap,
    separated_attribute_predictability,
)
from vae_fast.evaluation.clustering import _improved

pytestmark = pytest.mark.of_samples


def wide(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


MODULES = [module.name for module in pkgutil.iter_modules(evaluation.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_an_example_runs(name):
    module = importlib.import_module(f"vae_fast.evaluation.{name}")
    said = []
    for test in doctest.DocTestFinder().find(module):
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_every_public_function_has_an_example():
    functions = [getattr(evaluation, name) for name in evaluation.__all__]
    missing = [
        function.__name__
        for function in functions
        if callable(function)
        and not isinstance(function, type)
        and "\n    Example:\n" not in (function.__doc__ or "")
    ]
    assert missing == []


def by_quadrature(mu, logvar):
    """Mutual information, total correlation and dimension-wise KL of codes in the plane."""
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    step = (axis[1] - axis[0]).item()
    scale = (0.5 * logvar).exp()
    each = torch.distributions.Normal(mu[:, :, None], scale[:, :, None]).log_prob(axis)  # N, 2, G
    prior = torch.distributions.Normal(0.0, torch.ones((), dtype=torch.float64)).log_prob(axis)
    joint = (each[:, 0, :, None] + each[:, 1, None, :]).logsumexp(0) - math.log(len(mu))
    marginals = each.logsumexp(0) - math.log(len(mu))  # 2, G
    entropy = -(joint.exp() * joint).sum() * step**2
    of_marginals = -(marginals.exp() * marginals).sum(1) * step
    within = 0.5 * (logvar + math.log(2 * math.pi) + 1).sum(1).mean()
    cross = -(marginals.exp() * prior).sum() * step
    return entropy - within, of_marginals.sum() - entropy, cross - of_marginals.sum()


@pytest.mark.parametrize("count", [2, 5, 30])
def test_decomposition_by_quadrature(count):
    mu, logvar = wide(count, 2), 0.7 * wide(count, 2, seed=1) - 1.5
    parts = decompose_kl(mu, logvar, samples=60_000 // count)
    for found, error, exact in zip(
        parts[:3], parts.standard_errors, by_quadrature(mu, logvar), strict=True
    ):
        assert abs(found - exact) < 3 * error + 1e-6
        assert error < 0.01


def test_the_parts_sum_to_the_divergence_exactly():
    mu, logvar = wide(50, 8), wide(50, 8, seed=1)
    exact = vf.gaussian_kl(mu, logvar).item()
    for samples in (1, 2, 7):
        assert decompose_kl(mu, logvar, samples=samples).kl == pytest.approx(exact, rel=1e-10)
    # The divergences are equal here, and say nothing of the noise.
    same = decompose_kl(torch.ones(50, 3), torch.zeros(50, 3))
    assert same.kl == pytest.approx(1.5, rel=1e-10)
    assert same.mutual_information == pytest.approx(0, abs=1e-6)


def test_mutual_information_of_a_linear_vae():
    """Of x in N(0, 2) and the posterior of z: 0.5 log 2; x at the quantiles of its distribution."""
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    x = 2**0.5 * torch.special.ndtri(levels).unsqueeze(1)
    parts = decompose_kl(x / 2, torch.full_like(x, math.log(0.5)), samples=4)
    # What 4000 quantiles leave out of the tails is below 0.001.
    assert parts.mutual_information == pytest.approx(
        0.5 * math.log(2), abs=3 * parts.standard_errors[0] + 1e-3
    )
    assert abs(parts.total_correlation) < 1e-9
    assert abs(parts.dimension_wise_kl) < 3 * parts.standard_errors[2] + 1e-3


def test_units():
    mu = torch.stack([torch.linspace(-1, 1, 100), torch.full((100,), 0.3)], dim=1)
    assert active_units(mu).tolist() == [True, False]
    logvar = torch.tensor([-2.0, 0.0]).expand(100, 2)
    torch.testing.assert_close(
        kl_per_dimension(mu, logvar).sum(), vf.gaussian_kl(mu, logvar).double()
    )


def test_perfect_and_useless_codes():
    index = torch.arange(600)
    factors = torch.stack([index % 2, index // 2 % 3], dim=1)
    perfect = torch.cat([6.0 * factors, torch.zeros(600, 1)], dim=1)
    useless = torch.randn(600, 3)
    small = torch.full((600, 3), -2.0)
    assert mutual_information_gap(perfect, small, factors) == pytest.approx(1, abs=0.01)
    assert mutual_information_gap(useless, small, factors) < 0.05
    # Both factors in both dimensions: no dimension is ahead of the other.
    mixed = 6.0 * factors @ torch.tensor([[1, 1], [2, 2]]).float()
    assert mutual_information_gap(mixed, small[:, :2], factors) < 0.02
    assert separated_attribute_predictability(useless, factors) < 0.1
    dci = disentanglement_completeness_informativeness(perfect, factors)
    assert dci == pytest.approx((1, 1, 1), abs=1e-6)
    dci = disentanglement_completeness_informativeness(useless, factors)
    assert dci.disentanglement < 0.1
    assert dci.completeness < 0.1
    assert dci.informativeness < 0.6
    # Thresholds of a constant are right for one of the classes, 1/2 and 1/3 of them.
    expected = (1 - 1 / 2 + 1 - 1 / 3) / 2
    assert separated_attribute_predictability(perfect, factors) == pytest.approx(expected, abs=0.1)


def test_factors_that_are_numbers():
    factors = torch.rand(400, 2)
    turned = factors @ torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    straight = torch.cat([factors, torch.randn(400, 1)], dim=1)
    assert separated_attribute_predictability(straight, factors) > 0.9
    assert separated_attribute_predictability(turned, factors) < 0.1
    dci = disentanglement_completeness_informativeness(straight, factors)
    assert min(dci) > 0.9
    assert disentanglement_completeness_informativeness(turned, factors).disentanglement < 0.3


def test_em_is_as_the_textbook_has_it():
    """One step by gradients against responsibilities written out; Bishop 2006, 9.23 to 9.27."""
    z, mean, logvar, logits = wide(200, 3), wide(4, 3, seed=1), wide(4, 3, seed=2), wide(4, seed=3)
    _, new_mean, new_logvar, new_logits = _improved(
        z, mean, logvar, logits, torch.zeros(3).double()
    )
    normal = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    each = normal.log_prob(z.unsqueeze(1)).sum(2) + torch.log_softmax(logits, 0)
    responsibility = torch.softmax(each, 1)
    counts = responsibility.sum(0)
    expected = responsibility.T @ z / counts.unsqueeze(1)
    spread = (responsibility.unsqueeze(2) * (z.unsqueeze(1) - expected).square()).sum(0)
    torch.testing.assert_close(new_mean, expected)
    torch.testing.assert_close(new_logvar.exp(), spread / counts.unsqueeze(1))
    torch.testing.assert_close(new_logits.exp(), counts / 200)


def test_a_mixture_is_fitted_as_by_scikit_learn():
    centres = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 3.0]]).double()
    z = centres.repeat(200, 1) + wide(600, 2)
    mixture = fit_gaussian_mixture(z, 3, tolerance=1e-10)
    theirs = OfSklearn(3, covariance_type="diag", tol=1e-10, max_iter=5000, reg_covar=0, n_init=5)
    theirs.fit(z.numpy())
    assert mixture.log_likelihood == pytest.approx(theirs.score(z.numpy()), abs=1e-5)
    order = torch.cdist(mixture.mean, torch.from_numpy(theirs.means_)).argmin(1)
    assert (order[assign(z, mixture)].numpy() == theirs.predict(z.numpy())).mean() > 0.99


def test_imputation_of_a_linear_vae():
    """The missing of a Gaussian given the rest is Gaussian, and what is there has a density."""
    linear = linear_vae(30)
    observed = torch.tensor([True, True, False, True, False, True])
    filled = impute(linear.model, linear.x, observed, num_samples=20_000)
    covariance, centred = linear.covariance, linear.x - linear.bias
    known = covariance[observed][:, observed]
    gain = torch.linalg.solve(known, covariance[observed][:, ~observed])
    expected = linear.bias[~observed] + centred[:, observed] @ gain
    exact = torch.distributions.MultivariateNormal(linear.bias[observed], known)
    torch.testing.assert_close(
        filled.log_likelihood, exact.log_prob(linear.x[:, observed]), atol=0.05, rtol=0
    )
    assert (filled.effective_sample_size > 400).all()
    # What is weighed are the expected x of each code: their deviation, by the sample size.
    left = covariance[~observed][:, ~observed] - covariance[observed][:, ~observed].T @ gain
    spread = (left.diagonal() - VARIANCE).sqrt()
    error = spread / filled.effective_sample_size.sqrt().unsqueeze(1)
    assert ((filled.mean[:, ~observed] - expected) / error).abs().max() < 4.5
    assert torch.equal(filled.mean[:, observed], linear.x[:, observed])


def test_all_figures_are_json_and_back(make_vae, digits):
    model = make_vae()
    before = torch.get_rng_state()
    settings = {"importance_samples": 50, "annealed": 3, "chains": 3, "temperatures": 8}
    labels = digits.test_labels[:60]
    figures = evaluate_model(model, digits.test[:60], factors=labels, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert Evaluation.from_dict(json.loads(json.dumps(figures.to_dict()))) == figures
    torch.rand(1)
    assert figures == evaluate_model(model, digits.test[:60], factors=labels, **settings)
    assert figures.elbo.mean == pytest.approx(-figures.nll - figures.kl, rel=1e-6)
    assert figures.kl == pytest.approx(sum(figures.units.kl), rel=1e-5)
    parts = figures.decomposition
    assert figures.kl == pytest.approx(
        parts.mutual_information + parts.total_correlation + parts.dimension_wise_kl, rel=1e-5
    )
    assert figures.importance.log_likelihood.mean > figures.elbo.mean
    bare = evaluate_model(model, digits.test[:60], metrics=[])
    assert (bare.importance, bare.units) == (None, None)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decompose_kl(torch.zeros(3), torch.zeros(3)), ValueError, r"expected \(N, D\)"),
        (lambda: kl_per_dimension(torch.zeros(3, 2).long(), 0.0), TypeError, "mu is torch.int64"),
        (
            lambda: separated_attribute_predictability(torch.zeros(3, 2), torch.zeros(4)),
            ValueError,
            "codes have shape",
        ),
        (
            lambda: separated_attribute_predictability(torch.zeros(3, 2), torch.zeros(3)),
            ValueError,
            "factor 0 has one value",
        ),
        (
            lambda: mutual_information_gap(torch.zeros(3, 2), torch.zeros(3, 2), torch.rand(3)),
            TypeError,
            "expected classes",
        ),
        (lambda: fit_gaussian_mixture(torch.zeros(3, 2), 4), ValueError, "components is 4"),
        (
            lambda: impute(vf.VAE(6, 2), torch.rand(2, 6), torch.ones(6)),
            TypeError,
            "observed is torch.float32",
        ),
        (
            lambda: impute(vf.VAE(6, 2), torch.rand(2, 6), torch.ones(5).bool()),
            ValueError,
            r"observed has shape \(5,\)",
        ),
        (
            lambda: impute(
                vf.VAE(6, 2, likelihood="poisson"), torch.ones(2, 6), torch.ones(6).bool()
            ),
            ValueError,
            "the likelihood is poisson",
        ),
        (lambda: evaluate_model(vf.AutoEncoder(6, 2), torch.rand(3, 6)), TypeError, "AutoEncoder"),
        (
            lambda: evaluate_model(vf.VAE(6, 2), torch.rand(3, 6), metrics=["x"]),
            ValueError,
            "metrics has 'x'",
        ),
        (lambda: Evaluation.from_dict({"count": 3}), ValueError, "no figures"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


COUNTS = torch.poisson(
    torch.rand(50, 20, generator=torch.Generator("cpu").manual_seed(0), device="cpu") * 3,
    generator=torch.Generator("cpu").manual_seed(1),
)
KINDS = {
    "counts": (COUNTS.int(), {"likelihood": "negative_binomial"}),
    "counts in CSR": (COUNTS, {"likelihood": "negative_binomial"}),
    "classes": (COUNTS.long().clamp(max=7), {"likelihood": "categorical", "num_classes": 8}),
    "numbers": (COUNTS.log1p(), {"likelihood": "gaussian", "decoder_logvar": "pixel"}),
    "pictures": (
        (COUNTS[:, :16] / 20).reshape(50, 1, 4, 4),
        {"architecture": "conv", "channels": (4,)},
    ),
    "conditions": (COUNTS.int().clamp(max=2), {"likelihood": "poisson", "conditions": "abc"}),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(kind):
    x, settings = KINDS[kind]
    if kind == "counts in CSR":
        x = x.to_sparse_csr()
    conditions = tuple(settings.get("conditions", ()))
    shape = (x.shape[1] - 1,) if conditions else tuple(x.shape[1:])
    model = vf.VAE(shape, 3, hidden=(8,), **{**settings, "conditions": conditions})
    figures = evaluate_model(
        model, x, importance_samples=200, annealed=5, chains=10, temperatures=50
    )
    annealed = figures.annealing
    # An untrained decoder hardly looks at the code: both estimates are near log p(x).
    assert annealed.importance == pytest.approx(annealed.log_likelihood.mean, abs=0.5)
    assert figures.elbo.mean < figures.importance.log_likelihood.mean
