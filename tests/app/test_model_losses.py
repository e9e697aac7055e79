"""The loss of every model, and its gradient, beside its paper's formula in float64."""

import math

import pytest
import torch
from small_models import COUNT, INPUTS, LATENT, data, made, seeded
from torch import nn
from torch.nn import functional

import vae_fast as vf
from vae_fast.latent import posteriors
from vae_fast.models import (
    CIWAE,
    DIPVAE,
    FSQVAE,
    IWAE,
    PIWAE,
    VAE,
    VQVAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    DenoisingAutoEncoder,
    FactorVAE,
    InfoVAE,
    LearnedPriorVAE,
    LinearVAE,
    MixtureVAE,
    PosteriorVAE,
    SphericalVAE,
    VampVAE,
    WassersteinAutoEncoder,
)
from vae_fast.training import Trainer, TrainerConfig


def bernoulli(logits, x):
    """-log p(x | z) per datum, averaged over the batch."""
    each = functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return each.flatten(1).sum(1).mean()


def parts_of(model, x, generator):
    """Mu, logvar, z, nll and KL, each as its definition has it."""
    mu, logvar = model.encode(x)
    z = vf.reparameterize(mu, logvar, generator=generator)
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    return mu, logvar, z, bernoulli(model.decode(z), x), kl


def require_same(model, terms, loss, nll, kl):
    """Of the terms, and of the loss the gradient, too."""
    torch.testing.assert_close(tuple(terms), (loss, nll, kl), rtol=1e-9, atol=1e-9)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found, wanted = (
        torch.autograd.grad(each, parameters, allow_unused=True, materialize_grads=True)
        for each in (terms.loss, loss)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)
    assert any(bool(g.abs().max() > 0) for g in found)


def test_beta_vae():
    model, x = made(BetaVAE, beta=3.0), data()
    *_, nll, kl = parts_of(model, x, seeded())
    require_same(model, model.loss(x, beta=0.5, generator=seeded()), nll + 1.5 * kl, nll, kl)


def test_annealed_vae():
    model, x = made(AnnealedVAE, capacity=6.0, gamma=10.0, rise=4), data()
    for capacity in (0.0, 1.5, 3.0, 4.5, 6.0, 6.0):
        *_, nll, kl = parts_of(model, x, seeded())
        terms = model.loss(x, generator=seeded())
        require_same(model, terms, nll + 10 * (kl - capacity).abs(), nll, kl)
    model = made(AnnealedVAE, capacity=6.0, gamma=10.0, rise=4).eval()
    *_, nll, kl = parts_of(model, x, seeded())
    terms = model.loss(x, generator=seeded())
    require_same(model, terms, nll + 10 * (kl - 6).abs(), nll, kl)
    assert model.steps == 0


@pytest.mark.parametrize("size", [None, 50])
def test_beta_tc_vae(size):
    """With q(z) of Chen et al. 2018, equation S6, written out."""
    model, x = (
        made(BetaTCVAE, alpha=0.7, beta=5.0, gamma=1.3, dataset_size=size, stratified=False),
        data(),
    )
    mu, logvar, z, nll, kl = parts_of(model, x, seeded())
    each = torch.distributions.Normal(mu, (0.5 * logvar).exp()).log_prob(z.unsqueeze(1))
    total = math.log((size or COUNT) * COUNT) if size else math.log(COUNT)
    log_q = each.sum(2).logsumexp(1) - total
    log_marginals = (each.logsumexp(1) - total).sum(1)
    log_conditional = each.sum(2).diagonal()
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    loss = (
        nll
        + 0.7 * (log_conditional - log_q).mean()
        + 5.0 * (log_q - log_marginals).mean()
        + 1.3 * (log_marginals - log_p).mean()
    )
    require_same(model, model.loss(x, generator=seeded()), loss, nll, kl)


@pytest.mark.parametrize("variant", ["i", "ii"])
def test_dip_vae(variant):
    model, x = made(DIPVAE, variant=variant, offdiagonal=3.0, diagonal=2.0), data()
    mu, logvar, _, nll, kl = parts_of(model, x, seeded())
    covariance = torch.cov(mu.t(), correction=0)
    if variant == "ii":
        covariance = covariance + torch.diag(logvar.exp().mean(0))
    off = ~torch.eye(LATENT, dtype=torch.bool)
    penalty = 3 * covariance[off].square().sum()
    penalty = penalty + 2 * (covariance.diagonal() - 1).square().sum()
    require_same(model, model.loss(x, generator=seeded()), nll + kl + penalty, nll, kl)


