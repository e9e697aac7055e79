"""Discrete posteriors: exact divergences by enumeration, relaxed samples and their own noise."""

import itertools
import math

import pytest
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.testing import assert_close

from tests.test_distributions import is_mean
from vae_fast.latent.posteriors import (
    BernoulliVector,
    BinaryConcrete,
    Concrete,
    OneHotCategorical,
    StraightThroughBinaryConcrete,
    StraightThroughConcrete,
)

pytestmark = pytest.mark.of_samples

HARD = (OneHotCategorical, BernoulliVector)
RELAXED = (Concrete, BinaryConcrete)
STRAIGHT_THROUGH = (StraightThroughConcrete, StraightThroughBinaryConcrete)
HARD_OF = dict(zip((*RELAXED, *STRAIGHT_THROUGH), HARD * 2, strict=True))
each_hard = pytest.mark.parametrize("kind", HARD)
each_relaxed = pytest.mark.parametrize("kind", RELAXED)
each_concrete = pytest.mark.parametrize("kind", RELAXED + STRAIGHT_THROUGH)


def _logits(*batch, dtype=torch.float64):
    return 2 * torch.randn(*batch, 4, dtype=dtype)


def _values(kind, dtype=torch.float64):
    if kind is OneHotCategorical:
        return torch.eye(4, dtype=dtype)
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=dtype)


# ---- classes and bits themselves -----------------------------------------------------------------


@each_hard
def test_sums_over_all_values(kind):
    q, p = kind(_logits()), kind(_logits())
    values = _values(kind)
    log_q, log_p = q.log_prob(values), p.log_prob(values)
    shares = log_q.exp()
    assert_close(shares.sum(), torch.ones_like(shares[0]))
    assert_close(q.entropy(), -(shares * log_q).sum())
    assert_close(kl_divergence(q, p), (shares * (log_q - log_p)).sum())
    assert_close(q.mean, shares @ values)
    assert_close(log_q.max(), q.log_prob(q.mode))
    draws = q.sample((40_000,))
    for value, share in zip(values, shares, strict=True):
        is_mean((draws == value).all(-1).to(share), share)


@each_hard
def test_divergences_of_neighbours_do_not_cancel(kind):
    logits = _logits(50, dtype=torch.float32)
    other = logits + 1e-4 * torch.randn_like(logits)
    exact = kl_divergence(kind(logits.double()), kind(other.double()))
    assert (exact > 0).all()
    assert_close(kl_divergence(kind(logits), kind(other)).double(), exact, rtol=2e-2, atol=0)
    assert (kl_divergence(kind(logits), kind(other)) >= 0).all()


def test_classes_that_never_come():
    logits = torch.tensor([0.0, -math.inf, 1.0])
    q, p = OneHotCategorical(logits), OneHotCategorical(torch.zeros(3))
    assert_close(kl_divergence(q, p), math.log(3) - q.entropy())
    assert kl_divergence(p, q) == math.inf
    assert q.log_prob(torch.eye(3)).tolist()[1] == -math.inf
    assert not q.sample((1000,))[:, 1].any()


@each_hard
def test_straight_through_gradients(kind):
    """One-hot, or bits, exactly; the gradient is that of the probabilities."""
    logits = _logits(6).requires_grad_()
    a = torch.randn(4, dtype=torch.float64)
    z = kind(logits).rsample()
    assert set(z.unique().tolist()) <= {0.0, 1.0}
    of_sample = torch.autograd.grad((z @ a).sum(), logits)[0]
    of_mean = torch.autograd.grad((kind(logits).mean @ a).sum(), logits)[0]
    assert_close(of_sample, of_mean)


# ---- relaxed -------------------------------------------------------------------------------------


def _torchs(q):
    temperature = q.temperature.flatten()[0]
    if isinstance(q, Concrete):
        return td.RelaxedOneHotCategorical(temperature, logits=q.logits)
    return td.Independent(td.RelaxedBernoulli(temperature, logits=q.logits), 1)


@each_relaxed
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_densities_are_torchs(kind, temperature):
    q = kind(_logits(5), torch.tensor(temperature, dtype=torch.float64))
    z = q.sample((20,))
    assert_close(q.log_prob(z), _torchs(q).log_prob(z), rtol=1e-6, atol=1e-6)
    is_mean(q.sample((40_000,)) ** 2, (_torchs(q).sample((400_000,)) ** 2).mean(0))


@each_relaxed
def test_float32_by_the_rule_of_twice(kind):
    """The error against float64 is at most twice that of torch's own class in float32."""
    q = kind(_logits(500, dtype=torch.float32), 0.7)
    z = q.sample()
    exact = kind(q.logits.double(), q.temperature.double(), validate_args=False)
    right = exact.log_prob(z.double())
    theirs = _torchs(q).log_prob(z)
    # Where torch's transform has clamped what it takes the logarithm of, it is of another number.
    is_there = (theirs - right).abs() < 1
    assert is_there.double().mean() > 0.5
    ours, plain = ((x - right).abs()[is_there] for x in (q.log_prob(z), theirs))
    assert ours.max() <= 2 * plain.max()


