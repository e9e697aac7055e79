"""The public functions.

The path of a call is a straight line: a function here, the op's C++ entry, its kernel. Under
torch.compile the op is called by way of ``torch.ops``, which the compiler sees through; on devices
without kernels, :mod:`vae_fast.reference` computes in plain PyTorch.

Conventions of all functions:

Reductions, of a loss of shape (*batch, *event), where ``batch_dims`` says how many dimensions are
batch: ``"none"`` every element; ``"sample"`` the sum over the event, one value per batch entry;
``"sum"`` the sum over everything; ``"batchmean"`` that sum divided by the number of batch entries
(the ELBO's term per datum); ``"mean"`` the mean over all elements. All values are in nats.

Dtypes: float32, float64, bfloat16 and float16. Arithmetic and sums are in float32, in float64 where
an operand is float64. Where something is summed the result is at least float32; elementwise results
and z have the dtype that the operands promote to. Gradients have their operand's dtype.

Shapes: the first argument (logits, a mean, mu) has the shape of the loss. A target has it too, but
for leading batch dimensions: samples of z, (K, B, D) against (B, D), with ``batch_dims=2``. Other
parameters, priors and masks broadcast to it, and never make it larger. Any of them may be a strided
view: nothing is copied. A parameter that is a number is used as it is, in the arithmetic's dtype.

Errors: a ValueError (shapes, devices, values) or TypeError (types, dtypes) that says which argument
is wrong, what was expected and what came, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, cast

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from vae_fast import checks, reference
from vae_fast._extension import BACKEND, C, use_reference
from vae_fast.seeds import Generator, Seed, draw_seed, draws_in_kernel, seed_of

if C is not None:
    from vae_fast import _rules  # noqa: F401  (registers what the ops need from Python)

__all__ = [
    "ELBO",
    "bernoulli_nll",
    "draw_seed",
    "elbo_loss",
    "gaussian_kl",
    "gaussian_nll",
    "multinomial_nll",
    "reparameterize",
    "reparameterize_kl",
]

Reduction = Literal["none", "sample", "sum", "batchmean", "mean"]
FreeBitsPer = Literal["dimension", "sample"]

_kernels: Any = C if BACKEND == "compiled" else None
_on_cpu = _kernels is not None  # asked first, because a device's name takes long to ask for
_ops = torch.ops.vae_fast
_is_compiling = torch.compiler.is_compiling


def keep_and_mean(reduction: str, batch_dims: int, first: Tensor) -> tuple[int, int]:
    """A public reduction as the ops have it: dimensions kept, dimensions averaged over."""
    if reduction == "sample":
        return batch_dims, 0
    if reduction == "sum":
        return 0, 0
    dims = first.dim()
    if reduction == "none":
        return dims, 0
    if reduction == "mean":
        return 0, dims
    if reduction == "batchmean":
        return 0, batch_dims
    raise ValueError(reduction)


def _loss(
    function: str,
    op: str,
    operands: tuple[Tensor, ...],
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> Tensor:
    """The op of an elementwise loss, on behalf of the public function ``function``."""
    try:
        keep, mean = (
            (0, batch_dims)  # the default, without a call
            if reduction == "batchmean"
            else keep_and_mean(reduction, batch_dims, operands[0])
        )
        if not (_on_cpu and operands[0].is_cpu) and use_reference(operands[0].device.type):
            _explain_loss(function, op, operands, mask, batch_dims, reduction)
            return reference.evaluate(op, operands, mask, keep, mean)
        if _is_compiling():
            _explain_loss(function, op, operands, mask, batch_dims, reduction)
            value: Tensor = getattr(_ops, op)(*operands, mask, keep, mean)[0]
        else:
            value = getattr(_kernels, op)(*operands, mask, keep, mean, batch_dims)
        return value
    except Exception:
        _explain_loss(function, op, operands, mask, batch_dims, reduction)
        raise


def _as_tensor(value: Tensor | float, *others: Any) -> Tensor:
    """A parameter that may be a number: by value, in the dtype of the arithmetic."""
    if isinstance(value, Tensor) or not checks.is_number(value):
        return cast(Tensor, value)  # the checks say what it is, if it is neither
    tensors = [x for x in others if isinstance(x, Tensor)]
    if not tensors:
        return cast(Tensor, value)
    dtype = reference.arithmetic_dtype(tensors)
    # A fill: a copy of host memory would wait for the GPU, and could not be captured in a graph.
    return torch.full((), float(value), dtype=dtype, device=tensors[0].device)


def _logvar_of(
    function: str,
    logvar: Tensor | float | None,
    scale: Tensor | float | None,
    name: str,
    first: Tensor,
    *others: Any,
) -> Tensor:
    """2 log scale, in the dtype of the arithmetic, for the logvar that was not given.

    ``name`` is that of the ``first`` operand, whose shape is the loss's.
    """
    checks.check_one_spelling(function, logvar, scale)
    root = _as_tensor(cast(Tensor, scale), first)
    names, operands = (name, "scale"), (first, root)
    checks.check_operands(function, names, operands)
    checks.check_shapes(function, names, operands, None, 0)
    tensors = [x for x in (*operands, *others) if isinstance(x, Tensor)]
    return 2 * torch.log(root.to(reference.arithmetic_dtype(tensors)))


def _elementwise(value: Tensor, *operands: Any) -> Tensor:
    """In the dtype of elementwise results, as where scale, and not its logarithm, is an operand."""
    return value.to(reference.result_dtype([x for x in operands if isinstance(x, Tensor)]))


def _explain_loss(
    function: str,
    op: str,
    operands: tuple[Tensor, ...],
    mask: Tensor | None,
    batch_dims: int,
    reduction: str,
) -> None:
    """Raises the error that says what is wrong with the arguments, if anything is.

    The kernels' own entries look at the same by themselves, and fast.
    """
    names = reference.LOSSES[op].operands
    checks.check_operands(function, names, operands, mask)
    checks.check_public_reduction(function, reduction, batch_dims, operands[:1])
    checks.check_shapes(function, names, operands, mask, batch_dims)


# ---- sampling ------------------------------------------------------------------------------------


def _expand_samples(
    function: str, num_samples: int, names: Sequence[str], operands: Sequence[Tensor]
) -> Tensor:
    """The first operand as K views of itself, in front of the shape that all broadcast to."""
    checks.check_num_samples(function, num_samples)
    checks.check_operands(function, names, operands)
    # Of z's dtype already: without dimensions it would have had no part in it.
    first = operands[0].to(reference.promoted_dtype(operands))
    return first.expand(num_samples, *reference.broadcast_shape(operands))


def reparameterize(
    mu: Tensor,
    logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    num_samples: int | None = None,
    generator: Generator | None = None,
    seed: Seed | None = None,
    noise: Tensor | None = None,
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

    Returns:
        z, of mu's shape (behind K) and order in memory, and of the dtype that mu and logvar promote
        to.

    Raises:
        TypeError: An argument has a wrong type or dtype, or neither logvar nor scale is given.
        ValueError: The shapes do not fit, the devices differ, a seed of a wrong shape, both logvar
            and scale, more than one source of noise, num_samples below 1, or a list of generators
            that does not fit.
    """
    names = ("mu", "logvar")
    if logvar is None or scale is not None:
        logvar = _logvar_of("reparameterize", logvar, scale, "mu", mu)
        z = reparameterize(
            mu, logvar, num_samples=num_samples, generator=generator, seed=seed, noise=noise
        )
        return _elementwise(z, mu, scale)
    logvar = _as_tensor(logvar, mu)
    if noise is not None:
        checks.check_operands("reparameterize", names, (mu, logvar))
        checks.check_shapes("reparameterize", names, (mu, logvar), None, 0)
        sources = {"num_samples": num_samples, "generator": generator, "seed": seed}
        checks.check_given_noise("reparameterize", noise, mu, sources)
        return reference.moved((mu, logvar), noise)
    try:
        if logvar.shape != mu.shape:
            checks.check_shapes("reparameterize", names, (mu, logvar), None, 0)
        if num_samples is not None:
            checks.check_one_draw("reparameterize", generator)
            mu = _expand_samples("reparameterize", num_samples, names, (mu, logvar))
        if not (_on_cpu and mu.is_cpu) and use_reference(mu.device.type):
            seed = seed_of("reparameterize", generator, seed, mu)
            return reference.reparameterize(mu, logvar, seed)
        if draws_in_kernel(generator, seed):
            z = cast(Tensor, _kernels.reparameterize(mu, logvar, generator))
        else:
            z = _ops.reparameterize(mu, logvar, seed_of("reparameterize", generator, seed, mu))[0]
        return z
    except Exception:
        checks.check_operands("reparameterize", names, (mu, logvar))
        checks.check_noise_source("reparameterize", generator, seed, mu)
        raise


