"""Pictures that the build makes: which likelihood for which data, and the demo's."""

import html
import shutil
from pathlib import Path

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from vae_fast import distributions as d

DOCS = Path(__file__).parents[1]
DEMO = DOCS.parent / "runs" / "demo"
MADE = DOCS / "_made"

LINE = torch.linspace(-6, 6, 121)
POSITIVE = torch.linspace(0.02, 6, 121)
UNIT = torch.linspace(0.005, 0.995, 121)
LEVELS = torch.arange(16) / 15
COUNTS = torch.arange(13)
# What one has, the function, and its distribution over values of theirs.
DATA = {
    "Real numbers": [
        ("measurements, features", "gaussian_nll", d.Normal(0.0), LINE),
        ("sharp edges, the absolute error", "laplace_nll", d.Laplace(0.0), LINE),
        ("some of them far off", "student_t_nll", d.StudentT(0.0, 0.0, 1.5), LINE),
        (
            "several answers at once",
            "mixture_nll",
            d.MixtureSameFamily(
                torch.distributions.Categorical(torch.tensor([0.6, 0.4])),
                d.Normal(torch.tensor([-2.5, 2.0]), torch.tensor([0.0, -0.5])),
            ),
            LINE,
        ),
        ("angles, in radians", "von_mises_nll", d.VonMises(0.0, 0.7), LINE / 6 * torch.pi),
    ],
    "Positive numbers": [
        ("by orders of magnitude", "log_normal_nll", d.LogNormal(0.3, -0.7), POSITIVE),
        ("durations, amounts", "gamma_nll", d.Gamma(2.5, 1.3), POSITIVE),
    ],
    "From 0 to 1": [
        ("pixels, black or white (grey too)", "bernoulli_nll", d.Bernoulli(0.8), torch.arange(2.0)),
        ("intensities, as a density", "continuous_bernoulli_nll", d.ContinuousBernoulli(2.0), UNIT),
        ("pixels, by their 256 levels", "discretized_logistic_nll",
         d.DiscretizedLogistic(0.55, -2.3, 16), LEVELS),
        ("pixels in colour", "discretized_logistic_mixture_nll",
         d.MixtureSameFamily(torch.distributions.Categorical(torch.tensor([0.5, 0.5])),
                             d.DiscretizedLogistic(torch.tensor([0.25, 0.75]), -2.8, 16)), LEVELS),
        ("shares, rates", "beta_nll", d.Beta(2.0, 4.0), UNIT),
    ],
    "Counts": [
        ("rare events", "poisson_nll", d.Poisson(1.2), COUNTS),
        ("of larger variance", "negative_binomial_nll", d.NegativeBinomial(4.0, 1.5), COUNTS),
        ("zero more often", "zero_inflated_negative_binomial_nll",
         d.ZeroInflatedNegativeBinomial(5.0, 4.0, -0.5), COUNTS),
        ("of n trials", "binomial_nll", d.Binomial(0.4, 12), COUNTS),
        ("the same, overdispersed", "beta_binomial_nll", d.BetaBinomial(0.8, 1.2, 12), COUNTS),
    ],
    "Classes": [
        ("one of several", "categorical_nll",
         d.Categorical(torch.tensor([0.2, 0.5, 0.1, 0.2])), torch.arange(4)),
        ("in an order: grades, answers", "ordinal_nll",
         d.Ordinal(0.3, torch.tensor([-1.5, -0.2, 0.9, 2.0])), torch.arange(5)),
        ("how often each: words, clicks", "multinomial_nll",
         d.Categorical(torch.tensor([0.4, 0.1, 0.25, 0.05, 0.2])), torch.arange(5)),
    ],
}  # fmt: skip
WIDTH, ROW, PLOT = 400, 58, 96


def _sketch(distribution: torch.distributions.Distribution, values: torch.Tensor) -> str:
    """The density as a filled curve, or the probabilities as bars, in PLOT x (ROW - 14)."""
    height = ROW - 14
    p = distribution.log_prob(values).exp()
    tops = ((1 - p / p.max()) * (height - 2) + 2).tolist()
    if len(values) > 20:
        step = PLOT / (len(values) - 1)
        points = " ".join(f"{i * step:.1f},{top:.1f}" for i, top in enumerate(tops))
        return f'<polygon points="0,{height} {points} {PLOT},{height}"/>'
    step = PLOT / len(values)
    return "".join(
        f'<rect x="{(i + 0.15) * step:.1f}" y="{top:.1f}" width="{0.7 * step:.1f}"'
        f' height="{height - top:.1f}"/>'
        for i, top in enumerate(tops)
    )


def _panel(title: str, rows: list) -> str:
    """A picture for a kind of data, each row a link to the function's page."""
    parts = [f'<text class="kind" x="0" y="18">{html.escape(title)}</text>']
    for i, (what, function, distribution, values) in enumerate(rows):
        parts.append(
            f'<a href="api/vae_fast.{function}.html"><g transform="translate(0 {30 + i * ROW})">'
            f"{_sketch(distribution, values)}"
            f'<text x="{PLOT + 14}" y="18">{html.escape(what)}</text>'
            f'<text class="function" x="{PLOT + 14}" y="38">{function}</text></g></a>'
        )
    height = 30 + len(rows) * ROW
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


class WhichLikelihood(SphinxDirective):
    """`{which-likelihood}`: DATA, drawn."""

    def run(self) -> list[nodes.Node]:
        """Inline SVG, in the page's colours."""
        panels = "".join(_panel(title, rows) for title, rows in DATA.items())
        return [nodes.raw("", f'<div class="which">{panels}</div>', format="html")]


def _copy_the_demo(_app: Sphinx) -> None:
    """What `make demo` has left."""
    pictures = sorted(DEMO.glob("*.png"))
    if not pictures:
        raise ExtensionError(f"{DEMO} has no pictures: `make docs` runs the demo first")
    MADE.mkdir(exist_ok=True)
    for picture in pictures:
        shutil.copy(picture, MADE / picture.name)


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_directive("which-likelihood", WhichLikelihood)
    app.connect("builder-inited", _copy_the_demo)
    return {"parallel_read_safe": True}
