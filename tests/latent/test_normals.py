"""Normal posteriors beside torch's MultivariateNormal in float64, and at their extremes."""

import pytest
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.testing import assert_close

import vae_fast as vf
from tests.expectations import are_unbiased
from tests.test_distributions import is_mean
from vae_fast.latent import priors, rsample_kl
from vae_fast.latent.posteriors import DiagonalNormal, FullNormal, LowRankNormal

pytestmark = pytest.mark.of_samples

BATCH, SIZE, RANK = 3, 5, 2


def _parameters(kind, dtype=torch.float64):
    last = {DiagonalNormal: (), FullNormal: ((SIZE, SIZE),), LowRankNormal: ((SIZE, RANK),)}[kind]
    shapes = ((SIZE,), (SIZE,), *last)
    return [torch.randn(BATCH, *shape, dtype=dtype) for shape in shapes]


def _torchs(q):
    """The same of torch, in float64."""
    loc, logvar = q.loc.double(), q.logvar.double()
    if isinstance(q, DiagonalNormal):
        return td.MultivariateNormal(loc, torch.diag_embed(logvar.exp()))
    if isinstance(q, FullNormal):
        factor = torch.tril(q.tril.double(), -1) + torch.diag_embed((0.5 * logvar).exp())
        return td.MultivariateNormal(loc, scale_tril=factor)
    return td.LowRankMultivariateNormal(loc, q.factor.double(), logvar.exp())


each_kind = pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal, LowRankNormal])
with_covariance = pytest.mark.parametrize("kind", [FullNormal, LowRankNormal])


@each_kind
def test_it_is_torchs(kind):
    parameters = [x.requires_grad_() for x in _parameters(kind)]
    q = kind(*parameters)
    theirs = _torchs(q)
    assert (q.batch_shape, q.event_shape) == (theirs.batch_shape, theirs.event_shape)
    z = torch.randn(4, BATCH, SIZE, dtype=torch.float64)
    prior = DiagonalNormal(*(torch.randn(SIZE, dtype=torch.float64) for _ in range(2)))
    for ours, expected in (
        (q.log_prob(z), theirs.log_prob(z)),
        (q.entropy(), theirs.entropy()),
        (q.mean, theirs.mean),
        (q.variance, theirs.variance),
        (kl_divergence(q, prior), kl_divergence(theirs, _torchs(prior))),
    ):
        assert_close(ours, expected)
        if ours.requires_grad:
            slopes = [
                torch.autograd.grad(
                    x.square().sum(), parameters, allow_unused=True, retain_graph=True
                )
                for x in (ours, expected)
            ]
            for own, slope, x in zip(*slopes, parameters, strict=True):
                none = torch.zeros_like(x)
                assert_close(none if own is None else own, none if slope is None else slope)
    if kind is not DiagonalNormal:
        assert_close(q.covariance_matrix, theirs.covariance_matrix)


@each_kind
def test_float32_by_the_rule_of_twice(kind):
    """The error against float64 is at most twice that of torch's own class in float32."""
    worst = torch.zeros(2, 2, dtype=torch.float64)
    for _ in range(20):
        q = kind(*_parameters(kind, torch.float32))
        exact, prior = _torchs(q), DiagonalNormal(torch.randn(SIZE), torch.randn(SIZE))
        own = {"loc": q.loc, "validate_args": False}
        if kind is DiagonalNormal:
            theirs = td.Independent(td.Normal(q.loc, (0.5 * q.logvar).exp()), 1)
        elif kind is FullNormal:
            factor = torch.tril(q.tril, -1) + torch.diag_embed((0.5 * q.logvar).exp())
            theirs = td.MultivariateNormal(scale_tril=factor, **own)
        else:
            theirs = td.LowRankMultivariateNormal(
                cov_factor=q.factor, cov_diag=q.logvar.exp(), **own
            )
        z = q.sample()
        for k, (ours, plain, right) in enumerate(
            (
                (q.log_prob(z), theirs.log_prob(z), exact.log_prob(z.double())),
                (q.entropy(), theirs.entropy(), exact.entropy()),
            )
        ):
            ulp = torch.finfo(torch.float32).eps * right.abs()
            errors = [((x - right).abs() - ulp).max() for x in (ours, plain + 0)]
            worst[k] = torch.maximum(worst[k], torch.stack(errors))
        kl, right = kl_divergence(q, prior), kl_divergence(exact, _torchs(prior))
        assert_close(kl.double(), right, rtol=5e-7, atol=0)
    assert (worst[:, 0] <= 2 * worst[:, 1].clamp(min=0)).all(), worst