def gaussian_kl(
    mu: Tensor,
    logvar: Tensor | float | None = None,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    free_bits: float = 0.0,
    free_bits_per: FreeBitsPer = "dimension",
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))), diagonal, in nats.

    Without a prior it is the standard normal N(0, I): 0.5 (mu^2 + exp(logvar) - 1 - logvar), of
    Kingma and Welling 2014, appendix B, evaluated so that nothing cancels: it is never negative.

    The kernel reads the operands once and, where gradients are wanted, writes them once: 8 bytes
    per element in float32, 16 with gradients; twice that with a prior.

    Args:
        mu: Means (*batch, *latent).
        logvar: Logarithms of the variances, broadcasts to mu; or a number.
        prior_mu: Means of the prior, broadcasts to mu; or a number. Both of the prior's, or
            neither.
        prior_logvar: Logarithms of the prior's variances, likewise.
        scale: In place of logvar, as in :func:`reparameterize`.
        free_bits: Nats below which the divergence costs the same and has no gradient (Kingma et
            al. 2016, "Improving variational inference with inverse autoregressive flow",
            appendix C.8).
        free_bits_per: What they are counted per. ``"dimension"``: per latent dimension, after
            averaging over the batch, max(free_bits, mean over the batch of kl_j), as the paper has
            it. ``"sample"``: per latent dimension of each sample, before any averaging.
        batch_dims: How many leading dimensions are batch.
        reduction: See the module. With free bits per dimension, ``"batchmean"`` is their sum over
            the latent dimensions, ``"sum"`` that times the number of batch entries, ``"mean"`` the
            mean over the latent dimensions.

    Returns:
        The divergence, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype, or neither logvar nor scale is given.
        ValueError: The shapes do not broadcast, the devices differ, both logvar and scale, half a
            prior, an unknown reduction, batch_dims beyond the dimensions, negative free bits, or
            free bits per dimension with a reduction that keeps the batch.
    """
    if logvar is None or scale is not None:
        kl = gaussian_kl(
            mu,
            _logvar_of("gaussian_kl", logvar, scale, "mu", mu, prior_mu, prior_logvar),
            prior_mu,
            prior_logvar,
            free_bits=free_bits,
            free_bits_per=free_bits_per,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        is_elementwise = reduction == "none"
        return _elementwise(kl, mu, scale, prior_mu, prior_logvar) if is_elementwise else kl
    op, operands = _divergence("gaussian_kl", mu, logvar, prior_mu, prior_logvar)
    if isinstance(mu, Tensor) and isinstance(batch_dims, int) and mu.dim() <= batch_dims:
        checks.check_latent("gaussian_kl", mu, batch_dims, reduction)
    if free_bits == 0 and free_bits_per in checks.FREE_BITS_PER:
        return _loss("gaussian_kl", op, operands, None, batch_dims, reduction)
    checks.check_free_bits("gaussian_kl", free_bits, free_bits_per, reduction)
    _explain_loss("gaussian_kl", op, operands, None, batch_dims, reduction)
    if reduction != "none":  # else the elements would be rounded before they are summed
        operands = (mu.to(reference.sum_dtype(mu.dtype)), *operands[1:])
    each = _loss("gaussian_kl", op, operands, None, batch_dims, "none")
    keep, mean = keep_and_mean(reduction, batch_dims, operands[0])
    if free_bits_per == "dimension" and batch_dims > 0:
        average = each.mean(tuple(range(batch_dims)), keepdim=True)
        return reference.reduce(average.clamp(min=free_bits).expand_as(each), keep, mean)
    return reference.reduce(each.clamp(min=free_bits), keep, mean)


def _divergence(
    function: str,
    mu: Tensor,
    logvar: Tensor | float,
    prior_mu: Tensor | float | None,
    prior_logvar: Tensor | float | None,
) -> tuple[str, tuple[Tensor, ...]]:
    """Which divergence it is, and its operands as tensors."""
    if isinstance(logvar, Tensor) and prior_mu is None and prior_logvar is None:
        return "standard_normal_kl", (mu, logvar)  # without another call
    given = (mu, logvar, prior_mu, prior_logvar)
    tensors: Any = (x if x is None else _as_tensor(x, *given) for x in given)
    return reference.divergence(function, *tensors)


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
        reduction: Of the divergence. See the module.

    Returns:
        (z, kl). z has mu's shape, behind K where num_samples is given, and the dtype that mu,
        logvar and the prior's parameters promote to.

    Raises:
        TypeError: As :func:`reparameterize` and :func:`gaussian_kl`.
        ValueError: As :func:`reparameterize` and :func:`gaussian_kl`.
    """
    function = "reparameterize_kl"
    if logvar is None or scale is not None:
        z, kl = reparameterize_kl(
            mu,
            _logvar_of(function, logvar, scale, "mu", mu, prior_mu, prior_logvar),
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
        z = _elementwise(z, mu, scale, prior_mu, prior_logvar)
        return z, kl if reduction != "none" else kl.to(z.dtype)
    op, operands = _divergence(function, mu, logvar, prior_mu, prior_logvar)
    if num_samples is not None or free_bits != 0 or free_bits_per not in checks.FREE_BITS_PER:
        if num_samples is not None:
            checks.check_num_samples(function, num_samples)
            checks.check_one_draw(function, generator)
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
            checks.check_latent(function, mu, batch_dims, reduction)
        of_all: Any = (*operands, None, None)
        variance, prior_mean, prior_variance = of_all[1:4]
        keep, mean = (
            (0, batch_dims)
            if reduction == "batchmean"
            else keep_and_mean(reduction, batch_dims, mu)
        )
        if not (_on_cpu and mu.is_cpu) and use_reference(mu.device.type):
            _explain_loss(function, op, operands, None, batch_dims, reduction)
            seed = seed_of(function, generator, seed, mu)
            return reference.reparameterize_kl(
                mu, variance, prior_mean, prior_variance, seed, keep, mean
            )
        if draws_in_kernel(generator, seed):
            z, kl = _kernels.reparameterize_kl(
                mu, variance, prior_mean, prior_variance, generator, keep, mean, batch_dims
            )
        else:
            _explain_loss(function, op, operands, None, batch_dims, reduction)
            z, kl, _ = _ops.reparameterize_kl(
                mu,
                variance,
                prior_mean,
                prior_variance,
                seed_of(function, generator, seed, mu),
                keep,
                mean,
            )
        return z, kl
    except Exception:
        _explain_loss(function, op, operands, None, batch_dims, reduction)
        checks.check_noise_source(function, generator, seed, mu)
        raise


# ---- likelihoods ---------------------------------------------------------------------------------


def bernoulli_nll(
    logits: Tensor,
    target: Tensor,
    *,
    from_probs: bool = False,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Bernoulli distribution, in nats.

    From logits l: softplus(l) - x l, gradient sigmoid(l) - x; an infinite logit that agrees with
    its target costs 0. From probabilities p: -x log p - (1 - x) log(1 - p), with the logarithms
    clamped at -100 as in ``torch.nn.functional.binary_cross_entropy``, and with the gradient
    (1 - x) / max(1 - p, 1e-12) - x / max(p, 1e-12), which is finite everywhere.

    The kernel reads logits and target once and, where a gradient is wanted, writes it once, in the
    forward: 8 bytes per element in float32 (5 with a uint8 target), 12 (9) with the gradient.

    Args:
        logits: (*batch, *event); probabilities where ``from_probs`` says so.
        target: In [0, 1], of the shape of logits; K samples (K, B, D) against a target (B, D) need
            no copy (and ``batch_dims=2``). uint8 means x / 255, bool 0 or 1.
        from_probs: The first argument holds probabilities in [0, 1].
        mask: bool, broadcasts to logits; False: the element does not count, whatever it holds (NaN
            too), and has no gradient. It stays in the denominator of ``"mean"``.
        batch_dims: How many leading dimensions are batch.
        reduction: See the module.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims beyond the dimensions.
    """
    op = "bernoulli_probs_nll" if from_probs else "bernoulli_nll"
    return _loss("bernoulli_nll", op, (logits, target), mask, batch_dims, reduction)


def gaussian_nll(
    mean: Tensor,
    target: Tensor,
    logvar: Tensor | float = 0.0,
    *,
    scale: Tensor | float | None = None,
    mask: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the Gaussian distribution, in nats.

    (log 2 pi + logvar + (x - mean)^2 exp(-logvar)) / 2, with the constant; a difference of zero
    costs nothing at any precision. A learned scalar logvar is the sigma-VAE's (Rybkin et al. 2021).

    The kernel reads the operands once and, where gradients are wanted, writes them once, in the
    forward: 12 bytes per element in float32, 20 with the gradients in mean and logvar. A logvar
    that broadcasts costs no memory, and its gradient is summed in the same pass.

    Args:
        mean: (*batch, *event).
        target: Of mean's shape, as in :func:`bernoulli_nll`. uint8 and bool mean the numbers that
            they hold.
        logvar: Logarithm of the variance, fixed (a number) or learned (a tensor that broadcasts
            to mean: one for everything, per feature, per element).
        scale: The standard deviation, in place of logvar, which is then 2 log scale (a pass of its
            own, of the size of scale); of a negative one that is NaN, and so is the loss.
        mask: As in :func:`bernoulli_nll`.
        batch_dims: How many leading dimensions are batch.
        reduction: See the module.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction,
            batch_dims beyond the dimensions, or scale with a logvar other than 0.
    """
    if scale is not None:
        given = None if checks.is_number(logvar) and logvar == 0 else logvar
        value = gaussian_nll(
            mean,
            target,
            _logvar_of("gaussian_nll", given, scale, "mean", mean, target),
            mask=mask,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        return _elementwise(value, mean, scale, target) if reduction == "none" else value
    operands = (mean, _as_tensor(logvar, mean, target), target)
    return _loss("gaussian_nll", "gaussian_nll", operands, mask, batch_dims, reduction)


def multinomial_nll(
    logits: Tensor,
    target: Tensor,
    *,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Negative log-likelihood of the multinomial distribution, in nats, up to a constant.

    -sum_k t_k log softmax(l)_k, with the softmax over the last dimension; the constant, the
    logarithm of the multinomial coefficient, depends on the target alone (Liang et al. 2018,
    "Variational autoencoders for collaborative filtering", equation 2). A logit of -infinity
    excludes its class: without a count it costs nothing, with one it costs infinity.

    The kernel reads logits and target and writes the gradient in the logits, if it is wanted, in
    the forward, a row at a time: 8 bytes per element in float32 (5 with a uint8 target), 12 (9)
    with the gradient, for rows that fit the cache. The CPU's threads share the rows, a GPU's also a
    row's elements. In plain PyTorch: for a gradient in the target, and for ``"none"``.

    Args:
        logits: (*batch, *event), not normalised; the last dimension of the event are the classes.
        target: Counts (or weights), of the shape of logits, as in :func:`bernoulli_nll`. uint8 and
            bool mean the numbers that they hold.
        batch_dims: How many leading dimensions are batch.
        reduction: See the module; the elements of ``"none"`` and ``"mean"`` are those of logits.

    Returns:
        The negative log-likelihood, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, the devices differ, an unknown reduction, or
            batch_dims that leave no dimension of classes.
    """
    try:
        keep, mean = keep_and_mean(reduction, batch_dims, logits)
        has_kernels = (_on_cpu and logits.is_cpu) or not use_reference(logits.device.type)
        if reduction == "none" or not has_kernels:
            _explain_multinomial(logits, target, batch_dims, reduction)
            return reference.multinomial_nll(logits, target.expand(logits.shape), keep, mean)
        if _is_compiling():
            _explain_multinomial(logits, target, batch_dims, reduction)
            value: Tensor = _ops.multinomial_nll(logits, target.expand_as(logits), keep, mean)[0]
        else:
            value = _kernels.multinomial_nll(logits, target, keep, mean, batch_dims)
        return value
    except Exception:
        _explain_multinomial(logits, target, batch_dims, reduction)
        raise


def _explain_multinomial(logits: Tensor, target: Tensor, batch_dims: int, reduction: str) -> None:
    """As :func:`_explain_loss`; a dimension must be left for the classes."""
    function, names, operands = "multinomial_nll", ("logits", "target"), (logits, target)
    checks.check_operands(function, names, operands)
    checks.check_public_reduction(function, reduction, batch_dims, (logits,))
    checks.check_has_classes(function, batch_dims, (logits,))
    checks.check_shapes(function, names, operands, None, batch_dims)


# ---- the evidence lower bound --------------------------------------------------------------------


def _multinomial_without_mask(
    logits: Tensor, target: Tensor, *, mask: Tensor | None, **settings: Any
) -> Tensor:
    if mask is not None:
        raise ValueError(
            "elbo_loss: mask is given, which 'multinomial' does not have: its classes share one "
            "softmax; exclude one by a logit of -infinity"
        )
    return multinomial_nll(logits, target, **settings)


# By the name that elbo_loss and the models take: called (first parameter, target, *other
# parameters, mask=, batch_dims=, reduction=).
LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "bernoulli": bernoulli_nll,
    "bernoulli_probs": partial(bernoulli_nll, from_probs=True),
    "gaussian": gaussian_nll,
    "multinomial": _multinomial_without_mask,
}


class ELBO(NamedTuple):
    """The negative evidence lower bound and its two terms, in nats.

    Attributes:
        loss: nll + beta * kl, to be minimised.
        nll: The reconstruction term, -E[log p(x|z)].
        kl: KL(q(z|x) || p(z)), not weighted.
    """

    loss: Tensor
    nll: Tensor
    kl: Tensor


# An exported program that returns one can be stored.
_register_namedtuple(ELBO, serialized_type_name="vae_fast.ELBO")


def elbo_loss(
    params: Tensor | Sequence[Tensor],
    target: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    likelihood: str = "bernoulli",
    beta: float | Tensor = 1.0,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    free_bits: float = 0.0,
    free_bits_per: FreeBitsPer = "dimension",
    mask: Tensor | None = None,
    batch_dims: int = 1,
    sample_dims: int = 0,
    reduction: Reduction = "batchmean",
) -> ELBO:
    """The loss of a variational auto-encoder: -E[log p(x|z)] + beta KL(q(z|x) || p(z)), in nats.

    Kingma and Welling 2014, equation 7; with beta other than 1, Higgins et al. 2017.

    Args:
        params: What the decoder gives: the likelihood's parameter, or a tuple of its parameters in
            the order of the likelihood's function (the target left out). The first one has the
            target's shape, behind ``sample_dims`` dimensions of samples of z.
        target: The data (*batch, *event).
        mu: Means of q(z|x), (*batch, *latent).
        logvar: Logarithms of its variances.
        likelihood: ``"bernoulli"`` (logits), ``"bernoulli_probs"`` (probabilities),
            ``"gaussian"`` (mean, or mean and logvar) or ``"multinomial"`` (logits; no mask).
        beta: Weight of the divergence in ``loss``; nothing else scales a term.
        prior_mu: Means of the prior; None: the standard normal.
        prior_logvar: Logarithms of the prior's variances.
        free_bits: As in :func:`gaussian_kl`.
        free_bits_per: As in :func:`gaussian_kl`.
        mask: Which elements of the data count; see the likelihood.
        batch_dims: How many leading dimensions (of target and mu) are batch.
        sample_dims: How many leading dimensions of ``params`` are samples of z, (K, *batch, *event)
            against (*batch, *event): the nll is averaged over them, under every reduction.
        reduction: Of each term. ``"mean"`` divides the nll by the number of data elements and the
            kl by that of latent elements, so it weighs them differently. ``"none"`` is refused:
            the terms' elements do not correspond.

    Returns:
        (loss, nll, kl), the terms not weighted.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: An unknown likelihood, ``reduction="none"``, params that are not of the
            target's shape behind ``sample_dims``, mu of another batch than the target, or as in
            :func:`gaussian_kl` and the likelihood.
    """
    if likelihood not in LIKELIHOODS or not (isinstance(beta, Tensor) or checks.is_number(beta)):
        _refuse_elbo(likelihood, beta)
    if isinstance(params, (tuple, list)) and not params:
        raise ValueError("elbo_loss: params is empty, expected a tensor or a tuple of tensors")
    first, *others = params if isinstance(params, (tuple, list)) else (params,)
    checks.check_tensor("elbo_loss", "params", first)
    checks.check_tensor("elbo_loss", "target", target)
    checks.check_tensor("elbo_loss", "mu", mu)
    checks.check_public_reduction("elbo_loss", reduction, batch_dims, (target,))
    checks.check_elbo("elbo_loss", first, target, mu, batch_dims, sample_dims)
    nll = _sample_average_nll(
        partial(LIKELIHOODS[likelihood], first, target, *others, mask=mask),
        sample_dims,
        batch_dims,
        reduction,
    )
    kl = gaussian_kl(
        mu,
        logvar,
        prior_mu,
        prior_logvar,
        free_bits=free_bits,
        free_bits_per=free_bits_per,
        batch_dims=batch_dims,
        reduction=reduction,
    )
    weight = beta if isinstance(beta, Tensor) else float(beta)
    return ELBO(nll + weight * kl, nll, kl)


def _refuse_elbo(likelihood: Any, beta: Any) -> NoReturn:
    checks.check_likelihood("elbo_loss", likelihood, LIKELIHOODS)
    raise TypeError(f"elbo_loss: beta is of type {type(beta).__name__}, expected float or Tensor")


def _sample_average_nll(
    nll: Callable[..., Tensor], sample_dims: int, batch_dims: int, reduction: Reduction
) -> Tensor:
    """``nll`` reduced over batch and event, and averaged over the samples in front."""
    if reduction == "none":
        raise ValueError(
            "elbo_loss: reduction is 'none', expected 'sample', 'sum', 'batchmean' or 'mean'"
        )
    if reduction == "sum":  # over everything but the samples
        return nll(batch_dims=sample_dims, reduction="batchmean")
    value = nll(batch_dims=sample_dims + batch_dims, reduction=reduction)
    return value.mean(tuple(range(sample_dims))) if sample_dims and value.dim() else value
