"""vae_fast.distributions: each class beside the oracle, its samples, torch's own, the compiler."""

import math
import pickle

import numpy as np
import pytest
import torch
import torch.distributions as td
from cases import CASE_OF_OP, DISTRIBUTIONS
from torch.distributions import constraints, kl_divergence
from torch.testing import assert_close

import vae_fast as vf
from vae_fast import distributions
from vae_fast.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gamma,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    VonMises,
)
from vae_fast.engine.table import LIKELIHOODS
from vae_fast.latent import posteriors


@pytest.fixture(autouse=True)
def _validated():
    """By default, which torch.compile turns off for the whole process when it is first used."""
    before = td.Distribution._validate_args
    td.Distribution.set_default_validate_args(True)
    yield
    td.Distribution.set_default_validate_args(before)


def _each(rows):
    return pytest.mark.parametrize("row", rows, ids=[row.make.__name__ for row in rows])


each_row = _each(DISTRIBUTIONS)
with_samples_gradients = _each([row for row in DISTRIBUTIONS if row.make.has_rsample])
with_entropy = _each(
    [row for row in DISTRIBUTIONS if row.make.entropy is not td.Distribution.entropy]
)
with_torchs = _each([row for row in DISTRIBUTIONS if row.torchs])
with_extremes = _each([row for row in DISTRIBUTIONS if row.extremes])
OP_OF = {
    entry.distribution: f"{name}_nll" for name, entry in LIKELIHOODS.items() if entry.distribution
}

# A bad value of each constraint that a parameter has.
_BAD = {
    constraints.real: math.nan,
    constraints.positive: 0.0,
    constraints.nonnegative: -1.0,
    constraints.nonnegative_integer: 2.5,
}


def test_every_class_has_its_row():
    of_rows = {"Categorical", "DiscretizedLogisticMixture", "MixtureSameFamily", "Ordinal"}
    # Those: test_row_distributions.py, and the folder latent.
    elementwise = set(distributions.__all__) - of_rows - set(posteriors.__all__)
    assert {row.make.__name__ for row in DISTRIBUTIONS} == elementwise
    assert vf.distributions.Normal is Normal


# ---- density -------------------------------------------------------------------------------------


@each_row
def test_log_prob_is_the_oracles(row):
    p = row.make(*row.tensors())
    values = p.sample((20,))
    shape = values.shape
    operands = [getattr(p, name).expand(shape) for name in p.arg_constraints]
    if row.make is DiscretizedLogistic:
        operands.append(torch.full(shape, 256.0, dtype=torch.float64))
    exact = CASE_OF_OP[OP_OF[row.make]].exact(
        *(x.cpu().numpy().astype(np.longdouble) for x in (*operands, values))
    )[0]
    expected = torch.from_numpy(-exact.astype(np.float64)).to(values)
    assert_close(p.log_prob(values), expected, rtol=1e-9, atol=1e-9)


@each_row
def test_shapes(row):
    first, *others = [x[1].item() for x in row.tensors()]
    p = row.make(first, *others)
    assert (p.batch_shape, p.event_shape) == ((), ())
    assert p.sample().shape == p.mean.shape == p.log_prob(p.sample()).shape == ()
    assert p.sample((2, 3)).shape == (2, 3)
    p = row.make(torch.full((3, 1), first), *(torch.full((4,), x) for x in others[:1]), *others[1:])
    shape = (3, 4) if others else (3, 1)
    assert p.batch_shape == p.mean.shape == p.variance.shape == shape
    assert all(getattr(p, name).shape == shape for name in p.arg_constraints)
    assert p.sample((2,)).shape == (2, *shape)
    assert p.log_prob(p.sample((2,))).shape == (2, *shape)
    assert p.log_prob(p.sample()[0]).shape == shape  # a value that broadcasts
    assert repr(p).startswith(f"{row.make.__name__}({next(iter(p.arg_constraints))}: ")
    assert td.Independent(p, 2).log_prob(p.sample()).shape == ()
    with pytest.raises(ValueError, match="not broadcastable"):
        p.log_prob(torch.zeros(5, 2))