@each_concrete
def test_the_likeliest_is_as_likely_as_its_class(kind):
    """Whatever the temperature: the argument of the largest Gumbel variate."""
    logits = _logits()
    q, hard = kind(logits, 0.7), HARD_OF[kind](logits)
    z = q.sample((40_000,))
    if isinstance(hard, OneHotCategorical):
        is_mean((z.argmax(-1, keepdim=True) == torch.arange(4)).double(), hard.mean)
    else:
        is_mean((z > 0.5).double(), hard.mean)


@each_relaxed
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_divergence_of_the_noise(kind, temperature):
    """Is log q - log p at the sample, and 0 of one and the same."""
    q, p = kind(_logits(5), 0.8), kind(_logits(), temperature)
    z, kl = q.rsample_kl(p)
    assert_close(kl, q.log_prob(z) - p.log_prob(z), rtol=1e-6, atol=1e-6)
    _, none = q.rsample_kl(q)
    assert_close(none, torch.zeros_like(none), rtol=0, atol=1e-12)


@each_relaxed
def test_gradients_of_samples_are_unbiased(kind):
    """Of E[f(z)]: to 3 standard errors on 10^6 samples, against the score function's, as many."""
    logits = torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64)
    each = logits.expand(1_000_000, 3).clone().requires_grad_()
    q = kind(each, 0.9)
    a = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    pathwise = torch.autograd.grad(((q.rsample() @ a) ** 2).sum(), each)[0]
    z = q.sample()
    value = (z @ a) ** 2
    score = torch.autograd.grad(q.log_prob(z), each, value - value.mean())[0]
    difference = pathwise.mean(0) - score.mean(0)
    error = ((pathwise.var(0) + score.var(0)) / len(each)).sqrt()
    assert (difference.abs() <= 3 * error).all(), difference / error


@each_concrete
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 2.0, 1e3])
def test_nothing_is_nan_or_infinite(kind, dtype, temperature):
    """At logits and temperatures at which a sample itself underflows."""
    for scale in (1.0, 100.0, 6e4):
        logits = (scale * _logits(200) / 8).to(dtype).requires_grad_()
        p = kind(torch.zeros(4, dtype=dtype), temperature)
        q = kind(logits, temperature)
        z, kl = q.rsample_kl(p)
        assert z.dtype == dtype
        assert kl.dtype == torch.float32
        own = q.log_prob(z.detach())
        exact = kl_divergence(q, HARD_OF[kind](torch.zeros(4, dtype=dtype)))
        for x in (z, kl, own, exact):
            assert x.isfinite().all()
            (slope,) = torch.autograd.grad(x.float().sum(), logits, retain_graph=True)
            assert slope.isfinite().all()


@each_concrete
def test_the_exact_divergence_is_that_of_the_classes(kind):
    logits, other = _logits(5), _logits()
    hard = HARD_OF[kind]
    assert_close(
        kl_divergence(kind(logits, 0.5), hard(other)), kl_divergence(hard(logits), hard(other))
    )


@pytest.mark.parametrize("kind", STRAIGHT_THROUGH)
def test_straight_through_of_the_relaxed(kind):
    logits = _logits(6).requires_grad_()
    relaxed = dict(zip(STRAIGHT_THROUGH, RELAXED, strict=True))[kind]
    slopes = []
    for each in (kind, relaxed):
        torch.manual_seed(3)
        z = each(logits, 0.5).rsample()
        slopes.append(torch.autograd.grad(z[:, 0].sum(), logits)[0])
        if each is kind:
            assert set(z.unique().tolist()) <= {0.0, 1.0}
            q, hard = kind(logits, 0.5), HARD_OF[kind](logits)
            assert_close(q.log_prob(z), hard.log_prob(z))
            assert_close((q.mean, q.mode, q.entropy()), (hard.mean, hard.mode, hard.entropy()))
    assert_close(*slopes)


# ---- in company ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("kind", [*HARD, *RELAXED, *STRAIGHT_THROUGH])
def test_one_graph_and_vmap(kind):
    more = () if kind in HARD else (0.5,)

    def everything(logits):
        q = kind(logits, *more)
        z = q.rsample()
        return z, q.log_prob(z)

    logits = _logits(5, dtype=torch.float32).requires_grad_()
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    z, log_prob = compiled(logits)
    assert_close(
        log_prob,
        kind(logits, *more, validate_args=False).log_prob(z.detach()),
        rtol=1e-5,
        atol=1e-4,
    )
    (z.sum() + log_prob.sum()).backward()

    def of_one(logits):
        q = kind(logits, *more, validate_args=False)
        z = q.rsample()
        return z, q.log_prob(z)

    z, log_prob = torch.func.vmap(of_one, randomness="different")(logits)
    assert_close(
        log_prob, kind(logits, *more, validate_args=False).log_prob(z), rtol=1e-5, atol=1e-4
    )


def test_mistakes():
    with pytest.raises(ValueError, match="Expected parameter temperature "):
        Concrete(torch.zeros(3), -1.0, validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        OneHotCategorical(torch.zeros(3), validate_args=True).log_prob(torch.ones(3))
    with pytest.raises(ValueError, match="within the support"):
        Concrete(torch.zeros(3), 1.0, validate_args=True).log_prob(torch.ones(3))
    with pytest.raises(NotImplementedError):
        kl_divergence(Concrete(torch.zeros(3), 1.0), Concrete(torch.zeros(3), 1.0))