def kernel_mmd(x, y, kernel):
    """Unbiased, with the bandwidths of `vf.mmd`."""

    def of(a, b):
        square = (a.unsqueeze(1) - b).square().sum(2)
        if kernel == "rbf":
            return torch.exp(-square / (2 * LATENT))
        widths = [2 * LATENT * h * h for h in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
        return sum(width / (width + square) for width in widths)

    others = ~torch.eye(len(x), dtype=torch.bool)
    return of(x, x)[others].mean() + of(y, y)[others].mean() - 2 * of(x, y).mean()


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_info_vae(kernel):
    model, x = made(InfoVAE, alpha=0.6, weight=9.0, kernel=kernel), data()
    generator = seeded()
    _, _, z, nll, kl = parts_of(model, x, generator)
    drawn = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    loss = nll + 0.4 * kl + 8.6 * kernel_mmd(z, drawn, kernel)
    require_same(model, model.loss(x, generator=seeded()), loss, nll, kl)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_wae_mmd(kernel):
    model, x = made(WassersteinAutoEncoder, weight=9.0, kernel=kernel), data()
    z = model.encode(x)
    drawn = torch.randn(z.shape, generator=seeded(), dtype=z.dtype)
    nll = bernoulli(model.decode(z), x)
    loss = nll + 9 * kernel_mmd(z, drawn, kernel)
    require_same(model, model.loss(x, generator=seeded()), loss, nll, torch.zeros_like(nll))


def test_factor_vae():
    """The encoder's gradient is that of the objective, the discriminator's of its cross-entropy."""
    model, x = made(FactorVAE, gamma=5.0, discriminator_hidden=(6,)), data()
    generator = seeded()
    _, _, z, nll, kl = parts_of(model, x, generator)
    objective = nll + kl + 5 * model.discriminator(z).mean()
    order = torch.rand(z.shape, generator=generator, dtype=z.dtype).argsort(0)
    permuted = z.detach().gather(0, order)
    assert permuted.sort(0).values.equal(z.detach().sort(0).values)
    of_data, of_permuted = (model.discriminator(z).sigmoid() for z in (z.detach(), permuted))
    own = -0.5 * (of_data.log().mean() + (1 - of_permuted).log().mean())
    terms = model.loss(x, generator=seeded())
    torch.testing.assert_close(tuple(terms), (objective, nll, kl))
    of_d = list(model.discriminator.parameters())
    others = [*model.encoder.parameters(), *model.decoder.parameters()]
    for parameters, wanted in ((of_d, own), (others, objective)):
        found = torch.autograd.grad(terms.loss, parameters, retain_graph=True)
        expected = torch.autograd.grad(wanted, parameters, retain_graph=True)
        torch.testing.assert_close(found, expected)
    terms = model.eval().loss(x, generator=seeded())
    torch.testing.assert_close(terms.loss, objective)


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_denoising(corruption):
    model, x = made(DenoisingAutoEncoder, corruption=corruption, level=0.4), data()
    if corruption == "gaussian":
        corrupted = x + 0.4 * torch.randn(x.shape, generator=seeded(), dtype=x.dtype)
    else:
        corrupted = x * (torch.rand(x.shape, generator=seeded(), dtype=x.dtype) >= 0.4)
    nll = bernoulli(model.decode(model.encode(corrupted)), x)
    require_same(model, model.loss(x, generator=seeded()), nll, nll, torch.zeros_like(nll))
    model.eval()
    torch.testing.assert_close(model.loss(x).loss, bernoulli(model.decode(model.encode(x)), x))


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_vq_vae(update):
    """Van den Oord et al. 2017, equation 3, summed over a vector and averaged over them."""
    model, x = made(VQVAE, num_codes=5, code_dim=2, update=update, commitment_weight=0.3), data()
    model.loss(x)  # the first codebook
    codebook = model.quantizer.codebook
    before = codebook.detach().clone()
    vectors = model.encode(x).unflatten(1, (2, 2))
    nearest = torch.cdist(vectors, before.expand(COUNT, 5, 2)).argmin(2)
    code = codebook[nearest] if update == "gradient" else before[nearest]
    z = vectors + (code - vectors).detach()
    nll = bernoulli(model.decode(z.flatten(1)), x)
    loss = nll + 0.3 * (vectors - code.detach()).square().sum(2).mean()
    if update == "gradient":
        loss = loss + (vectors.detach() - code).square().sum(2).mean()
    zero = torch.zeros_like(nll)
    model.quantizer.restart_below = 0.0
    require_same(model, model.loss(x), loss, nll, zero)
    assert torch.equal(codebook, before) == (update == "gradient")


def test_quantized_samples_follow_the_frequencies():
    model = made(VQVAE, num_codes=4, code_dim=2)
    model.quantizer.counts.copy_(torch.tensor([1.0, 0.0, 2.0, 5.0]))
    model.quantizer.codebook.copy_(torch.arange(8.0).view(4, 2))
    z = model.draw_codes(4000, seeded()).view(-1, 2)
    shares = torch.bincount((z[:, 0] / 2).long(), minlength=4) / len(z)
    expected = torch.tensor([0.125, 0.0, 0.25, 0.625])
    error = (expected * (1 - expected) / len(z)).sqrt()
    assert bool(((shares - expected).abs() <= 3 * error).all())
    uniform = made(FSQVAE, levels=(3, 2)).draw_codes(4000, seeded())
    shares = torch.unique(uniform.view(-1, 2), dim=0, return_counts=True)[1] / (2 * len(uniform))
    torch.testing.assert_close(shares, torch.full((6,), 1 / 6), rtol=0, atol=3 * 0.00417)


def test_fsq_vae():
    model, x = made(FSQVAE, levels=(5, 3)), data()
    found = model.quantizer(model.encode(x).unflatten(1, (2, 2)))
    nll = bernoulli(model.decode(found.quantized.flatten(1)), x)
    require_same(model, model.loss(x), nll, nll, torch.zeros_like(nll))
    assert model.indices(x).equal(found.indices)


def test_codes_along_the_first_dimension_of_a_shape():
    encoder, decoder = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)
    model = VQVAE((1, 6, 6), (3, 6, 6), code_dim=3, encoder=encoder, decoder=decoder)
    x = torch.rand(2, 1, 6, 6)
    assert model.indices(x).shape == (2, 6, 6)
    assert model.sample(4).shape == (4, 1, 6, 6)
    assert model.config is None


