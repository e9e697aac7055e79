"""torch.func: grad, vjp, jvp, jacobians, hessians, vmap of any nesting, and vmap's randomness."""

import pytest
import torch
from cases import each_case, leaves
from torch.func import (
    functional_call,
    functionalize,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    vjp,
    vmap,
)

import vae_fast as vf

TRANSFORMS = {
    "grad": grad,
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "hessian": hessian,
    "grad_of_grad": lambda f: grad(lambda *x: grad(f)(*x).square().sum()),
    "jvp": lambda f: lambda *x: jvp(f, x, x[::-1]),
    "vjp": lambda f: lambda *x: vjp(f, *x)[1](torch.ones((), dtype=torch.float64)),
    "vmap": vmap,
    "vmap_grad": lambda f: vmap(grad(f)),
    "vmap_jacrev": lambda f: vmap(jacrev(f)),
    "vmap_hessian": lambda f: vmap(hessian(f)),
    "vmap_first_alone": lambda f: (
        lambda x, *y: vmap(f, (0, *[None] * len(y)))(x, *(b[0] for b in y))
    ),
    "vmap_others_alone": lambda f: lambda x, *y: vmap(f, (None, *[0] * len(y)))(x[0], *y),
    "vmap_columns": lambda f: lambda *x: vmap(f, (1,) * len(x))(*x),
    "vmap_vmap": lambda f: vmap(vmap(f)),
    "jacrev_vmap": lambda f: jacrev(vmap(f)),
    "vmap_grad_of_unbatched": lambda f: (
        lambda x, *y: vmap(grad(f), (None, *[0] * len(y)))(x[0], *y)
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@pytest.mark.parametrize("case", **each_case)
def test_transforms(case, transform):
    tensors = [x.detach() for x in leaves(case, 3, 4)]
    actual = transform(lambda *x: case.public(*x, reduction="sum"))(*tensors)
    expected = transform(lambda *x: case.torch(*x).sum())(*tensors)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("case", **each_case)
def test_transforms_of_the_reference(case, backend):
    tensors = [x.detach() for x in leaves(case, 3, 4)]
    for name in ("grad", "hessian", "vmap_grad", "jvp"):
        actual = TRANSFORMS[name](lambda *x: case.public(*x, reduction="sum"))(*tensors)
        expected = TRANSFORMS[name](lambda *x: case.torch(*x).sum())(*tensors)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("case", **each_case)
def test_vmap_keeps_reductions_and_ranks(case):
    """Operands of different ranks, some of them in no batch, under every reduction."""
    shapes, dims = [(5, 2, 4, 3), (4, 3), (5, 3), (4, 5, 1)], (0, None, 0, 1)
    if case.has_target:
        shapes[3] = (4, 5, 3)  # whole, but for leading batch dimensions
    tensors = [d(shapes[k]) for k, d in enumerate(case.draws)]
    in_dims = dims[: len(tensors)]
    for reduction in ("none", "sample", "sum", "batchmean", "mean"):

        def function(*x, reduction=reduction):
            return case.public(*x, batch_dims=2, reduction=reduction)

        entries = [
            function(
                *(x if d is None else x.select(d, i) for x, d in zip(tensors, in_dims, strict=True))
            )
            for i in range(5)
        ]
        torch.testing.assert_close(vmap(function, in_dims)(*tensors), torch.stack(entries))


def test_vmap_of_a_mask():
    logits, target, mask = torch.randn(5, 3, 4), torch.rand(3, 4), torch.rand(5, 4) < 0.5
    actual = vmap(lambda x, m: vf.bernoulli_nll(x, target, mask=m))(logits, mask)
    expected = [vf.bernoulli_nll(x, target, mask=m) for x, m in zip(logits, mask, strict=True)]
    torch.testing.assert_close(actual, torch.stack(expected))


def test_per_sample_gradients_of_a_module():
    net = torch.nn.Linear(6, 6)
    parameters, inputs = dict(net.named_parameters()), torch.rand(5, 6)

    def per_sample(loss):
        def of_one(p, x):
            return loss(functional_call(net, p, (x,)), x)

        return vmap(grad(of_one), (None, 0))(parameters, inputs)

    actual = per_sample(lambda logits, x: vf.bernoulli_nll(logits, x, reduction="sum"))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(actual, per_sample(lambda y, x: bce(y, x, reduction="sum")))


@pytest.mark.parametrize("case", **each_case)
def test_vmap_inside_a_plain_graph(case):
    tensors = leaves(case, 3, 4)
    value = vmap(lambda *x: case.public(*x, reduction="sum"))(*tensors).sum()
    actual = torch.autograd.grad(value, tensors)
    expected = torch.autograd.grad(case.torch(*tensors).sum(), tensors)
    torch.testing.assert_close(actual, expected)


# ---- sampling ------------------------------------------------------------------------------------


def noise(mu, seed=0):
    zeros = torch.zeros_like(mu)
    torch.manual_seed(seed)
    return vf.reparameterize(zeros, zeros)


def plain(mu, logvar, eps):
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
    return mu + (0.5 * logvar).exp() * eps, kl.sum()


def seeded(function, *args, seed=0):
    torch.manual_seed(seed)
    return function(*args)


def ours(mu, logvar):
    z, kl = vf.reparameterize_kl(mu, logvar, reduction="sum")
    return z.pow(3).sum() + kl.square()


SAMPLING_TRANSFORMS = {
    "grad": lambda f: grad(f, (0, 1)),
    "jvp": lambda f: lambda m, v: jvp(f, (m, v), (v, m)),
    "grad_of_grad": lambda f: grad(
        lambda *x: sum(g.square().sum() for g in grad(f, (0, 1))(*x)), (0, 1)
    ),
    "jacfwd_of_jacrev": lambda f: jacfwd(jacrev(f, (0, 1)), (0, 1), randomness="same"),
}


@pytest.mark.parametrize("transform", SAMPLING_TRANSFORMS.values(), ids=SAMPLING_TRANSFORMS.keys())
def test_transforms_of_sampling(transform, backend):
    mu, logvar = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    eps = noise(mu)

    def expected(mu, logvar):
        z, kl = plain(mu, logvar, eps)
        return z.pow(3).sum() + kl.square()

    torch.testing.assert_close(seeded(transform(ours), mu, logvar), transform(expected)(mu, logvar))


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_of_gradients_of_sampling(randomness, backend):
    mu, logvar = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    actual = seeded(vmap(grad(ours, (0, 1)), randomness=randomness), mu, logvar)
    zeros = torch.zeros_like(mu)
    eps = seeded(vmap(vf.reparameterize, randomness=randomness), zeros, zeros)
    assert torch.equal(eps[0], eps[1]) == (randomness == "same")

    def expected(mu, logvar, eps):
        z, kl = plain(mu, logvar, eps)
        return z.pow(3).sum() + kl.square()

    torch.testing.assert_close(actual, vmap(grad(expected, (0, 1)))(mu, logvar, eps))


def test_vmap_inside_a_plain_graph_of_sampling(backend):
    mu, logvar = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    z, kl = vmap(lambda m, v: vf.reparameterize_kl(m, v, reduction="sum"), randomness="different")(
        mu, logvar
    )
    (z.sum() + kl.sum()).backward()
    torch.testing.assert_close(mu.grad, 1 + mu.detach())


def test_vmap_of_sampling_with_a_divergence_of_many_elements(backend):
    """Rows of noise of their own, each long enough that a GPU splits its sum over blocks."""
    mu, logvar = torch.randn(8, 128, 20), torch.randn(8, 128, 20)
    z, kl = vmap(vf.reparameterize_kl, randomness="different")(mu, logvar)
    expected = [vf.reparameterize_kl(*row)[1] for row in zip(mu, logvar, strict=True)]
    torch.testing.assert_close(kl, torch.stack(expected))
    assert not torch.equal(z[0] - mu[0], z[1] - mu[1])


def test_randomness(backend):
    mu = torch.zeros(2, 3)

    def sample(_=None):
        return vf.reparameterize(mu, mu)

    with pytest.raises(RuntimeError, match="randomness"):
        vmap(sample)(torch.zeros(4))
    z = vmap(sample, randomness="different")(torch.zeros(4))  # nothing else is in the batch
    assert z.shape == (4, 2, 3)
    assert z.unique().numel() == 24
    z = vmap(sample, randomness="same")(torch.zeros(4))
    assert torch.equal(z[0], z[3])


@pytest.mark.parametrize("inner", ["same", "different"])
def test_nested_randomness(inner):
    mu = torch.zeros(2, 3)

    def row(_):
        return vmap(lambda m: vf.reparameterize(m, m), randomness=inner)(mu)

    z = vmap(row, randomness="different")(torch.zeros(4))
    assert not torch.equal(z[0], z[1])
    assert torch.equal(z[:, 0], z[:, 1]) == (inner == "same")
    assert z.unique().numel() == (12 if inner == "same" else 24)


def test_vmap_over_seeds():
    """Row q of the seeds drives batch entry q, as it would alone."""
    mu, logvar = torch.randn(3, 70), torch.randn(70)
    seeds = torch.stack([vf.draw_seed() for _ in range(4)])
    z = vmap(lambda s: vf.reparameterize(mu, logvar, seed=s))(seeds)
    for row, seed in zip(z, seeds, strict=True):
        assert torch.equal(row, vf.reparameterize(mu, logvar, seed=seed))
    priors = torch.randn(4, 70), torch.randn(70, 4)

    def both(seed, prior_mu, prior_logvar):
        return vf.reparameterize_kl(mu, logvar, prior_mu, prior_logvar, seed=seed)

    z, kl = vmap(both, (0, 0, 1))(seeds, *priors)
    for q in range(4):
        expected = both(seeds[q], priors[0][q], priors[1][:, q])
        torch.testing.assert_close((z[q], kl[q]), expected)


def test_batched_gradients_of_sampling_with_a_prior():
    """is_grads_batched runs the backward's own batch rule."""
    shapes = ((2, 3, 4), (3, 1), (4,), (2, 1, 4))
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    outputs = vf.reparameterize_kl(*tensors, seed=1, reduction="sample")
    upstream = [torch.randn(5, *x.shape, dtype=torch.float64) for x in outputs]
    options = {"retain_graph": True}
    actual = torch.autograd.grad(outputs, tensors, upstream, is_grads_batched=True, **options)
    each = [
        torch.autograd.grad(outputs, tensors, [u[i] for u in upstream], **options) for i in range(5)
    ]
    for x, *rows in zip(actual, *each, strict=True):
        torch.testing.assert_close(x, torch.stack(rows))


def test_functionalize():
    mu = torch.randn(3, 4)
    expected = seeded(vf.reparameterize_kl, mu, mu)
    torch.testing.assert_close(seeded(functionalize(vf.reparameterize_kl), mu, mu), expected)
