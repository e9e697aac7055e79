"""The noise: Philox's published vectors, one z for one seed everywhere, and normality."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from cases import DTYPES, arithmetic_dtype
from device import default_generator
from tolerance import ulp

import vae_fast as vf
from vae_fast.engine import extension
from vae_fast.latent import noise as plain

CAPABILITIES = extension.C.cpu_capabilities()
VECTOR_CAPABILITIES = [name for name in CAPABILITIES if name != "base"]

# Sizes around blocks of 64 elements, and enough of them for two threads.
SIZES = (1, 15, 16, 63, 64, 65, 1000, 200_003)
SEED = torch.tensor([[-6_148_914_691_236_517_206, 1 << 40]])


def standard(shape, seed=SEED, dtype=torch.float32):
    zeros = torch.zeros(shape, dtype=dtype)
    return vf.reparameterize(zeros, zeros, seed=seed)


# The known-answer vectors of Random123 (kat_vectors): counter, key, result.
VECTORS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_known_answers(counter, key, words):
    actual = plain.philox4x32(
        tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key)
    )
    assert tuple(int(x) for x in actual) == words


def test_order_of_counters():
    """The contract, element by element: block, lane and component, written out in plain Python."""
    key, offset = (int(x) for x in SEED[0])
    words = [offset & 0xFFFFFFFF, offset >> 32 & 0xFFFFFFFF]
    z = standard(200, dtype=torch.float64)
    for i in (0, 5, 16, 31, 47, 63, 64, 130, 199):
        block, place = divmod(i, 64)
        component, lane = divmod(place, 16)
        counter = [block * 16 + lane, 0, *words]
        out = plain.philox4x32(
            tuple(torch.tensor([c]) for c in counter),
            (torch.tensor([key & 0xFFFFFFFF]), torch.tensor([key >> 32 & 0xFFFFFFFF])),
        )
        a, b = (int(x) for x in (out[:2] if component < 2 else out[2:]))
        uniform = np.float32(a >> 1) * np.float32(2.0**-31) + np.float32(2.0**-32)
        radius = math.sqrt(-2 * math.log(uniform))
        low = b & 0x3FFFFFFF
        fraction = (low - (1 << 30) if low >> 29 else low) * 2.0**-30
        angle = ((b >> 30) + fraction) * math.pi / 2
        expected = radius * (math.cos(angle) if component % 2 else math.sin(angle))
        assert abs(z[i].item() - expected) < 1e-14


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_give_the_reference_noise(capability, dtype, cpu_capability):
    """Both beside float64: how exact torch's own float32 functions are is the machine's affair."""
    cpu_capability(capability)
    for size in SIZES:
        exact = plain.normal_noise(SEED, (size,), torch.float64).numpy().astype(np.longdouble)
        for noise in (standard(size, dtype=dtype), plain.normal_noise(SEED, (size,), dtype)):
            error = np.abs(noise.numpy().astype(np.longdouble) - exact)
            assert (error <= 4 * ulp(exact, dtype)).all()


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_for_every_thread_count(capability, dtype, cpu_capability, cpu_threads):
    cpu_capability(capability)
    mu, logvar = (torch.randn(301, 331).to(dtype) for _ in range(2))
    results = []
    for threads in (1, 2, 3):
        cpu_threads(threads)
        results.append(
            (standard((301, 331), dtype=dtype), *vf.reparameterize_kl(mu, logvar, seed=1))
        )
    for z, sample, _ in results[1:]:
        assert torch.equal(z, results[0][0])
        assert torch.equal(sample, results[0][1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_for_every_vector_instruction_set(dtype, cpu_capability):
    """AVX2 and AVX-512 to the bit; base has no fused multiply-add."""
    mu, logvar = (torch.randn(40, 1001).to(dtype) for _ in range(2))
    results = []
    for capability in VECTOR_CAPABILITIES:
        cpu_capability(capability)
        results.append(vf.reparameterize(mu, logvar, seed=1))
    assert all(torch.equal(z, results[0]) for z in results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_base_set_differs_by_rounding(dtype, cpu_capability):
    mu, logvar = (torch.randn(40, 1001).to(dtype) for _ in range(2))
    results = []
    for capability in ("base", *VECTOR_CAPABILITIES):
        cpu_capability(capability)
        results.append(vf.reparameterize(mu, logvar, seed=1))
    size = mu.abs() + (results[0] - mu).abs()  # of the terms
    for z in results[1:]:
        assert ((z - results[0]).abs() <= 8 * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_storage_does_not_change_the_noise(dtype):
    """Half precision rounds the float32 sample; float64 is the same noise, evaluated finer."""
    wide = standard(5000, dtype=arithmetic_dtype(dtype))
    assert torch.equal(standard(5000, dtype=dtype), wide.to(dtype))
    torch.testing.assert_close(
        wide.double(), standard(5000, dtype=torch.float64), rtol=2e-6, atol=2e-6
    )


def test_strides_do_not_change_the_noise(backend):
    mu, logvar = torch.randn(6, 8, 5, 7), torch.randn(6, 8, 5, 7)
    expected = vf.reparameterize(mu, logvar, seed=SEED)
    views = (
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0),
        lambda x: torch.cat([x, x], 1).chunk(2, 1)[1],
        lambda x: x.repeat_interleave(2, -1)[..., ::2],
    )
    for view in views:
        assert torch.equal(vf.reparameterize(view(mu), view(logvar), seed=SEED), expected)
    row = vf.reparameterize(mu, logvar[:, :1], seed=SEED)
    assert torch.equal(row, vf.reparameterize(mu, logvar[:, :1].expand_as(mu), seed=SEED))


def test_every_way_to_sample_gives_the_same_z(backend):
    mu, logvar = torch.randn(9, 40), torch.randn(9, 40)
    z = vf.reparameterize(mu, logvar, seed=SEED)
    assert torch.equal(vf.reparameterize_kl(mu, logvar, seed=SEED)[0], z)
    prior = torch.randn(40), torch.randn(40)
    assert torch.equal(vf.reparameterize_kl(mu, logvar, *prior, seed=SEED)[0], z)
    assert torch.equal(vf.reparameterize_kl(mu, logvar, free_bits=0.1, seed=SEED)[0], z)
    samples = vf.reparameterize(mu, logvar, num_samples=4, seed=SEED)
    again, kl = vf.reparameterize_kl(mu, logvar, num_samples=4, seed=SEED)
    assert torch.equal(samples, again)
    assert torch.equal(samples[0], z)  # the first elements have the first counters
    torch.testing.assert_close(kl, vf.gaussian_kl(mu, logvar))


def test_both_backends_draw_the_same_seed():
    torch.manual_seed(9)
    seed = vf.draw_seed()
    torch.manual_seed(9)
    assert torch.equal(seed, plain.draw_seed())
    assert torch.equal(vf.draw_seed(), plain.draw_seed()) is False


def test_rows_of_seeds_drive_equal_shares():
    seeds = torch.cat([vf.draw_seed() for _ in range(3)])
    zeros = torch.zeros(3, 100)
    z, _ = torch.ops.vae_fast.reparameterize(zeros, zeros, seeds)
    torch.testing.assert_close(z, plain.sample((zeros, zeros), seeds))
    for row, seed in zip(z, seeds, strict=True):
        assert torch.equal(row, standard(100, seed[None]))


# ---- the generator -------------------------------------------------------------------------------


def test_generator_and_state(backend):
    mu = torch.zeros(2, 3)

    def sample(**options):
        return vf.reparameterize_kl(mu, mu, **options)[0]

    default = default_generator(backend)
    torch.manual_seed(3)
    first, second = sample(), sample()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(sample(), first)
    state = default.get_state()
    again = sample()
    default.set_state(state)
    assert torch.equal(sample(), again)
    state = default.get_state()
    generator = torch.Generator(default.device).manual_seed(3)
    assert torch.equal(sample(generator=generator), first)
    assert torch.equal(vf.reparameterize(mu, mu, generator=generator), second)
    assert torch.equal(default.get_state(), state)
    with torch.random.fork_rng():
        sample()
        assert not torch.equal(default.get_state(), state)
    assert torch.equal(default.get_state(), state)


def test_a_drawn_seed_is_what_a_call_draws(backend):
    mu = torch.zeros(2, 3)
    torch.manual_seed(5)
    expected = vf.reparameterize(mu, mu)
    torch.manual_seed(5)
    place = default_generator(backend).device
    seed = vf.draw_seed(device=place)
    assert seed.shape == (1, 2)
    assert seed.dtype == torch.int64
    assert seed.device.type == place.type
    assert torch.equal(vf.reparameterize(mu, mu, seed=seed), expected)
    generator = torch.Generator(place).manual_seed(5)
    assert torch.equal(vf.draw_seed(generator, device=place), seed)
    assert torch.equal(vf.draw_seed(generator.manual_seed(5)), seed.cpu())


def test_integer_seeds(backend):
    assert torch.equal(standard(10, 4), standard(10, torch.tensor([[4, 0]])))
    assert not torch.equal(standard(10, 4), standard(10, 5))
    for seed in (0, -1, 2**63 - 1, -(2**63)):
        assert standard(10, seed).isfinite().all()


# ---- the distribution ----------------------------------------------------------------------------

COUNT = 1_000_000


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def sample_of_a_million(request):
    return standard(COUNT, torch.tensor([[123, 456]]), request.param).cpu().double().numpy()


def test_moments(sample_of_a_million):
    """Within four standard errors; E z^4 = 3, E z^6 = 15 and their variances."""
    z = sample_of_a_million
    variances = {1: 1, 2: 2, 3: 15, 4: 96, 5: 945, 6: 10170}
    for power, variance in variances.items():
        expected = 0 if power % 2 else math.prod(range(1, power, 2))
        assert abs((z**power).mean() - expected) < 4 * math.sqrt(variance / COUNT)


def test_normality(sample_of_a_million):
    assert scipy.stats.kstest(sample_of_a_million, "norm").pvalue > 1e-3
    # Anderson-Darling, which weighs the tails; 3.857 is its 1% point for a known distribution.
    log_cdf = scipy.stats.norm.logcdf(np.sort(sample_of_a_million))
    log_sf = scipy.stats.norm.logsf(np.sort(sample_of_a_million))[::-1]
    weights = 2 * np.arange(1, COUNT + 1) - 1
    assert -COUNT - (weights * (log_cdf + log_sf)).mean() < 3.857


def test_tails(sample_of_a_million):
    for edge in (2.0, 3.0, 4.0):
        expected = COUNT * 2 * scipy.stats.norm.sf(edge)
        count = (np.abs(sample_of_a_million) > edge).sum()
        assert abs(count - expected) < 4 * math.sqrt(expected)


def test_independence(sample_of_a_million):
    """Between neighbours, lanes, the components of one counter, blocks; of squares too."""
    z = sample_of_a_million
    for lag in (1, 2, 15, 16, 17, 32, 48, 64, 128):
        for x in (z, z**2 - 1, np.abs(z) - math.sqrt(2 / math.pi)):
            correlation = (x[:-lag] * x[lag:]).mean() / (x * x).mean()
            assert abs(correlation) < 4.5 / math.sqrt(COUNT)


def test_seeds_are_independent():
    """Neighbouring keys and neighbouring offsets give unrelated noise."""
    count = 200_000
    base = standard(count, torch.tensor([[7, 0]]))
    for seed in ([8, 0], [7, 1], [7 + 2**32, 0], [7, 2**32], [0, 7]):
        other = standard(count, torch.tensor([seed]))
        assert abs((base * other).mean()) < 4.5 / math.sqrt(count)