@pytest.mark.parametrize(
    ("kind", "settings", "asked"),
    [
        (IWAE, {"num_samples": 6}, {"estimator": "iwae", "num_samples": 6}),
        (PIWAE, {"num_samples": 6}, {"estimator": "piwae", "num_samples": 6, "groups": 2}),
        (CIWAE, {"alpha": 0.3}, {"estimator": "ciwae", "num_samples": 5, "alpha": 0.3}),
    ],
)
def test_presets_of_an_estimator(kind, settings, asked):
    model, x = made(kind, **settings), data()
    plain = VAE(INPUTS, LATENT, hidden=(8,)).double()
    plain.load_state_dict(model.state_dict())
    wanted = plain.loss(x, generator=seeded(), **asked)
    torch.testing.assert_close(model.loss(x, generator=seeded()), wanted)
    one = model.loss(x, generator=seeded(), estimator="stl")
    torch.testing.assert_close(one, plain.loss(x, generator=seeded(), estimator="stl"))
    with pytest.raises(ValueError, match="beta is not 1"):
        Trainer(model, TrainerConfig(kl_warmup=1.0, device="cpu"))


@pytest.mark.parametrize("kind", [BetaVAE, AnnealedVAE, BetaTCVAE, FactorVAE, DIPVAE, InfoVAE])
def test_a_loss_of_its_own_takes_no_estimator(kind):
    model = made(kind)
    with pytest.raises(ValueError, match=f"{kind.__name__}.*one of its own"):
        model.loss(data(), estimator="iwae", num_samples=3)
    with pytest.raises(ValueError, match=f"{kind.__name__} is one of its own"):
        Trainer(model, TrainerConfig(num_samples=3, device="cpu"))


