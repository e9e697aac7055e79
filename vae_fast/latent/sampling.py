"""Samples of q(z|x), by themselves and with their divergence in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from vae_fast.engine import checks, extension
from vae_fast.engine.call import as_tensor, explain, in_result_dtype, logvar_of
from vae_fast.engine.dtypes import promoted_dtype
from vae_fast.engine.reductions import Reduction, keep_and_mean
from vae_fast.engine.reference import compute
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.latent import noise as plain
from vae_fast.latent.checks import (
    FREE_BITS_PER,
    FreeBitsPer,
    check_given_noise,
    check_latent,
    check_noise_source,
    check_num_samples,
    check_one_draw,
    check_pairs,
)
from vae_fast.latent.divergences import divergence_of, gaussian_kl
from vae_fast.latent.seeds import Generator, Seed, draws_in_kernel, seed_of

_ops = torch.ops.vae_fast


def _expand_samples(
    function: str, num_samples: int, names: Sequence[str], operands: Sequence[Tensor]
) -> Tensor:
    """The first operand as K views of itself, in front of the shape that all broadcast to."""
    check_num_samples(function, num_samples)
    checks.check_operands(function, names, operands)
    # Of z's dtype already: without dimensions it would have had no part in it.
    first = operands[0].to(promoted_dtype(operands))
    return first.expand(num_samples, *broadcast_shape(operands))


def reparameterize(
    mu: Tensor,
    logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    num_samples: int | None = None,
    generator: Generator | None = None,
    seed: Seed | None = None,
    noise: Tensor | None = None,
    antithetic: bool = False,
) -> Tensor:
    """Samples z = mu + exp(logvar / 2) * eps with eps ~ N(0, I).

    The noise is drawn inside the kernel (counter-based, Philox4x32-10); the same seed gives the
    same z to the bit whatever the number of threads, with AVX2 or AVX-512; without them, and on
    another device, it differs by rounding. Element i, in row-major order, has its own noise.
    Kingma and Welling 2014, section 2.4.

    The kernel reads mu and logvar and writes z once: 12 bytes per element in float32, 4 more where
    a gradient in logvar is wanted (which is computed along with z).

    Args:
        mu: Means, any shape.
        logvar: Logarithms of the variances, broadcasts to mu; or a number.
        scale: Standard deviations, in place of logvar, which is then 2 log scale (a pass of its
            own); of a negative one that is NaN, and so is z.
        num_samples: K draws for each element: z is (K, *shape). None: one, of shape (*shape).
        generator: For the seed, of the CPU or of mu's device; None: torch's default one of mu's
            device. A list of them, one for each entry of mu's first dimension: the noise of each
            is its own, the same as where it is drawn alone; not with ``num_samples``.
        seed: What :func:`draw_seed` returned, or an integer: z is then a function of it alone. Of
            (R, 2): one row for each of R equal parts of z, in order. Not with ``generator``.
        noise: The eps itself, of mu's shape, to compare with what another program drew: in plain
            PyTorch. Not with ``num_samples``, ``generator`` or ``seed``.
        antithetic: Of ``num_samples``, which is even, the second half are the first's mirror images
            mu - exp(logvar / 2) eps: the same eps to the last bit, drawn again and not stored.
            ``seed`` is of the first half. The mean of a loss over such a pair varies less, where it
            is not symmetric about mu; the samples of a pair depend on each other.

    Returns:
        z, of mu's shape (behind K) and order in memory, and of the dtype that mu and logvar promote
        to.

    Raises:
        TypeError: An argument has a wrong type or dtype, or neither logvar nor scale is given.
        ValueError: The shapes do not fit, the devices differ, a seed of a wrong shape, both logvar
            and scale, more than one source of noise, num_samples below 1, or odd where they are
            antithetic, or a list of generators that does not fit.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu, logvar = torch.zeros(4, 2), torch.zeros(4, 2)
        >>> vf.reparameterize(mu, logvar).shape
        torch.Size([4, 2])
        >>> vf.reparameterize(mu, logvar, num_samples=10).shape
        torch.Size([10, 4, 2])
        >>> a = vf.reparameterize(mu, logvar, seed=7)
        >>> torch.equal(a, vf.reparameterize(mu, logvar, seed=7))  # the same noise once more
        True
        >>> z = vf.reparameterize(mu, logvar, num_samples=10, antithetic=True)
        >>> torch.equal(z[5:], -z[:5])  # about a mean of zero
        True
    """
    names = ("mu", "logvar")
    if logvar is None or scale is not None:
        logvar = logvar_of("reparameterize", logvar, scale, "mu", mu)
        z = reparameterize(
            mu,
            logvar,
            num_samples=num_samples,
            generator=generator,
            seed=seed,
            noise=noise,
            antithetic=antithetic,
        )
        return in_result_dtype(z, mu, scale)
    logvar = as_tensor(logvar, mu)
    if antithetic:
        check_pairs("reparameterize", num_samples)
    if noise is not None:
        checks.check_operands("reparameterize", names, (mu, logvar))
        checks.check_shapes("reparameterize", names, (mu, logvar), None, 0)
        sources = {"num_samples": num_samples, "generator": generator, "seed": seed}
        check_given_noise("reparameterize", noise, mu, sources)
        return plain.moved((mu, logvar), noise)
    if antithetic:
        checks.check_operands("reparameterize", names, (mu, logvar))
        check_one_draw("reparameterize", generator)
        seed = seed_of("reparameterize", generator, seed, mu)
        half = partial(
            reparameterize, logvar=logvar, num_samples=cast(int, num_samples) // 2, seed=seed
        )
        # Not 2 mu - z, in which a small sigma has lost its last bits.
        return torch.cat((half(mu), -half(-mu)))
    try:
        if logvar.shape != mu.shape:
            checks.check_shapes("reparameterize", names, (mu, logvar), None, 0)
        if num_samples is not None:
            check_one_draw("reparameterize", generator)
            mu = _expand_samples("reparameterize", num_samples, names, (mu, logvar))
        kernels = extension.kernels
        if (kernels is None or not mu.is_cpu) and extension.use_reference(mu.device.type):
            checks.check_operands("reparameterize", names, (mu, logvar))
            return plain.sample((mu, logvar), seed_of("reparameterize", generator, seed, mu))
        drawn: Tensor | None = None
        if draws_in_kernel(generator, seed):
            drawn = kernels.reparameterize(mu, logvar, generator)
        if drawn is None:
            seeds = seed_of("reparameterize", generator, seed, mu)
            drawn = _ops.reparameterize(mu, logvar, seeds)[0]
        return cast(Tensor, drawn)
    except Exception:
        checks.check_operands("reparameterize", names, (mu, logvar))
        check_noise_source("reparameterize", generator, seed, mu)
        raise


def reparameterize_kl(
    mu: Tensor,
    logvar: Tensor | float | None = None,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    num_samples: int | None = None,
    generator: Generator | None = None,
    seed: Seed | None = None,
    free_bits: float = 0.0,
    free_bits_per: FreeBitsPer = "dimension",
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> tuple[Tensor, Tensor]:
    """:func:`reparameterize` and :func:`gaussian_kl` in one pass over mu and logvar.

    The kernel reads mu and logvar and writes z once: 12 bytes per element in float32, 4 more where
    a gradient in logvar is wanted. With ``num_samples`` or ``free_bits`` it is two passes.

    Args:
        mu: Means (*batch, *latent).
        logvar: Logarithms of the variances, broadcasts to mu; or a number.
        prior_mu: Means of the prior, broadcasts to mu; or a number. Both of the prior's, or
            neither.
        prior_logvar: Logarithms of the prior's variances, likewise.
        scale: In place of logvar, as in :func:`reparameterize`.
        num_samples: As in :func:`reparameterize`; the divergence does not depend on it.
        generator: As in :func:`reparameterize`.
        seed: As in :func:`reparameterize`.
        free_bits: As in :func:`gaussian_kl`.
        free_bits_per: As in :func:`gaussian_kl`.
        batch_dims: How many leading dimensions (of mu, not counting samples) are batch.
        reduction: Of the divergence. See :mod:`vae_fast`.

    Returns:
        (z, kl). z has mu's shape, behind K where num_samples is given, and the dtype that mu,
        logvar and the prior's parameters promote to.

    Raises:
        TypeError: As :func:`reparameterize` and :func:`gaussian_kl`.
        ValueError: As :func:`reparameterize` and :func:`gaussian_kl`.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu = torch.tensor([[0.0, 1.0]], requires_grad=True)
        >>> z, kl = vf.reparameterize_kl(mu, torch.zeros(1, 2), seed=0)
        >>> z.shape, kl.item()
        (torch.Size([1, 2]), 0.5)
    """
    function = "reparameterize_kl"
    if logvar is None or scale is not None:
        z, kl = reparameterize_kl(
            mu,
            logvar_of(function, logvar, scale, "mu", mu, prior_mu, prior_logvar),
            prior_mu,
            prior_logvar,
            num_samples=num_samples,
            generator=generator,
            seed=seed,
            free_bits=free_bits,
            free_bits_per=free_bits_per,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        z = in_result_dtype(z, mu, scale, prior_mu, prior_logvar)
        return z, kl if reduction != "none" else kl.to(z.dtype)
    op, operands = divergence_of(function, mu, logvar, prior_mu, prior_logvar)
    if num_samples is not None or free_bits != 0 or free_bits_per not in FREE_BITS_PER:
        if num_samples is not None:
            check_num_samples(function, num_samples)
            check_one_draw(function, generator)
        kl = gaussian_kl(
            *operands,
            free_bits=free_bits,
            free_bits_per=free_bits_per,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        return reparameterize(
            mu, operands[1], num_samples=num_samples, generator=generator, seed=seed
        ), kl
    try:
        if mu.dim() <= batch_dims:
            check_latent(function, mu, batch_dims, reduction)
        of_all: Any = (*operands, None, None)
        variance, prior_mean, prior_variance = of_all[1:4]
        keep, mean = (
            (0, batch_dims)
            if reduction == "batchmean"
            else keep_and_mean(reduction, batch_dims, mu)
        )
        kernels = extension.kernels
        if (kernels is None or not mu.is_cpu) and extension.use_reference(mu.device.type):
            explain(function, op, operands, None, batch_dims, reduction)
            z = plain.sample(operands, seed_of(function, generator, seed, mu))
            return z, compute(op, operands, None, keep, mean)
        both: tuple[Tensor, Tensor] | None = None
        if draws_in_kernel(generator, seed):
            both = kernels.reparameterize_kl(
                mu, variance, prior_mean, prior_variance, generator, keep, mean, batch_dims
            )
        if both is None:
            explain(function, op, operands, None, batch_dims, reduction)
            seeds = seed_of(function, generator, seed, mu)
            z, kl, _ = _ops.reparameterize_kl(
                mu, variance, prior_mean, prior_variance, seeds, keep, mean
            )
            both = z, kl
        return both
    except Exception:
        explain(function, op, operands, None, batch_dims, reduction)
        check_noise_source(function, generator, seed, mu)
        raise
