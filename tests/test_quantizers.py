"""Quantizers against the formulas of their papers, written out with one-hot matrices in float64."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import vae_fast as vf
from vae_fast.data import load
from vae_fast.latent.quantizers import (
    FSQ,
    LFQ,
    GroupedQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from vae_fast.latent.quantizers.gradients import rotation

pytestmark = pytest.mark.of_samples

EACH = {
    "ema": lambda dim=-1: VectorQuantizer(16, 6, dim=dim),
    "gradient": lambda dim=-1: VectorQuantizer(16, 6, update="gradient", dim=dim),
    "rotation": lambda dim=-1: VectorQuantizer(16, 6, gradient="rotation", dim=dim),
    "residual": lambda dim=-1: ResidualQuantizer(
        (VectorQuantizer(8, 6) for _ in range(3)), dim=dim
    ),
    "grouped": lambda dim=-1: GroupedQuantizer((VectorQuantizer(8, 3) for _ in range(2)), dim=dim),
    "fsq": lambda dim=-1: FSQ([8, 5, 5, 2, 3, 4], dim=dim),
    "lfq": lambda dim=-1: LFQ(6, dim=dim),
}


@pytest.fixture(autouse=True)
def _recompile():
    """Each kind is the same code to the compiler, whose limit of versions is not what is tested."""
    torch.compiler.reset()


def started(quantizer):
    """With the codebooks that it was made with, and none of the first batch."""
    for part in quantizer.modules():
        if isinstance(part, VectorQuantizer):
            part.started.fill_(True)
    return quantizer


def code_points(bits):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)), dtype=torch.float64)


# ---- what all share ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EACH)
def test_pictures_are_read_along_dimension_1(kind):
    rows, pictures = EACH[kind](), EACH[kind](dim=1)
    pictures.load_state_dict(rows.state_dict())
    x = torch.randn(2, 5, 4, 6)
    found, seen = rows.eval()(x), pictures.eval()(x.permute(0, 3, 1, 2))
    torch.testing.assert_close(found.quantized.permute(0, 3, 1, 2), seen.quantized)
    assert torch.equal(found.indices, seen.indices)
    assert found.loss == seen.loss
    assert seen.indices.shape[:3] == (2, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", EACH)
def test_indices_decode_to_what_was_quantized(kind, dtype):
    quantizer = EACH[kind](dim=1)
    quantizer(torch.randn(64, 6, 3))
    if dtype == torch.float64:
        quantizer.double()
    x = torch.randn(10, 6, 3, dtype=dtype, requires_grad=True)
    found = quantizer.eval()(x)
    assert found.quantized.dtype == dtype
    assert found.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    decoded = quantizer.decode(found.indices)
    assert torch.equal(decoded.to(dtype), found.quantized)
    assert torch.equal(quantizer.decode(found.indices.int()), decoded)
    (found.quantized.sum() + found.loss).backward()
    assert x.grad.dtype == dtype
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", EACH)
def test_in_evaluation_nothing_changes_and_it_compiles_whole(kind):
    quantizer = EACH[kind]()
    quantizer(torch.randn(64, 6))
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    x = torch.randn(40, 6)
    found = quantizer(x)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(x)
    for name, value in found._asdict().items():
        torch.testing.assert_close(getattr(compiled, name), value, msg=name)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("kind", EACH)
def test_in_training_it_compiles_whole_too(kind):
    torch.manual_seed(0)
    quantizer, same = EACH[kind](), EACH[kind]()
    same.load_state_dict(quantizer.state_dict())
    compiled = torch.compile(same, fullgraph=True, backend="aot_eager")
    for x in torch.randn(3, 40, 6):
        state = torch.get_rng_state()
        found = quantizer(x)
        torch.set_rng_state(state)
        torch.testing.assert_close(compiled(x).quantized, found.quantized)
    torch.testing.assert_close(dict(same.state_dict()), dict(quantizer.state_dict()))


@pytest.mark.parametrize("kind", EACH)
def test_gradients_of_each_row_of_a_batch(kind):
    quantizer = started(EACH[kind]()).eval()

    def loss(x):
        found = quantizer(x)
        return found.loss + found.quantized.square().sum()

    x = torch.randn(7, 10, 6)
    together = torch.func.vmap(torch.func.grad(loss))(x)
    torch.testing.assert_close(together, torch.stack([torch.func.grad(loss)(row) for row in x]))


@pytest.mark.parametrize("kind", EACH)
def test_a_stored_state_goes_on_exactly(kind):
    torch.manual_seed(1)
    batches = [torch.randn(64, 6) for _ in range(6)]
    first = EACH[kind]()
    for x in batches[:3]:
        first(x)
    second = EACH[kind]()
    second.load_state_dict(first.state_dict())
    state = torch.get_rng_state()
    wanted = [first(x) for x in batches[3:]]
    torch.set_rng_state(state)
    came = [second(x) for x in batches[3:]]
    for before, after in zip(wanted, came, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize("kind", EACH)
def test_perplexity_and_usage_are_those_of_the_counts(kind):
    quantizer = started(EACH[kind]()).eval()
    found = quantizer(torch.randn(50, 6))
    each = getattr(quantizer, "quantizers", [quantizer])
    for part, indices, perplexity, usage in zip(
        each,
        found.indices.reshape(50, -1).T,
        found.perplexity.reshape(-1),
        found.usage.reshape(-1),
        strict=True,
    ):
        share = torch.bincount(indices)[indices.unique()].double() / 50
        expected = (-(share * share.log()).sum()).exp()
        assert perplexity.item() == pytest.approx(expected.item(), rel=1e-5)
        assert usage.item() == pytest.approx(len(share) / part.num_codes, rel=1e-6)


# ---- vector quantization -------------------------------------------------------------------------


def test_codes_and_losses_by_one_hot_matrices():
    quantizer = started(VectorQuantizer(16, 6, update="gradient", commitment_weight=0.3)).double()
    x = torch.randn(50, 6, dtype=torch.float64, requires_grad=True)
    found = quantizer.eval()(x)
    codebook = quantizer.codebook.detach().requires_grad_()
    distance = (x.detach().unsqueeze(1) - codebook.detach()).square().sum(-1)
    one_hot = functional.one_hot(distance.argmin(1), 16).double()
    code = one_hot @ codebook
    moved = (x.detach() - code).square().sum(1).mean()
    commitment = (x - code.detach()).square().sum(1).mean()
    torch.testing.assert_close(found.quantized, code)
    torch.testing.assert_close(found.codebook, moved)
    torch.testing.assert_close(found.commitment, commitment)
    torch.testing.assert_close(found.loss, moved + 0.3 * commitment)
    upstream = torch.randn_like(x)
    (found.loss + (found.quantized * upstream).sum()).backward()
    (of_commitment,) = torch.autograd.grad(commitment, x)
    torch.testing.assert_close(x.grad, 0.3 * of_commitment + upstream)
    torch.testing.assert_close(quantizer.codebook.grad, *torch.autograd.grad(moved, codebook))


def test_moving_averages_by_the_one_hot_formula():
    """N_i = g N_i + (1 - g) n_i, m_i = g m_i + (1 - g) sum of x, e_i = m_i / N_i."""
    torch.manual_seed(2)
    quantizer = started(VectorQuantizer(8, 3, decay=0.9, restart_below=0.0)).double()
    count = torch.ones(8, dtype=torch.float64)
    codebook = quantizer.codebook.clone()
    codebook[7] = 100.0  # nothing ever comes to it
    quantizer.codebook.copy_(codebook)
    mean = codebook.clone()
    for step in range(30):
        x = torch.randn(4, 10, 3, dtype=torch.float64) + 0.1 * step
        indices = torch.cdist(x.reshape(40, 3), codebook).argmin(1)
        one_hot = functional.one_hot(indices, 8).double()
        found = quantizer(x)
        torch.testing.assert_close(found.quantized.reshape(40, 3), one_hot @ codebook)
        assert found.codebook == 0
        assert found.loss == 0.25 * found.commitment
        count = 0.9 * count + 0.1 * one_hot.sum(0)
        mean = 0.9 * mean + 0.1 * one_hot.T @ x.reshape(40, 3)
        codebook = mean / count.unsqueeze(1)
        torch.testing.assert_close(quantizer.codebook, codebook)
        torch.testing.assert_close(quantizer.counts, count)
    assert (quantizer.codebook[7] == 100.0).all()


def test_moving_averages_do_not_fade_where_counts_underflow():
    quantizer = started(VectorQuantizer(2, 1, decay=0.1, restart_below=0.0))
    quantizer.codebook.copy_(torch.tensor([[0.0], [5.0]]))
    for _ in range(60):
        quantizer(torch.zeros(4, 1))
    assert quantizer.counts[1] == 0
    assert quantizer.codebook.tolist() == [[0.0], [5.0]]


def test_the_first_batch_is_the_first_codebook():
    quantizer = VectorQuantizer(16, 6, decay=0.99)
    x = torch.randn(40, 6) + 50
    found = quantizer(x)
    rows = {tuple(row) for row in x.tolist()}
    assert {tuple(row) for row in found.quantized.tolist()} <= rows
    assert found.usage > 0.5
    assert quantizer.started


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_codes_that_stand_for_little_restart(update):
    quantizer = started(VectorQuantizer(4, 2, update=update, decay=0.5, restart_below=0.1))
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [90.0, 0], [0, 90.0], [90.0, 90.0]]))
    usage = [quantizer(torch.randn(64, 2)).usage.item() for _ in range(30)]
    assert usage[0] == 0.25
    assert usage[-1] == 1.0
    assert quantizer.codebook.abs().max() < 10


def test_without_restarts_a_dead_code_stays():
    quantizer = started(VectorQuantizer(2, 1, restart_below=0.0, decay=0.5))
    quantizer.codebook.copy_(torch.tensor([[0.0], [90.0]]))
    for _ in range(20):
        quantizer(torch.rand(8, 1))
    assert quantizer.codebook[1] == 90.0


def test_rotations_gradient_is_that_of_the_householder_matrices():
    torch.manual_seed(4)
    x = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    code, upstream = torch.randn(2, 20, 5, dtype=torch.float64)
    value = rotation(x, code)
    assert torch.equal(value, code)
    (value * upstream).sum().backward()
    for row in range(20):
        e, q = x[row].detach(), code[row]
        e_hat, q_hat = e / e.norm(), q / q.norm()
        r = (e_hat + q_hat) / (e_hat + q_hat).norm()
        matrix = torch.eye(5, dtype=torch.float64) - 2 * torch.outer(r, r)
        matrix = (matrix + 2 * torch.outer(q_hat, e_hat)) * (q.norm() / e.norm())
        torch.testing.assert_close(matrix @ e, q)
        torch.testing.assert_close(x.grad[row], matrix.T @ upstream[row])


def test_rotations_gradient_where_there_is_no_direction():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    code = torch.tensor([[1.0, 1.0], [0.0, 0.0], [-1.0, -2.0]])
    rotation(x, code).sum().backward()
    assert x.grad[0].tolist() == [1.0, 1.0]  # as it is
    assert x.grad[1].tolist() == [0.0, 0.0]  # a stretch by 0
    # Turned by half a turn along x, as the bisector is none: R = 1 + 2 c e^T.
    e = x[2].detach() / x[2].detach().norm()
    torch.testing.assert_close(x.grad[2], torch.ones(2) - 2 * e * e.sum())


def test_in_a_residual_quantizer_each_takes_what_is_left():
    quantizer = started(EACH["residual"]()).eval()
    x = torch.randn(30, 6, requires_grad=True)
    found = quantizer(x)
    rest, commitment = x, 0.0
    for part, index in zip(quantizer.quantizers, found.indices.T, strict=True):
        assert torch.equal(vf.nearest_code(rest, part.codebook), index)
        commitment = commitment + (rest - part.codebook[index]).square().sum(1).mean()
        rest = rest - part.codebook[index]
    torch.testing.assert_close(found.quantized, x - rest)
    torch.testing.assert_close(found.commitment, commitment)
    (gradient,) = torch.autograd.grad(found.quantized.sum(), x, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(x))  # once, not once for each quantizer
    (gradient,) = torch.autograd.grad(found.commitment, x)
    torch.testing.assert_close(gradient, *torch.autograd.grad(commitment, x))


def test_a_grouped_quantizer_is_its_parts():
    quantizer = started(EACH["grouped"]()).eval()
    x = torch.randn(30, 6)
    found = quantizer(x)
    parts = [part(half) for part, half in zip(quantizer.quantizers, x.split(3, 1), strict=True)]
    assert torch.equal(found.quantized, torch.cat([part.quantized for part in parts], 1))
    assert torch.equal(found.indices, torch.stack([part.indices for part in parts], 1))
    torch.testing.assert_close(found.loss, sum(part.loss for part in parts))
    assert quantizer.num_codes == 64


# ---- finite scalars ------------------------------------------------------------------------------


def test_fsq_is_the_papers_code():
    """Mentzer et al. 2023, appendix A.1."""
    quantizer = FSQ([8, 5, 5, 5]).double()
    x = (3 * torch.randn(500, 4, dtype=torch.float64)).requires_grad_()
    levels = torch.tensor([8, 5, 5, 5], dtype=torch.float64)
    half = (levels - 1) * (1 - 1e-3) / 2
    offset = torch.where(levels % 2 == 1, 0.0, 0.5)
    bounded = (x + (offset / half).tan()).tanh() * half - offset
    code = bounded.round() / (levels // 2)
    found = quantizer(x)
    torch.testing.assert_close(found.quantized, code)
    digits = (code * (levels // 2) + levels // 2).round()
    expected = (digits * torch.tensor([1.0, 8.0, 40.0, 200.0])).sum(1).long()
    assert torch.equal(found.indices, expected)
    (gradient,) = torch.autograd.grad(found.quantized.sum(), x, retain_graph=True)
    (expected,) = torch.autograd.grad((bounded / (levels // 2)).sum(), x)
    torch.testing.assert_close(gradient, expected)
    assert found.loss == 0


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [2, 3, 4], [7], [8, 6, 5]])
def test_fsq_reaches_every_level_and_no_other(levels):
    quantizer = FSQ(levels)
    assert quantizer.num_codes == math.prod(levels)
    x = torch.linspace(-9, 9, 4001).unsqueeze(1).expand(-1, len(levels))
    found = quantizer(x)
    for i, level in enumerate(levels):
        half = level // 2
        expected = [(k - half) / half for k in range(level)]
        assert found.quantized[:, i].unique().tolist() == pytest.approx(expected)
    assert (quantizer(torch.zeros(1, len(levels))).quantized == 0).all()
    every = torch.arange(quantizer.num_codes)
    codes = quantizer.decode(every)
    assert len(codes.unique(dim=0)) == quantizer.num_codes
    bounds = torch.tensor([level // 2 for level in levels])
    assert torch.equal(((codes * bounds + bounds).round().long() * quantizer.steps).sum(1), every)


# ---- lookup-free ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_lfqs_entropies_by_a_softmax_over_all_codes(bits):
    torch.manual_seed(bits)
    x = torch.randn(30, bits, dtype=torch.float64, requires_grad=True)
    distance = (x.unsqueeze(1) - code_points(bits)).square().sum(-1)
    share = (-distance / 0.7).softmax(1)
    expected = torch.special.entr(share).sum(1).mean() - torch.special.entr(share.mean(0)).sum()
    found = LFQ(bits, temperature=0.7, entropy_weight=0.2, commitment_weight=0.3)(x)
    torch.testing.assert_close(found.entropy, expected)
    commitment = (x - x.detach().sign()).square().sum(1).mean()
    torch.testing.assert_close(found.loss, 0.2 * expected + 0.3 * commitment)
    (gradient,) = torch.autograd.grad(found.entropy, x)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, x))


def test_lfqs_entropy_of_many_bits_is_at_most_the_exact_one(monkeypatch):
    """In groups H(code) is an upper bound, so that the term is a lower one."""
    x = torch.randn(30, 6, dtype=torch.float64)
    exact = LFQ(6)(x).entropy
    monkeypatch.setattr("vae_fast.latent.quantizers.lookup_free._HALF", 1)
    assert LFQ(6)(x).entropy < exact
    assert LFQ(40)(torch.randn(30, 40)).entropy.isfinite()


@pytest.mark.parametrize("size", [0.0, 1e-3, 30.0, 1e4])
def test_lfqs_gradient_is_finite(size):
    x = (size * torch.randn(20, 6)).requires_grad_()
    found = LFQ(6)(x)
    found.entropy.backward()
    assert found.entropy.isfinite()
    assert x.grad.isfinite().all()


def test_lfqs_codes_are_signs_and_indices_their_bits():
    quantizer = LFQ(62)
    x = torch.randn(9, 62)
    found = quantizer(x)
    assert torch.equal(found.quantized, x.sign())
    for row, index in zip(x, found.indices.tolist(), strict=True):
        assert index == sum(2**i for i in range(62) if row[i] > 0)
    assert LFQ(2)(torch.zeros(1, 2)).quantized.tolist() == [[-1.0, -1.0]]  # the paper's sign(0)


# ---- what is wrong, and what learns --------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: VectorQuantizer(0, 4), ValueError, "num_codes is 0, expected at least 1"),
        (lambda: VectorQuantizer(4, 2.0), TypeError, "code_dim is of type float, expected int"),
        (lambda: VectorQuantizer(4, 4, update="sgd"), ValueError, "update is 'sgd'"),
        (lambda: VectorQuantizer(4, 4, gradient="none"), ValueError, "gradient is 'none'"),
        (lambda: VectorQuantizer(4, 4, decay=1.0), ValueError, "decay is 1.0, expected at least 0"),
        (lambda: VectorQuantizer(4, 4, decay="1"), TypeError, "decay is of type str"),
        (lambda: VectorQuantizer(4, 4)(torch.ones(2, 3)), ValueError, r"x has shape \(2, 3\)"),
        (lambda: VectorQuantizer(4, 4)(torch.ones(2, 4).long()), TypeError, "dtype torch.int64"),
        (lambda: VectorQuantizer(4, 4).decode(torch.ones(2)), TypeError, "indices have dtype"),
        (lambda: FSQ([8, 1]), ValueError, "levels is 1, expected at least 2"),
        (lambda: FSQ([]), ValueError, "expected at least one"),
        (lambda: FSQ([2.0]), TypeError, "levels is of type float"),
        (lambda: LFQ(63), ValueError, "num_bits is 63, expected at most 62"),
        (lambda: LFQ(3, temperature=0), ValueError, "temperature is 0, expected a number of more"),
        (lambda: LFQ(3, entropy_weight=None), TypeError, "entropy_weight is of type NoneType"),
        (lambda: ResidualQuantizer([]), ValueError, "expected at least one quantizer"),
        (lambda: ResidualQuantizer([LFQ(2), LFQ(3)]), ValueError, r"of sizes \[2, 3\]"),
        (lambda: GroupedQuantizer([]), ValueError, "quantizers is empty"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq", "lfq"])
def test_an_auto_encoder_of_digits_learns_with_it(kind):
    """8 x 8 pictures by 16 codes of 4 numbers: the loss falls, and more than half are used."""
    torch.manual_seed(0)
    x = load("digits").train.float().reshape(-1, 64) / 255
    quantizer = {
        "ema": lambda: VectorQuantizer(32, 4),
        "gradient": lambda: VectorQuantizer(32, 4, update="gradient", gradient="rotation"),
        "fsq": lambda: FSQ([4, 4, 3]),
        "lfq": lambda: LFQ(5),
    }[kind]()
    size = quantizer.code_dim
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16 * size))
    decoder = nn.Sequential(nn.Linear(16 * size, 64), nn.ReLU(), nn.Linear(64, 64))
    parameters = [*encoder.parameters(), *decoder.parameters(), *quantizer.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    losses = []
    for step in range(150):
        batch = x[torch.randint(len(x), (128,))]
        found = quantizer(encoder(batch).unflatten(1, (16, size)))
        nll = vf.bernoulli_nll(decoder(found.quantized.flatten(1)), batch)
        optimizer.zero_grad()
        (nll + found.loss).backward()
        optimizer.step()
        losses.append(nll.item())
        assert math.isfinite(losses[-1]), step
    start, end = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert end < 0.7 * start
    assert quantizer.eval()(encoder(x).unflatten(1, (16, size))).usage > 0.5
