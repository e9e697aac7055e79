"""Which shapes may differ, and numbers in the place of tensors.

A target of another shape broadcasts as well, to a loss that is plausible and wrong.
"""

import math

import numpy as np
import pytest
import torch

import vae_fast as vf

B = 6
pytestmark = pytest.mark.usefixtures("backend")


MISTAKES = {
    "channels": ((B, 1, 4, 4), (B, 4, 4)),
    "extra_dimension": ((B, 16), (B, 1, 16)),
    "column_and_vector": ((B, 1), (B,)),
    "vector_and_column": ((B,), (B, 1)),
    "one_for_all_features": ((B, 16), (B, 1)),
    "first_of_one": ((1, 16), (B, 16)),
    "transposed": ((B, 1), (1, B)),
}


@pytest.mark.parametrize("function", [vf.bernoulli_nll, vf.multinomial_nll, vf.gaussian_nll])
@pytest.mark.parametrize(("first", "target"), MISTAKES.values(), ids=MISTAKES)
def test_what_broadcasts_by_mistake_is_refused(function, first, target):
    with pytest.raises(ValueError, match=r"target has shape|classes") as raised:
        function(torch.zeros(first), torch.zeros(target))
    assert str(first) in str(raised.value) or "classes" in str(raised.value)


@pytest.mark.parametrize("function", [vf.bernoulli_nll, vf.multinomial_nll, vf.gaussian_nll])
def test_leading_batch_dimensions_may_be_missing_in_the_target(function):
    first, target = torch.randn(3, B, 5), torch.rand(B, 5)
    expected = function(first, target.expand(3, B, 5).contiguous(), batch_dims=2)
    torch.testing.assert_close(function(first, target, batch_dims=2), expected)


def test_parameters_broadcast_and_never_enlarge():
    mean, target = torch.randn(B, 5), torch.randn(B, 5)
    for logvar in (torch.zeros(()), torch.zeros(5), torch.zeros(B, 1), torch.zeros(B, 5)):
        torch.testing.assert_close(
            vf.gaussian_nll(mean, target, logvar), vf.gaussian_nll(mean, target)
        )
    for shape in ((B,), (1, B, 5), (3, B, 5), (2, 1)):
        with pytest.raises(ValueError, match="logvar has shape"):
            vf.gaussian_nll(mean, target, torch.zeros(shape))
    with pytest.raises(ValueError, match="mask has shape"):
        vf.bernoulli_nll(mean, target, mask=torch.ones(3, B, 5, dtype=torch.bool))
    for call in (vf.gaussian_kl, vf.reparameterize, vf.reparameterize_kl):
        with pytest.raises(ValueError, match="logvar has shape"):
            call(torch.zeros(B, 1), torch.zeros(B, 5))
    with pytest.raises(ValueError, match="prior_mu has shape"):
        vf.gaussian_kl(mean, mean, torch.zeros(7, B, 5), 0.0)