def log_normal(z, mu, logvar):
    return -0.5 * ((z - mu).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(-1)


def prior_of(model, z):
    """Log p(z) by its definition."""
    if isinstance(model, VampVAE):
        mu, logvar = VAE.encode(model, model.prior.pseudo_inputs.clamp(0, 1))
        each = log_normal(z.unsqueeze(1), mu, logvar)
        return each.logsumexp(1) - math.log(len(mu))
    if isinstance(model, MixtureVAE):
        each = log_normal(z.unsqueeze(1), model.prior.loc, model.prior.logvar)
        return (each + model.prior.logits.log_softmax(0)).logsumexp(1)
    raise AssertionError(model)


@pytest.mark.parametrize(
    ("kind", "settings"), [(VampVAE, {"num_pseudo_inputs": 5}), (MixtureVAE, {"num_components": 3})]
)
def test_mixtures_as_priors(kind, settings):
    """The KL is log q(z | x) - log p(z) at the sample (Tomczak and Welling 2018, equation 5)."""
    model, x = made(kind, **settings), data()
    q = model.encode(x)
    torch.manual_seed(11)
    z = q.rsample()
    nll = bernoulli(model.decode(z), x)
    kl = (log_normal(z, q.loc, q.logvar) - prior_of(model, z)).mean()
    torch.manual_seed(11)
    require_same(model, model.loss(x, beta=0.5), nll + 0.5 * kl, nll, kl)


def test_a_learned_prior():
    model, x = made(LearnedPriorVAE), data()
    with torch.no_grad():
        model.prior.loc.normal_()
        model.prior.logvar.normal_()
    q, p = model.encode(x), model.prior
    ratio = q.logvar - p.logvar
    kl = 0.5 * ((q.loc - p.loc).square() / p.logvar.exp() + ratio.exp() - 1 - ratio).sum(1).mean()
    torch.manual_seed(11)
    nll = bernoulli(model.decode(q.rsample()), x)
    torch.manual_seed(11)
    require_same(model, model.loss(x), nll + kl, nll, kl)


@pytest.mark.parametrize("posterior", ["power_spherical", "von_mises_fisher"])
def test_spherical_vae(posterior):
    model, x = made(SphericalVAE, posterior=posterior), data()
    q = model.encode(x)
    uniform = posteriors.HypersphericalUniform(LATENT, torch.float64)
    kl = torch.distributions.kl_divergence(q, uniform).mean()
    torch.manual_seed(11)
    z = q.rsample()
    torch.testing.assert_close(z.norm(dim=1), torch.ones(COUNT, dtype=torch.float64))
    nll = bernoulli(model.decode(z), x)
    torch.manual_seed(11)
    require_same(model, model.loss(x), nll + kl, nll, kl)


@pytest.mark.parametrize("posterior", posteriors.POSTERIORS)
def test_every_posterior_by_name(posterior):
    model, x = made(PosteriorVAE, posterior=posterior), data()
    q = model.encode(x)
    if not q.has_rsample:
        with pytest.raises(NotImplementedError):
            model.loss(x)
        return
    loss, nll, kl = model.loss(x)
    torch.testing.assert_close(loss, nll + kl)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert model.sample(3, generator=seeded()).shape == (3, INPUTS)
    assert model.reconstruct(x).shape == x.shape


def test_log_likelihood_of_another_posterior():
    """Importance samples of q, which is not the posterior, against the decoder's own average."""
    model = PosteriorVAE(3, 1, hidden=(), posterior="diagonal_normal").double()
    x = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    points = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    log_p = -functional.binary_cross_entropy_with_logits(
        model.decode(points.unsqueeze(1)), x.expand(4001, 3), reduction="none"
    ).sum(1)
    density = (log_p - 0.5 * points.square()).exp() / math.sqrt(2 * math.pi)
    exact = torch.trapezoid(density, points).log()
    torch.manual_seed(0)
    with torch.no_grad():
        bound = model.log_likelihood(x, 20_000, chunk=20_000)
    torch.testing.assert_close(bound.item(), exact.item(), rtol=0, atol=5e-3)


def test_linear_vae_reaches_the_evidence():
    """At the optimum of pPCA in closed form the ELBO is log p(x) (Lucas et al. 2019, section 4)."""
    torch.manual_seed(0)
    x = torch.randn(400, LATENT, dtype=torch.float64) @ torch.randn(LATENT, INPUTS).double()
    x = x + 0.3 * torch.randn_like(x) + 1.0
    values, vectors = torch.linalg.eigh(torch.cov(x.t(), correction=0))
    values, vectors = values.flip(0), vectors.flip(1)
    variance = values[LATENT:].mean()
    weight = vectors[:, :LATENT] * (values[:LATENT] - variance).sqrt()
    model = made(LinearVAE, decoder_logvar=variance.log().item())
    within = weight.t() @ weight + variance * torch.eye(LATENT, dtype=torch.float64)
    with torch.no_grad():
        model.decoder[0].weight.copy_(weight)
        model.decoder[0].bias.copy_(x.mean(0))
        model.encoder.mu.weight.copy_(torch.linalg.solve(within, weight.t()))
        model.encoder.mu.bias.copy_(-model.encoder.mu.weight @ x.mean(0))
        model.encoder.logvar.copy_((variance / within.diagonal()).log())
        evidence = model.log_evidence(x).mean()
        gaussian = torch.distributions.MultivariateNormal(
            x.mean(0), weight @ weight.t() + variance * torch.eye(INPUTS, dtype=torch.float64)
        )
        torch.testing.assert_close(evidence, gaussian.log_prob(x).mean())
        bound = torch.stack([-model.loss(x, num_samples=50).loss for _ in range(40)])
    error = bound.std() / math.sqrt(len(bound))
    assert abs(bound.mean() - evidence) < 3 * error
    with pytest.raises(ValueError, match="hidden"):
        LinearVAE(INPUTS, LATENT, hidden=(8,))
    for settings in ({"likelihood": "bernoulli"}, {"decoder_logvar": "pixel"}):
        with pytest.raises(ValueError, match=r"likelihood is .*with one variance"):
            LinearVAE(INPUTS, LATENT, **settings)