@each_row
def test_expand_copies_nothing(row):
    tensors = [x.requires_grad_() for x in row.tensors(torch.float32)]
    p = row.make(*tensors)
    wide = p.expand((5, 3))
    assert type(wide) is row.make
    assert (wide.batch_shape, wide.sample((2,)).shape) == ((5, 3), (2, 5, 3))
    storages = [getattr(wide, name).data_ptr() for name in p.arg_constraints]
    assert storages == [x.data_ptr() for x in tensors]
    x = p.sample()
    assert_close(wide.log_prob(x), p.log_prob(x).expand(5, 3))
    assert_close(wide.mean, p.mean.expand(5, 3))
    of_all = torch.autograd.grad(wide.log_prob(x).sum(), tensors)
    of_one = torch.autograd.grad(p.log_prob(x).sum(), tensors)
    for all_, one in zip(of_all, of_one, strict=True):
        assert_close(all_, 5 * one)
    assert_close(pickle.loads(pickle.dumps(wide)).log_prob(x), wide.log_prob(x))


def test_bytes_mean_what_the_function_reads():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    levels = DiscretizedLogistic(torch.zeros(3), -1.0)
    assert_close(levels.log_prob(pixels), levels.log_prob(pixels / 255))
    black = torch.tensor([False, True, True])
    p = Bernoulli(torch.tensor([0.5, 0.5, 2.0]))
    assert_close(p.log_prob(black), p.log_prob(black.float()))
    with pytest.raises(ValueError, match="within the support"):
        p.log_prob(pixels)  # 51 / 255
    counts = torch.tensor([0, 2, 7])
    p = Poisson(torch.zeros(3))
    assert_close(p.log_prob(counts), p.log_prob(counts.float()))
    assert_close(p.log_prob(counts.to(torch.uint8)), p.log_prob(counts.float()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision(dtype):
    """In and out; a number beside it is not rounded."""
    for row in DISTRIBUTIONS:
        p = row.make(*row.tensors(dtype))
        x = p.sample((4,))
        assert x.dtype == p.log_prob(x).dtype == dtype
    assert Normal(torch.zeros(2, dtype=dtype), 0.1).logvar.tolist() == [pytest.approx(0.1)] * 2


# ---- validation ----------------------------------------------------------------------------------


@each_row
def test_parameters_are_checked(row):
    names = list(row.make.arg_constraints)
    for k, name in enumerate(names):
        tensors = row.tensors()
        tensors[k][1] = _BAD[row.make.arg_constraints[name]]
        with pytest.raises(ValueError, match=f"Expected parameter {name} "):
            row.make(*tensors, validate_args=True)
        row.make(*tensors, validate_args=False)
        tensors[k] = "none"
        with pytest.raises(TypeError, match=f"{row.make.__name__}: {name} is of type str"):
            row.make(*tensors)


@each_row
def test_values_are_checked(row):
    p = row.make(*row.tensors(), validate_args=True)
    x = p.sample((100,))
    assert p.support.check(x).all()
    assert not p.expand((2, 3)).support.check(torch.full((2, 3), row.outside)).any()
    with pytest.raises(ValueError, match="within the support"):
        p.log_prob(torch.full((3,), row.outside))
    with pytest.raises(ValueError, match="must be a Tensor"):
        p.log_prob(0.0)
    row.make(*row.tensors(), validate_args=False).log_prob(torch.full((3,), row.outside))
    assert p.support.is_discrete == (not row.make.has_rsample) or row.make is VonMises


def test_other_mistakes():
    with pytest.raises(ValueError, match=r"theta has shape \(3,\), expected a shape that"):
        NegativeBinomial(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="levels is 1, expected a whole number from 2 on"):
        DiscretizedLogistic(torch.zeros(2), 0.0, levels=1)
    with pytest.raises(NotImplementedError, match="Poisson has no samples with gradients"):
        Poisson(0.0).rsample()


# ---- samples and moments -------------------------------------------------------------------------

_MANY = 40_000


def is_mean(values, expected):
    """Of independent values along the first dimension, within 4.5 of its standard errors."""
    error = values.std(0) / math.sqrt(len(values))
    distance = (values.mean(0) - expected).abs()
    assert (distance <= 4.5 * error + 1e-9).all(), (values.mean(0), expected, error)


@each_row
def test_samples_have_the_moments(row):
    p = row.make(*row.tensors(), validate_args=False)  # a mode may be NaN
    x = p.sample((_MANY,))
    assert x.shape == (_MANY, 3)
    away, spread = row.around(x, p.mean)
    is_mean(away, 0)
    is_mean(spread, p.variance)
    assert_close(p.stddev, p.variance.sqrt())
    densest = p.log_prob(p.mode)
    is_one = ~p.mode.isnan()
    assert is_one.any()
    assert (densest - p.log_prob(x).amax(0))[is_one].min() > -1e-9


@with_entropy
def test_entropy(row):
    p = row.make(*row.tensors())
    is_mean(-p.log_prob(p.sample((_MANY,))), p.entropy())


def test_probabilities_add_up_to_one():
    """And the probability of every value is its share of the samples."""
    count = torch.arange(200.0, dtype=torch.float64)[:, None]
    for row in DISTRIBUTIONS:
        p = row.make(*row.tensors(), validate_args=False)
        if p.has_enumerate_support:
            values = p.enumerate_support()
            assert_close(values, p.enumerate_support(expand=False).expand(-1, 3))
        elif p.support.is_discrete and row.make is not Poisson:
            values = count.expand(200, 3)
        else:
            continue
        shares = p.log_prob(values).exp().nan_to_num()
        is_near = p.variance < 100  # else there are counts above
        assert_close(shares.sum(0)[is_near], torch.ones_like(p.mean)[is_near])
        draws = p.sample((_MANY,))
        for value, share in zip(values[:3], shares[:3], strict=True):
            is_mean((draws == value).to(share), share)


def test_samples_at_the_extremes():
    """Tiny concentrations, where a Gamma variate underflows, and huge ones, which hardly vary."""
    tiny = torch.full((_MANY,), 1e-4)
    shares = Beta(tiny, 3 * tiny).sample()
    assert not shares.isnan().any()
    is_mean(shares, torch.tensor(0.25))
    assert Gamma(tiny).sample().min() > 0
    huge = torch.full((_MANY,), 1e12)
    assert_close(Beta(huge, huge).sample(), torch.full((_MANY,), 0.5), rtol=0, atol=1e-5)
    is_mean(NegativeBinomial(torch.full((_MANY,), 4.0), 1e18).sample(), torch.tensor(4.0))
    assert not NegativeBinomial(torch.full((_MANY,), 4.0), 1e-18).sample().any()
    uniform = ContinuousBernoulli(torch.full((_MANY,), 1e-6)).sample()
    is_mean(uniform**2, torch.tensor(1 / 3))
    narrow = VonMises(torch.tensor([0.0, 1e-9]), torch.tensor([50.0, 300.0])).sample((_MANY,))
    is_mean(torch.exp(torch.tensor(50.0)) * narrow[:, 0] ** 2, torch.tensor(1.0))
    assert_close(narrow[:, 1], torch.full((_MANY,), 1e-9))
    wide = VonMises(torch.tensor([3.0]), -200.0).sample((_MANY,))
    is_mean(wide**2, torch.tensor(math.pi**2 / 3))
    assert VonMises(torch.zeros(2), torch.tensor([-1e4, 1e3])).variance.tolist() == [1, 0]
    assert StudentT(torch.zeros(2), 0.0, torch.tensor([0.9, 1.5])).mean.isnan().tolist() == [1, 0]
    assert StudentT(torch.zeros(2), 0.0, 1.5).variance.isinf().all()


@with_samples_gradients
def test_gradients_of_samples(row):
    """Those of E[x] and E[x^2], as the mean of each sample's."""
    tensors = [x.requires_grad_() for x in row.tensors()]
    each = [x.detach().expand(_MANY, 3).clone().requires_grad_() for x in tensors]
    p, sampler = row.make(*tensors), row.make(*each)
    x = sampler.rsample()
    for of_x, expected in ((x, p.mean), (x * x, p.variance + p.mean**2)):
        of_samples = torch.autograd.grad(of_x.sum(), each, retain_graph=True)
        of_moment = torch.autograd.grad(expected.sum(), tensors, allow_unused=True)
        for sampled, moment in zip(of_samples, of_moment, strict=True):
            is_mean(sampled, 0 if moment is None else moment)


# ---- divergences ---------------------------------------------------------------------------------


def neighbour(p, shift):
    """The distribution of other parameters, of as many trials."""
    given = {name: getattr(p, name) for name in p.arg_constraints}
    return type(p)(**{name: x if name == "total_count" else shift(x) for name, x in given.items()})


@with_torchs
def test_divergences_are_torchs(row):
    tensors = [x.requires_grad_() for x in row.tensors()]
    p = row.make(*tensors)
    q = neighbour(p, lambda x: 0.3 + 0.9 * x)
    torchs_p, torchs_q = row.torchs(p), row.torchs(q)
    expected = kl_divergence(torchs_p, torchs_q)
    slopes = torch.autograd.grad(expected.sum(), tensors, retain_graph=True, allow_unused=True)
    for pair in ((p, q), (p, torchs_q), (torchs_p, q)):
        kl = kl_divergence(*pair)
        assert_close(kl, expected, rtol=1e-6, atol=1e-6)  # what torch's has near a logit of 0
        got = torch.autograd.grad(kl.sum(), tensors, retain_graph=True, allow_unused=True)
        for slope, own in zip(slopes, got, strict=True):
            assert_close(own, slope, rtol=1e-5, atol=1e-5)
    assert kl_divergence(p.expand((2, 1, 3)), q.expand((4, 3))).shape == (2, 4, 3)


@with_extremes
def test_divergences_of_neighbours_do_not_cancel(row):
    """float32 against float64 of the same numbers, an eighth of a thousandth apart."""
    p = row.make(*(torch.tensor(x) for x in row.extremes))
    q = neighbour(p, lambda x: x * (1 + 2**-13))
    kl = kl_divergence(p, q)
    wide = (neighbour(x, torch.Tensor.double) for x in (p, q))
    assert_close(kl.double(), kl_divergence(*wide), rtol=2e-3, atol=0)
    assert (kl >= 0).all()


def test_divergences_of_others():
    rate = torch.tensor([0.5, 2.0])
    ours, exponential = Gamma(torch.tensor([1.5, 0.7]), rate), td.Exponential(2 * rate)
    expected = kl_divergence(td.Gamma(ours.concentration, rate), td.Gamma(torch.ones(2), 2 * rate))
    assert_close(kl_divergence(ours, exponential), expected)
    few, many = Binomial(torch.zeros(2), 3.0), Binomial(torch.zeros(2), 4.0)
    assert kl_divergence(many, few).isinf().all()
    assert kl_divergence(few, many).isnan().all()
    independent = (td.Independent(x, 1) for x in (Normal(torch.zeros(2)), Normal(torch.ones(2))))
    assert_close(kl_divergence(*independent), torch.tensor(1.0))
    with pytest.raises(NotImplementedError):
        kl_divergence(ours, few)


# ---- in company ----------------------------------------------------------------------------------


def test_in_torchs_own():
    """A transform of one of ours, a mixture of them."""
    p = td.TransformedDistribution(Normal(torch.zeros(3), 0.5), [td.ExpTransform()])
    x = p.rsample((4,))
    assert_close(p.log_prob(x), LogNormal(torch.zeros(3), 0.5).log_prob(x))
    parts = NegativeBinomial(torch.tensor([1.0, 9.0]), 2.0)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(2)), parts)
    value = torch.tensor(3.0)
    assert_close(mixture.log_prob(value), parts.log_prob(value).exp().mean().log())
    assert_close(mixture.mean, torch.tensor(5.0))