@each_kind
def test_samples(kind):
    q = kind(*_parameters(kind))
    z = q.sample((40_000,))
    is_mean(z, q.mean)
    away = z - q.mean
    expected = _torchs(q).covariance_matrix.flatten(-2)
    is_mean((away.unsqueeze(-1) * away.unsqueeze(-2)).flatten(-2), expected)


@each_kind
def test_gradients_of_samples_are_unbiased(kind):
    """Of E[sum (z^2 + z_0 z_1)], to 3 standard errors on 10^6 samples."""
    parameters = [x[0].requires_grad_() for x in _parameters(kind)]
    q = kind(*parameters)
    covariance = _torchs(q).covariance_matrix + q.mean.outer(q.mean)
    exact = torch.autograd.grad(covariance.trace() + covariance[0, 1], parameters)

    def value(*parameters):
        z = kind(*parameters).rsample()
        return (z * z).sum(-1) + z[:, 0] * z[:, 1]

    are_unbiased(value, parameters, exact)


@each_kind
def test_divergences_do_not_cancel(kind):
    """Next to the prior itself, where the usual forms give 0 or less."""
    zeros = torch.zeros(SIZE)
    parameters = [1e-4 * torch.randn_like(x) for x in _parameters(kind, torch.float32)]
    q, prior = kind(*parameters), DiagonalNormal(zeros, zeros)
    exact = kl_divergence(kind(*(x.double() for x in parameters)), prior)
    assert (exact > 0).all()
    assert_close(kl_divergence(q, prior).double(), exact, rtol=1e-6, atol=0)
    if kind is FullNormal:
        _, logvar, tril = (x.double() for x in parameters)
        by_hand = 0.5 * (torch.expm1(logvar) - logvar).sum(-1) + 0.5 * parameters[
            0
        ].double().square().sum(-1)
        by_hand = by_hand + 0.5 * torch.tril(tril, -1).square().sum((-2, -1))
        assert_close(exact, by_hand, rtol=1e-6, atol=0)


@pytest.mark.parametrize("logvar", [-80.0, -30.0, 30.0, 80.0])
def test_a_factor_far_above_the_diagonal(logvar):
    """Where G^T G has lost the smaller of its columns, in float64, too."""
    factor = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1e-3]])
    zeros = torch.zeros(3)
    q = LowRankNormal(zeros, zeros + logvar, factor.requires_grad_())
    scaled = (factor.double() * torch.exp(torch.tensor(-0.5 * logvar, dtype=torch.float64))).T
    # det(1 + G^T G) of two columns, by what does not cancel: their cross product.
    a, b = scaled
    cross = torch.linalg.cross(a, b)
    determinant = 1 + a @ a + b @ b + cross @ cross
    expected = 3 * logvar + torch.log(determinant)
    assert_close(q._log_determinant().double(), expected, rtol=1e-6, atol=1e-6)
    kl = kl_divergence(q, DiagonalNormal(zeros, zeros))
    log_prob = q.log_prob(q.sample())
    assert kl > 0
    slopes = torch.autograd.grad(kl + log_prob, factor)
    assert all(x.isfinite().all() for x in (kl, log_prob, *slopes))


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_and_extremes(kind, dtype):
    # More would have slopes beyond half precision: those of a triangular system.
    scale = 8 if dtype == torch.float32 else 1
    parameters = [(scale * x).to(dtype).requires_grad_() for x in _parameters(kind)]
    q = kind(*parameters)
    z, kl = rsample_kl(q, priors.StandardNormal(SIZE).to(dtype))
    assert z.dtype == q.mean.dtype == dtype
    assert kl.dtype == q.log_prob(z).dtype == q.entropy().dtype == torch.float32
    slopes = torch.autograd.grad(
        kl.sum() + z.float().sum() + q.log_prob(z.detach()).sum(), parameters
    )
    assert all(x.isfinite().all() for x in (z.float(), kl, *slopes))