def test_samples_of_z_are_declared():
    params, target = torch.randn(4, B, 5), torch.rand(B, 5)
    code = torch.randn(B, 2)
    for kwargs in ({}, {"sample_dims": 2}, {"sample_dims": -1}):
        with pytest.raises(ValueError, match="samples of z"):
            vf.elbo_loss(params, target, code, code, **kwargs)
    with pytest.raises(ValueError, match="samples of z"):  # B samples, it would have been
        vf.elbo_loss(params[0].reshape(B, 1, 5, 1), target.reshape(B, 5, 1), code, code)
    with pytest.raises(ValueError, match="mu has shape"):
        vf.elbo_loss(params[0], target, code[: B // 2], code[: B // 2])
    with pytest.raises(TypeError, match="sample_dims"):
        vf.elbo_loss(params, target, code, code, sample_dims=1.0)
    loss = vf.elbo_loss(params, target, code, code, sample_dims=1)
    assert torch.equal(loss.loss, vf.ELBOLoss(sample_dims=1)(params, target, code, code).loss)
    torch.testing.assert_close(loss.nll, vf.bernoulli_nll(params, target, batch_dims=2))


def test_a_code_without_a_batch():
    mu, logvar = torch.ones(5), torch.zeros(5)
    for call in (vf.gaussian_kl, vf.reparameterize_kl):
        with pytest.raises(ValueError, match=r"mu has shape \(5,\), which is batch alone"):
            call(mu, logvar)
    assert vf.gaussian_kl(mu, logvar, batch_dims=0) == 2.5
    assert vf.gaussian_kl(mu.unsqueeze(-1), logvar.unsqueeze(-1)) == 0.5


def test_batch_dims_are_looked_at_under_every_reduction():
    mu = torch.zeros(2, 3)
    for reduction in ("none", "sample", "sum", "batchmean", "mean"):
        with pytest.raises(ValueError, match="batch_dims is 99"):
            vf.bernoulli_nll(mu, mu, batch_dims=99, reduction=reduction)
        with pytest.raises(TypeError, match="batch_dims is of type str"):
            vf.gaussian_kl(mu, mu, batch_dims="x", reduction=reduction)


def test_an_empty_batch_has_no_mean():
    logits = torch.zeros(0, 3, requires_grad=True)
    value = vf.bernoulli_nll(logits, torch.zeros(0, 3))
    assert value.isnan()  # as torch's mean of nothing
    value.backward()
    assert logits.grad.shape == (0, 3)
    weight = torch.ones(3, requires_grad=True)
    vf.gaussian_nll(torch.zeros(0, 3), torch.zeros(0, 3), weight).backward()
    assert weight.grad.tolist() == [0, 0, 0]
    assert vf.bernoulli_nll(logits, torch.zeros(0, 3), reduction="sum") == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("number", [-5.3, np.float32(-5.3), np.float64(-5.3), 2, np.int64(2)])
def test_a_number_is_used_as_it_is(dtype, number):
    mean, target = torch.randn(64, 30).to(dtype), torch.randn(64, 30).to(dtype)
    value = vf.gaussian_nll(mean, target, number)
    x, logvar = float(number), float(number)
    square = (mean.double() - target.double()).square() * math.exp(-logvar)
    exact = 0.5 * (math.log(2 * math.pi) + x + square).sum() / 64
    assert value.dtype == (dtype if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    assert vf.gaussian_nll(mean, target, number, reduction="none").dtype == dtype


def test_numbers_for_the_code_and_its_prior():
    mu = torch.randn(B, 4)
    logvar, m, v = torch.full_like(mu, -0.3), torch.full_like(mu, 0.7), torch.full_like(mu, 0.1)
    assert torch.equal(vf.gaussian_kl(mu, -0.3, 0.7, 0.1), vf.gaussian_kl(mu, logvar, m, v))
    assert torch.equal(vf.gaussian_kl(mu, -0.3), vf.gaussian_kl(mu, logvar))
    for left, right in zip(
        vf.reparameterize_kl(mu, -0.3, np.float32(0.7), 0.1, seed=5),
        vf.reparameterize_kl(mu, logvar, m, v, seed=5),
        strict=True,
    ):
        torch.testing.assert_close(left, right)
    half = mu.bfloat16()
    assert vf.reparameterize(half, -0.3, seed=np.int64(5)).dtype == torch.bfloat16
    assert torch.equal(vf.reparameterize(mu, -0.3, seed=5), vf.reparameterize(mu, logvar, seed=5))
    with pytest.raises(TypeError, match="logvar is of type bool"):
        vf.gaussian_kl(mu, True)


def test_numbers_of_numpy_elsewhere():
    mu, x = torch.randn(B, 4), torch.rand(B, 4)
    plain = vf.elbo_loss(mu, x, mu, mu, beta=0.5, free_bits=0.25)
    numpys = vf.elbo_loss(
        mu, x, mu, mu, beta=np.float32(0.5), free_bits=np.float32(0.25), batch_dims=np.int64(1)
    )
    assert torch.equal(plain.loss, numpys.loss)
    assert vf.reparameterize(mu, mu, num_samples=np.int64(3)).shape == (3, B, 4)


def test_samples_have_the_dtype_of_one():
    """A mu without dimensions has none to add to, and gets the samples'."""
    mu = torch.tensor(0.3, dtype=torch.bfloat16, requires_grad=True)
    logvar = torch.tensor(-0.2)
    assert vf.reparameterize(mu, logvar, seed=5).dtype == torch.float32
    z = vf.reparameterize(mu, logvar, seed=5, num_samples=300)
    assert z.dtype == torch.float32
    weights = torch.randn(300)
    z.backward(weights)  # a sum of 300, rounded once
    assert mu.grad == weights.sum().bfloat16()


def test_what_has_no_dimension_does_not_raise_the_dtype():
    """torch's own rule of promotion."""
    mean, target = torch.randn(B, 4).bfloat16(), torch.randn(B, 4).bfloat16()
    logvar = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    each = vf.gaussian_nll(mean, target, logvar, reduction="none")
    assert each.dtype == (mean + logvar).dtype == torch.bfloat16
    total = vf.gaussian_nll(mean, target, logvar, reduction="sum")
    assert total.dtype == torch.float32
    total.backward()
    assert logvar.grad.dtype == torch.float64
    square = (mean.double() - target.double()).square() * math.exp(-0.3)
    assert logvar.grad.item() == pytest.approx((0.5 * (1 - square)).sum().item(), rel=1e-6)