@pytest.mark.usefixtures("fresh_compiler")
@each_row
def test_one_graph(row):
    """Validated, too, where torch's own classes break the graph."""

    def everything(*tensors):
        p = row.make(*tensors, validate_args=True)
        x = p.rsample((5,)) if p.has_rsample else p.sample((5,))
        moments = (p.mean, p.mode, p.variance, p.expand((2, 3)).mean)
        return (x, p.log_prob(x), *moments)

    tensors = [x.requires_grad_() for x in row.tensors(torch.float32)]
    x, log_prob, *moments = torch.compile(everything, fullgraph=True, backend="eager")(*tensors)
    p = row.make(*tensors)
    assert_close(log_prob, p.log_prob(x.detach()))
    for got, expected in zip(moments, (p.mean, p.mode, p.variance), strict=False):
        assert_close(got, expected, equal_nan=True)
    (log_prob.sum() + x.sum()).backward()


@pytest.mark.usefixtures("fresh_compiler")
def test_a_divergence_in_a_graph():
    """After the first time: torch looks a pair of classes up by what the compiler cannot trace."""
    a, b = torch.tensor([0.5, 3.0]), torch.tensor([2.0, 1.5])
    expected = kl_divergence(Gamma(a, b), Gamma(b, a))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def divergence(a, b):
        return kl_divergence(Gamma(a, b), Gamma(b, a))

    assert_close(divergence(a, b), expected)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_code_checks_at_run_time():
    """On the CPU: a GPU's assertion ends its context."""

    def log_prob(theta, value):
        return NegativeBinomial(torch.ones(2), theta, validate_args=True).log_prob(value)

    compiled = torch.compile(log_prob, fullgraph=True, backend="aot_eager")
    theta, value = torch.ones(2, device="cpu"), torch.ones(2, device="cpu")
    with torch.device("cpu"):
        compiled(theta, value)
        with pytest.raises(RuntimeError, match="NegativeBinomial: parameter theta is not within"):
            compiled(-theta, value)
        with pytest.raises(RuntimeError, match="NegativeBinomial: value is not within"):
            compiled(theta, 0.5 * value)