def test_a_diagonal_one_is_the_packages_functions():
    loc, logvar = torch.randn(4, 6), torch.randn(4, 6)
    q = DiagonalNormal(loc, logvar)
    torch.manual_seed(1)
    z, kl = rsample_kl(q, priors.StandardNormal(6))
    torch.manual_seed(1)
    expected = vf.reparameterize_kl(loc, logvar, reduction="sample")
    assert_close((z, kl), expected)
    torch.manual_seed(1)
    assert_close(q.rsample(), expected[0])
    normal = td.Independent(td.Normal(torch.zeros(6), torch.full((6,), 2.0)), 1)
    assert_close(
        kl_divergence(q, normal),
        kl_divergence(
            _torchs(q), _torchs(DiagonalNormal(torch.zeros(6), torch.full((6,), 4.0).log()))
        ).float(),
    )
    for kind in (FullNormal, LowRankNormal):
        p = kind(*_parameters(kind))
        standard = td.Independent(td.Normal(torch.zeros(SIZE), torch.ones(SIZE)), 1)
        _, kl = rsample_kl(p, standard)
        assert_close(kl, kl_divergence(p, priors.StandardNormal(SIZE).distribution()).double())
    with pytest.raises(NotImplementedError):
        kl_divergence(q, td.Independent(td.Laplace(torch.zeros(6), 1.0), 1))


@each_kind
def test_expand_copies_nothing(kind):
    parameters = _parameters(kind)
    wide = kind(*parameters).expand((2, BATCH))
    assert wide.sample((4,)).shape == (4, 2, BATCH, SIZE)
    assert wide.loc.data_ptr() == parameters[0].data_ptr()
    assert wide.entropy().shape == wide.log_prob(wide.sample()).shape == (2, BATCH)


@each_kind
def test_mistakes(kind):
    parameters = _parameters(kind)
    with pytest.raises(ValueError, match=f"{kind.__name__}: logvar has shape"):
        kind(parameters[0], parameters[1][:, :2], *parameters[2:])
    with pytest.raises(TypeError, match=f"{kind.__name__}: loc is of type str"):
        kind("none", *parameters[1:])
    with pytest.raises(ValueError, match="Expected parameter logvar "):
        kind(parameters[0], parameters[1] * torch.nan, *parameters[2:], validate_args=True)
    if kind is LowRankNormal:
        with pytest.raises(ValueError, match=r"factor has shape .*, expected 5 in dimension -2"):
            kind(*parameters[:2], parameters[2].mT)


@pytest.mark.usefixtures("fresh_compiler")
@each_kind
def test_one_graph(kind):
    prior = DiagonalNormal(torch.zeros(SIZE), torch.zeros(SIZE))
    parameters = [x.requires_grad_() for x in _parameters(kind, torch.float32)]
    kl_divergence(kind(*parameters), prior)  # torch looks a pair up once by untraceable means

    def everything(*parameters):
        q = kind(*parameters)
        z = q.rsample()
        return z, q.log_prob(z), kl_divergence(q, prior), q.entropy()

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    z, *others = compiled(*parameters)
    q = kind(*parameters)
    expected = q.log_prob(z.detach()), kl_divergence(q, prior), q.entropy()
    for got, own in zip(others, expected, strict=True):
        assert_close(got, own, rtol=1e-5, atol=1e-5)
    (z.sum() + sum(x.sum() for x in others)).backward()


@each_kind
def test_vmap(kind):
    parameters, z = _parameters(kind), torch.randn(BATCH, SIZE, dtype=torch.float64)
    prior = DiagonalNormal(*(torch.zeros(SIZE, dtype=torch.float64) for _ in range(2)))

    def of_one(z, *parameters):
        q = kind(*parameters, validate_args=False)
        return q.log_prob(z), kl_divergence(q, prior)

    q = kind(*parameters)
    got = torch.func.vmap(of_one)(z, *parameters)
    assert_close(got, (q.log_prob(z), kl_divergence(q, prior)))
    (slope,) = torch.autograd.grad(q.log_prob(z.requires_grad_()).sum(), z)
    of_each = torch.func.vmap(torch.func.grad(lambda z, *x: of_one(z, *x)[0]))
    assert_close(of_each(z, *parameters), slope)
