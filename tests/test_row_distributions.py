"""The classes of vae_fast.distributions whose parameters are rows: classes, and mixtures."""

import math
import pickle

import pytest
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.testing import assert_close

import vae_fast as vf
from tests.test_distributions import _validated, is_mean  # noqa: F401
from vae_fast.distributions import (
    Categorical,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Gamma,
    MixtureSameFamily,
    NegativeBinomial,
    Normal,
    Ordinal,
    Poisson,
)
from vae_fast.engine.mixture_distribution import _torchs_log_prob

_MANY = 40_000


def _logits(dtype=torch.float64):
    return torch.tensor([[0.3, -2.0, 1.0, 0.0], [5.0, 0.0, -math.inf, 1.0]], dtype=dtype)


def _ordinal(dtype=torch.float64, **how):
    location = torch.tensor([-1.0, 0.2, 6.0], dtype=dtype)
    return Ordinal(location, torch.tensor([-0.5, 0.5, 1.0], dtype=dtype), **how)


def _pixels(batch=(2,), channels=3, dtype=torch.float64):
    return torch.randn(*batch, 4 * (10 if channels == 3 else 3), 2, 3, dtype=dtype)


def _probabilities(p):
    """Of every value, along the first dimension."""
    return p.log_prob(p.enumerate_support()).exp()


# ---- classes -------------------------------------------------------------------------------------


def test_a_categorical_is_torchs():
    logits = _logits()
    shares = logits.exp() + 0.1
    for ours, theirs in (
        (Categorical(logits=logits), td.Categorical(logits=logits)),
        (Categorical(shares), td.Categorical(shares)),
    ):
        assert isinstance(ours, td.Categorical)
        assert (ours.batch_shape, ours.event_shape, ours.param_shape) == ((2,), (), (2, 4))
        x = ours.sample((50,))
        assert (x.shape, x.dtype) == ((50, 2), torch.int64)
        for value in (x, x.double(), x.to(torch.uint8), x[0], x[:, :1]):
            assert_close(ours.log_prob(value), theirs.log_prob(value))
        for name in ("probs", "mode", "param_shape"):
            assert_close(getattr(ours, name), getattr(theirs, name))
        assert_close(ours.entropy(), theirs.entropy())
        assert torch.equal(ours.enumerate_support(), theirs.enumerate_support())
        assert ours.mean.isnan().all()
        wide = ours.expand((5, 2))
        assert type(wide) is Categorical
        assert wide.sample((3,)).shape == wide.log_prob(wide.sample((3,))).shape == (3, 5, 2)
        assert_close(
            pickle.loads(pickle.dumps(wide)).log_prob(x[:, None]), wide.log_prob(x[:, None])
        )
        assert repr(ours).startswith("Categorical(")
        assert_close(_probabilities(ours).sum(0), torch.ones(2, dtype=torch.float64))
        assert_close(td.Independent(ours, 1).log_prob(x), ours.log_prob(x).sum(1))
        is_mean((x := ours.sample((_MANY,)) == 3).double(), _probabilities(ours)[3])
    one = Categorical(logits=torch.zeros(3))
    assert one.log_prob(one.sample()).shape == one.sample().shape == one.entropy().shape == ()


def test_excluded_classes():
    """-infinity and a gradient, where torch clamps what is 0."""
    probs = torch.tensor([0.0, 1.0, 3.0], requires_grad=True)
    p = Categorical(probs)
    assert_close(p.log_prob(torch.arange(3)).exp(), torch.tensor([0, 0.25, 0.75]))
    assert p.log_prob(torch.tensor(0)) == -math.inf
    (slope,) = torch.autograd.grad(p.log_prob(torch.tensor(2)), probs)
    assert_close(slope, torch.tensor([-0.25, -0.25, 1 / 3 - 0.25]))
    assert_close(p.entropy(), td.Categorical(probs[1:]).entropy())
    others = Categorical(torch.tensor([0.0, 1.0, 4.0]))
    assert_close(kl_divergence(p, others), kl_divergence(td.Categorical(probs), others))
    assert kl_divergence(Categorical(torch.ones(3)), p) == math.inf


