"""What docs/theory.md says, at a smaller size: each figure's script, and what one sees in it."""

import importlib
import math
from pathlib import Path

import pytest
import torch

import vae_fast as vf

pytestmark = pytest.mark.of_samples

FOLDER = Path(__file__).parents[1] / "examples" / "theory"


@pytest.fixture
def script(monkeypatch, cpu_threads):
    """An importer of the scripts, which see scikit-learn's digits."""
    cpu_threads(1)
    monkeypatch.delenv("VAE_FAST_DATA", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def numbers_of(script):
    """The numbers of a script; its figures are drawn, too."""

    def run(name, **options):
        torch.manual_seed(0)
        numbers, figures = script(name).run(True, None, **options)
        for figure in figures.values():
            figure.canvas.draw()
        return numbers

    return run


def test_an_auto_encoder_cannot_generate(numbers_of):
    numbers = numbers_of("generate")
    plain, variational = numbers["ae_10"], numbers["vae_10"]
    assert plain["nll"] < variational["nll"]
    assert plain["outside"] > 0.9 > 0.1 > variational["outside"]
    assert plain["mmd_of_samples"] > 2 * variational["mmd_of_samples"]
    assert plain["mmd_of_samples"] > 2 * plain["mmd_of_fitted_gaussian"]


def test_where_the_likelihood_is_tractable(numbers_of):
    numbers = numbers_of("mixture")
    assert numbers["identity_error"] < 1e-5
    mle, posterior = numbers["mle"], numbers["map"]
    assert mle["smallest_variance"] < 2e-12 < 0.05 < posterior["smallest_variance"]
    assert mle["train"] > posterior["train"]
    assert max(mle["test"], posterior["test"]) < numbers["entropy"]


def test_em_never_lowers_what_it_maximises(script):
    mixture = script("mixture")
    x = mixture.drawn(100)
    first = mixture.start(x)
    for prior in (False, True):
        parameters, before = first, -math.inf
        for _ in range(15):
            parameters = mixture.em_step(x, parameters, maximum_a_posteriori=prior)
            value = vf.gaussian_mixture_log_prob(x, *parameters).sum()
            if prior:
                variance = torch.distributions.InverseGamma(2.0, 1.0)
                value = value + variance.log_prob(parameters[1].exp()).sum()
            assert value > before - 1e-9
            before = value


def test_where_it_is_not(numbers_of):
    numbers = numbers_of("intractable")
    assert numbers["quadrature_error"] < 1e-3
    assert numbers["naive_until_a_nat"] > 16 * numbers["q_until_a_nat"]
    for row in numbers["naive"].values():
        assert row["predicted"] / 8 < row["samples"] < 8 * row["predicted"]
    trained = numbers["trained"]["10"]
    assert trained["recognition_model"] > trained["prior_samples"] + 1
    assert trained["ess_of_4096"] < numbers["trained"]["2"]["ess_of_4096"] / 4


def test_quadrature_is_importance_sampling_to_its_noise(script):
    nonlinear = script("nonlinear")
    model = nonlinear.make(2)
    x = torch.rand(5, 64)
    with torch.no_grad():
        noise = torch.randn(20_000, 5, 2)
        weights = nonlinear.log_weights(model, x, *model.encode(x), noise)
    exact = nonlinear.log_prob_by_quadrature(model, x, 200)
    torch.testing.assert_close(nonlinear.log_mean(weights), exact, atol=0.02, rtol=0)


def test_the_likelihood_of_pca_is_scikit_learns(script):
    from sklearn.decomposition import PCA

    x, _ = script("chapter").small_digits()
    inside, lengths, noise, within = script("nonlinear").log_prob_of_pca(x, 5)
    left_out = (x.double() - x.double().mean(0)).square().sum(1) - inside.square().sum(1)
    outside = -0.5 * (left_out / noise + 59 * (2 * math.pi * noise).log())
    exact = torch.from_numpy(PCA(5).fit(x.double().numpy()).score_samples(x.double().numpy()))
    torch.testing.assert_close(within + outside, exact)
    assert (lengths.diff() < 0).all()


def test_the_gap_and_its_parts(numbers_of):
    for row in numbers_of("gap")["rows"]:
        for part in (row["train"], row["test"]):
            gap = part["approximation"] + part["amortization"]
            assert part["log_prob"] - part["elbo"] == pytest.approx(gap, abs=1e-3)
            assert part["approximation"] > 0
            assert part["amortization"] > 0


def test_the_variance_of_gradients(numbers_of):
    numbers = numbers_of("gradients")
    four = numbers["parabola"]["4"]
    assert (four["path"], four["score"]) == (4, 495)
    assert four["path_measured"] == pytest.approx(4, rel=0.05)
    assert four["score_measured"] == pytest.approx(495, rel=0.15)
    for variance in (numbers["first_variance"], numbers["last_variance"]):
        assert variance["reinforce"] > 20 * variance["reinforce_loo"]
        assert variance["reinforce_loo"] > 2 * max(variance[x] for x in ("elbo", "stl", "dreg"))
    test = numbers["last_test"]
    assert test["elbo"] > test["reinforce"] + 1


def test_a_linear_vae_is_pca(numbers_of):
    (row,) = numbers_of("linear").values()
    assert -0.01 < row["gap"] < 0.05
    assert row["variance"] == pytest.approx(row["variance_of_pca"], rel=0.01)


def test_published_rows_can_be_trained(numbers_of):
    rows = numbers_of("published", epochs="vae=1,vamp=1,iwae=1,piwae=1")["rows"]
    assert list(rows) == ["vae", "vamp", "iwae", "piwae"]
    for row in rows.values():
        assert row["nll"] < 64 * math.log(2) + 1  # of pixels that say nothing


def test_a_row_that_is_none(numbers_of):
    with pytest.raises(ValueError, match="names gan; expected some of vae, vamp, iwae, piwae"):
        numbers_of("published", epochs="gan=1")


def test_the_vamp_priors_weights(script):
    """Those of the other rows where the prior is N(0, I): one posterior, at the origin."""
    published = script("published")
    model = published.VampVAE(16, 3, 1)
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()
    x = torch.bernoulli(torch.full((4, 16), 0.5))
    torch.manual_seed(1)
    weights = published.log_weights(model, x, 5)
    model.__class__ = vf.VAE
    torch.manual_seed(1)
    torch.testing.assert_close(weights, published.log_weights(model, x, 5))


def test_the_command_line_keeps_figures_and_numbers(script, monkeypatch, tmp_path):
    mixture, chapter = script("mixture"), script("chapter")
    monkeypatch.setattr("sys.argv", ["mixture.py", "--small", "--out", str(tmp_path)])
    (tmp_path / "theory.json").write_text('{"another": {"kept": 1}}')
    chapter.main("mixture", mixture.run)
    assert (tmp_path / "mixture.png").stat().st_size < 100_000
    text = (tmp_path / "theory.json").read_text()
    assert '"kept": 1' in text
    assert '"identity_error"' in text