def test_divergences_of_classes():
    logits = (3 * torch.randn(2, 6, dtype=torch.float64)).requires_grad_()
    more = logits.detach() + torch.randn(2, 6, dtype=torch.float64)
    expected = kl_divergence(td.Categorical(logits=logits), td.Categorical(logits=more))
    (slope,) = torch.autograd.grad(expected.sum(), logits)
    for p in (Categorical(logits=logits), td.Categorical(logits=logits)):
        for q in (Categorical(logits=more), td.Categorical(logits=more)):
            kl = kl_divergence(p, q)
            assert_close(kl, expected)
            assert_close(torch.autograd.grad(kl.sum(), logits, retain_graph=True)[0], slope)
    near = [Categorical(logits=torch.randn(100, 6)) for _ in range(1)]
    near.append(Categorical(logits=near[0].logits + 2**-12 * torch.randn(100, 6)))
    wide = [td.Categorical(logits=p.logits.double()) for p in near]
    kl = kl_divergence(*near)
    assert (kl >= 0).all()
    assert_close(kl.double(), kl_divergence(*wide), rtol=2e-3, atol=0)

    p, q = _ordinal(), Ordinal(torch.tensor([[0.0], [1.0]]), torch.tensor([-1.0, 0.0, 0.1]))
    of_classes = (Categorical(_probabilities(x).movedim(0, -1)) for x in (p, q.expand((2, 3))))
    assert_close(kl_divergence(p, q).double(), kl_divergence(*of_classes), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Ordinal: p has 4 classes and q has 2"):
        kl_divergence(p, Ordinal(0.0, torch.zeros(1)))


def test_an_ordinal():
    p = _ordinal()
    below = torch.sigmoid(p.cutpoints - p.location.unsqueeze(-1))
    edge = torch.ones(3, 1, dtype=torch.float64)
    shares = torch.cat((below, edge), -1) - torch.cat((0 * edge, below), -1)
    assert_close(_probabilities(p), shares.T)
    same = td.Categorical(shares)
    values = torch.arange(4.0, dtype=torch.float64)
    assert_close(p.mean, shares @ values)
    assert_close(p.variance, shares @ values**2 - (shares @ values) ** 2)
    assert_close(p.entropy(), same.entropy())
    assert torch.equal(p.mode.long(), same.mode)
    x = p.sample((_MANY,))
    assert x.dtype == p.enumerate_support().dtype == torch.int64
    for k, share in enumerate(shares.T):
        is_mean((x == k).double(), share)
    for value in (x[:9], x[:9].float(), x[:9].to(torch.uint8)):
        assert_close(p.log_prob(value), same.log_prob(x[:9]))
    assert_close(
        p.log_prob(x),
        -vf.ordinal_nll(p.location.expand(x.shape), x, p.cutpoints[0], reduction="none"),
    )


def test_shapes_of_an_ordinal():
    location, cutpoints = torch.randn(3, 1), torch.randn(4, 2).sort(-1).values
    p = Ordinal(location.requires_grad_(), cutpoints.requires_grad_())
    assert (p.batch_shape, p.event_shape, p.cutpoints.shape) == ((3, 4), (), (3, 4, 2))
    x = p.sample((2,))
    assert x.shape == p.log_prob(x).shape == (2, 3, 4)
    wide = p.expand((5, 3, 4))
    assert wide.cutpoints.data_ptr() == cutpoints.data_ptr()
    assert wide.sample((2,)).shape == wide.log_prob(x[:, None]).shape == (2, 5, 3, 4)
    assert wide.mean.shape == wide.entropy().shape == (5, 3, 4)
    got = torch.autograd.grad(wide.log_prob(x[0]).sum(), (location, cutpoints))
    expected = torch.autograd.grad(5 * p.log_prob(x[0]).sum(), (location, cutpoints))
    assert_close(got, expected)
    one = Ordinal(0.5, torch.zeros(1))
    assert one.sample().shape == one.mean.shape == one.log_prob(one.sample()).shape == ()
    assert_close(one.mean, torch.tensor(0.5).sigmoid())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision(dtype):
    for p in (Categorical(logits=_logits(dtype)), _ordinal(dtype)):
        assert p.log_prob(p.sample((4,))).dtype == p.entropy().dtype == dtype or type(p) is Ordinal
    p = DiscretizedLogisticMixture(_pixels(dtype=dtype))
    assert p.sample().dtype == dtype
    parts = Normal(torch.zeros(3, dtype=dtype), 0.1)
    p = MixtureSameFamily(td.Categorical(torch.ones(3, dtype=dtype)), parts)
    assert p.log_prob(p.sample((4,))).dtype == dtype


MISTAKES = {
    "Categorical: expected either probs or logits": lambda: Categorical(),
    "Categorical: expected either probs or logits, and not both": lambda: Categorical(
        torch.ones(2), torch.ones(2)
    ),
    "Categorical: probs is of type list": lambda: Categorical([0.5, 0.5]),
    "Categorical: logits has dtype torch.int64": lambda: Categorical(logits=torch.ones(2).long()),
    "Categorical: logits has shape (), expected": lambda: Categorical(logits=torch.tensor(1.0)),
    "Categorical: logits has shape (3, 0)": lambda: Categorical(logits=torch.zeros(3, 0)),
    "Categorical: parameter logits, of shape (2,), is not within": lambda: Categorical(
        logits=torch.tensor([math.nan, 0.0])
    ),
    "Categorical: parameter probs, of shape (2,), is not within": lambda: Categorical(
        torch.tensor([-1.0, 3.0])
    ),
    "to be within the support": lambda: Categorical(logits=_logits()).log_prob(torch.tensor(4)),
    "does not equal `component_distribution.batch_shape[-1]` (2)": lambda: MixtureSameFamily(
        Categorical(torch.ones(3)), Normal(torch.zeros(2))
    ),
    "Expected parameter cutpoints": lambda: Ordinal(0.0, torch.tensor([1.0, 0.0])),
    "Expected parameter location": lambda: Ordinal(math.nan, torch.tensor([0.0, 1.0])),
    "Ordinal: cutpoints has shape (), expected at least 1 dim": lambda: Ordinal(0.0, 1.0),
    "Ordinal: cutpoints[..., 0] has shape (2,), expected a shape that": lambda: Ordinal(
        torch.zeros(3), torch.zeros(2, 1)
    ),
    "within the support (IntegerInterval": lambda: _ordinal().log_prob(torch.tensor(-1)),
    "DiscretizedLogisticMixture: num_channels is 2": lambda: DiscretizedLogisticMixture(
        _pixels(), 2
    ),
    "DiscretizedLogisticMixture: levels is 1": lambda: DiscretizedLogisticMixture(
        _pixels(), levels=1
    ),
    "DiscretizedLogisticMixture: params has shape (9, 2, 2), expected a multiple of 10": lambda: (
        DiscretizedLogisticMixture(torch.zeros(9, 2, 2))
    ),
    "DiscretizedLogisticMixture: params has shape (9,), expected at least 3": lambda: (
        DiscretizedLogisticMixture(torch.zeros(9))
    ),
    "DiscretizedLogisticMixture: params is of type list": lambda: DiscretizedLogisticMixture([0.5]),
    "mixture_distribution has the batch (4,), expected one that": lambda: MixtureSameFamily(
        Categorical(torch.ones(4, 2)), Normal(torch.zeros(2))
    ),
    "within the support (IndependentConstraint": lambda: DiscretizedLogisticMixture(
        _pixels()
    ).log_prob(torch.full((3, 2, 3), 0.3)),
    "within the support (GreaterThanEq": lambda: _gammas().log_prob(torch.tensor(-1.0)),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(message):
    with pytest.raises((TypeError, ValueError)) as raised:
        MISTAKES[message]()
    assert message in str(raised.value)


# ---- mixtures ------------------------------------------------------------------------------------


def _gammas():
    parts = Gamma(torch.tensor([0.5, 3.0, 20.0]), torch.tensor([1.0, 2.0, 0.5]))
    return MixtureSameFamily(Categorical(torch.tensor([1.0, 2.0, 3.0])), parts)


def _families():
    """Mixtures of numbers, of vectors that share a component, of a batch; by one Categorical."""
    few, each = Categorical(torch.tensor([0.2, 0.5, 0.3])), Categorical(logits=torch.randn(4, 3))
    rates = torch.rand(4, 3, 6)
    yield MixtureSameFamily(few, Normal(torch.randn(3), torch.zeros(3)))
    yield MixtureSameFamily(few, Normal(torch.randn(4, 3), 0.5))
    yield MixtureSameFamily(td.Categorical(logits=torch.randn(4, 3)), Poisson(rates[..., 0]))
    counts = NegativeBinomial(rates, torch.rand(6) + 1)
    yield MixtureSameFamily(each, td.Independent(counts, 1))
    yield MixtureSameFamily(each, DiscretizedLogistic(rates[..., 0], -2.0))
    yield _gammas()


@pytest.mark.parametrize("k", range(6))
def test_a_mixture_is_torchs(k):
    p = list(_families())[k]
    assert p._fused() is not None
    theirs = td.MixtureSameFamily(p.mixture_distribution, p.component_distribution)
    x = p.sample((7,))
    assert_close(p.log_prob(x), theirs.log_prob(x))
    assert_close((p.mean, p.variance), (theirs.mean, theirs.variance))
    wide = p.expand((2, *p.batch_shape))
    assert type(wide) is MixtureSameFamily
    assert_close(wide.log_prob(x[0]), p.log_prob(x[0]).expand(wide.batch_shape))
    assert wide.log_prob(wide.sample((3,))).shape == (3, 2, *p.batch_shape)
    draws = p.sample((_MANY,)).double()
    is_mean(draws, p.mean.double())
    assert p.support.check(x).all()
    assert repr(p).startswith("MixtureSameFamily(")


def test_gradients_of_a_mixture():
    logits, mean, logvar = (torch.randn(4, 3, dtype=torch.float64) for _ in range(3))
    leaves = [x.requires_grad_() for x in (logits, mean, logvar)]
    x = torch.randn(5, 4, dtype=torch.float64)
    slopes = []
    for family, classes in (
        (MixtureSameFamily, Categorical),
        (td.MixtureSameFamily, td.Categorical),
    ):
        p = family(classes(logits=logits), Normal(mean, logvar))
        slopes.append(torch.autograd.grad(p.log_prob(x).sum(), leaves))
    assert_close(*slopes)


def test_bytes_in_a_mixture():
    p = MixtureSameFamily(Categorical(torch.ones(2)), DiscretizedLogistic(torch.rand(2), -2.0))
    pixels = torch.tensor([0, 77, 255], dtype=torch.uint8)
    assert_close(p.log_prob(pixels), p.log_prob(pixels / 255))


def test_other_components_are_torchs_formula():
    """torch's own classes, subclasses that may differ, components whose rows hang together."""

    class Shifted(Normal):
        def log_prob(self, value):
            return super().log_prob(value - 1)

    one, x = Categorical(torch.ones(2)), torch.randn(5)
    of_torch = td.Normal(torch.randn(2), torch.ones(2))
    for parts in (of_torch, Shifted(torch.randn(2), 0.0)):
        p = MixtureSameFamily(one, parts)
        assert p._fused() is None
        assert_close(p.log_prob(x), _torchs_log_prob(p, x))
        expected = parts.log_prob(x[:, None]).logsumexp(-1) - math.log(2)
        assert_close(p.log_prob(x), expected)
    p = MixtureSameFamily(one, Categorical(logits=torch.randn(2, 4)))
    assert_close(p.log_prob(torch.arange(4)).exp().sum(), torch.tensor(1.0))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_mixed_logistics(channels):
    params = _pixels(channels=channels).requires_grad_()
    p = DiscretizedLogisticMixture(params, channels)
    assert (p.batch_shape, p.event_shape) == ((2,), (channels, 2, 3))
    x = p.sample((5,))
    assert (x.shape, p.support.check(x).all()) == ((5, 2, channels, 2, 3), True)
    expected = vf.discretized_logistic_mixture_nll(
        params.expand(5, *params.shape), x, batch_dims=2, reduction="sample"
    )
    assert_close(p.log_prob(x), -expected)
    assert_close(p.log_prob((255 * x).round().to(torch.uint8)), -expected)
    assert p.log_prob(x[0, 0]).shape == (2,)
    wide = p.expand((4, 2))
    assert (wide.event_shape, wide.sample((3,)).shape) == (p.event_shape, (3, 4, *x.shape[1:]))
    assert_close(wide.log_prob(x[0]), p.log_prob(x[0]).expand(4, 2))
    torch.manual_seed(1)
    drawn = p.sample()
    torch.manual_seed(1)
    assert torch.equal(vf.discretized_logistic_mixture_sample(params, num_channels=channels), drawn)
    with pytest.raises(NotImplementedError):
        p.mean  # noqa: B018


def test_samples_of_mixed_logistics_have_their_probabilities():
    """Of one pixel of three levels, grey and in colour."""
    for channels in (1, 3):
        params = torch.randn(4 * (10 if channels == 3 else 3), 1, 1, dtype=torch.float64)
        p = DiscretizedLogisticMixture(params, channels, levels=3)
        levels = torch.linspace(0, 1, 3, dtype=torch.float64)
        values = torch.cartesian_prod(*[levels] * channels).reshape(-1, channels, 1, 1)
        shares = p.log_prob(values).exp()
        assert_close(shares.sum(), torch.ones((), dtype=torch.float64))
        draws = p.sample((_MANY,))
        for value, share in zip(values, shares, strict=True):
            is_mean((draws == value).flatten(1).all(1).double(), share)


# ---- the compiler --------------------------------------------------------------------------------

IN_A_GRAPH = {
    "Categorical": lambda x: Categorical(logits=x, validate_args=True),
    "Ordinal": lambda x: Ordinal(x[..., 0], x.sort(-1).values, validate_args=True),
    "DiscretizedLogisticMixture": lambda x: DiscretizedLogisticMixture(
        x.reshape(10, 2, 3), validate_args=True
    ),
    "MixtureSameFamily": lambda x: MixtureSameFamily(
        Categorical(logits=x, validate_args=True), Normal(x, 0.5, True), validate_args=True
    ),
}


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.torch_devices_only
@pytest.mark.parametrize("name", IN_A_GRAPH)
def test_one_graph(name):
    make = IN_A_GRAPH[name]

    def everything(x):
        p = make(x)
        value = p.sample((5,))
        return value, p.log_prob(value)

    x = torch.randn(12, 5).requires_grad_()
    value, log_prob = torch.compile(everything, fullgraph=True, backend="aot_eager")(x)
    assert_close(log_prob, make(x).log_prob(value))
    log_prob.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.torch_devices_only
def test_compiled_code_checks_at_run_time():
    """On the CPU: a GPU's assertion ends its context."""

    def log_prob(logits, value):
        return Categorical(logits=logits, validate_args=True).log_prob(value)

    compiled = torch.compile(log_prob, fullgraph=True, backend="aot_eager")
    with torch.device("cpu"):
        logits, value = torch.zeros(2, 3), torch.tensor([0.0, 2.0])
        compiled(logits, value)
        with pytest.raises(RuntimeError, match="Categorical: parameter logits is not within"):
            compiled(logits * math.nan, value)
        with pytest.raises(RuntimeError, match="Categorical: value is not within"):
            compiled(logits, value + 1)
