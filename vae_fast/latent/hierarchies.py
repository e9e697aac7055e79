"""Parts of hierarchies of latent variables, z_1 to z_L, each group of which has its own prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.checks import shown
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype
from vae_fast.engine.reductions import Reduction
from vae_fast.engine.shapes import broadcast_shape
from vae_fast.latent.sampling import reparameterize_kl
from vae_fast.latent.seeds import Generator, Seed


def _checked(function: str, names: Sequence[str], operands: Sequence[Tensor]) -> list[Tensor]:
    """In the dtype of the arithmetic."""
    checks.check_operands(function, names, operands)
    dtype = arithmetic_dtype(operands)
    return [x.to(dtype) for x in operands]


def residual_normal_kl(
    delta_mu: Tensor,
    delta_logvar: Tensor,
    prior_mu: Tensor,
    prior_logvar: Tensor,
    *,
    generator: Generator | None = None,
    seed: Seed | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> tuple[Tensor, Tensor]:
    """Samples the residual normal posterior, with its divergence from the prior, in nats.

    q(z | x) = N(prior_mu + delta_mu, exp(prior_logvar + delta_logvar)), relative to the prior
    p(z) = N(prior_mu, exp(prior_logvar)) of the same group, which the groups above determine: when
    the prior moves, so does q. Vahdat and Kautz 2020, "NVAE" (arXiv:2007.03898), section 3.2.

    The divergence, 0.5 (delta_mu^2 exp(-prior_logvar) + exp(delta_logvar) - 1 - delta_logvar)
    (equation 2 there), is taken in units of the prior, so that nothing of what is in both cancels:
    it is one call of :func:`vae_fast.reparameterize_kl`, and z is made of its sample.

    Args:
        delta_mu: (*batch, *latent).
        delta_logvar: Logarithms of the ratios of variances, broadcasts to delta_mu.
        prior_mu: Means of the prior, likewise.
        prior_logvar: Logarithms of its variances, likewise.
        generator: As in :func:`vae_fast.reparameterize`.
        seed: As in :func:`vae_fast.reparameterize`.
        batch_dims: How many leading dimensions are batch.
        reduction: Of the divergence. See :mod:`vae_fast`.

    Returns:
        (z, kl). z has delta_mu's shape, and the dtype that all promote to.

    Raises:
        TypeError: As :func:`vae_fast.reparameterize_kl`.
        ValueError: As :func:`vae_fast.reparameterize_kl`.

    Example:
        >>> import torch
        >>> from vae_fast.latent import residual_normal_kl
        >>> prior_mu, prior_logvar = torch.full((1, 2), 7.0), torch.zeros(1, 2)
        >>> z, kl = residual_normal_kl(torch.ones(1, 2), torch.zeros(1, 2), prior_mu, prior_logvar)
        >>> z.shape, kl
        (torch.Size([1, 2]), tensor(1.))
    """
    names = ("delta_mu", "delta_logvar", "prior_mu", "prior_logvar")
    given = (delta_mu, delta_logvar, prior_mu, prior_logvar)
    delta_mu, delta_logvar, prior_mu, prior_logvar = _checked("residual_normal_kl", names, given)
    checks.check_shapes("residual_normal_kl", names, given, None, 0)
    scale = torch.exp(0.5 * prior_logvar)
    unit, kl = reparameterize_kl(
        delta_mu * torch.exp(-0.5 * prior_logvar),
        delta_logvar,
        generator=generator,
        seed=seed,
        batch_dims=batch_dims,
        reduction=reduction,
    )
    return (prior_mu + scale * unit).to(promoted_dtype(given)), kl


def merge_normals(
    mu: Tensor, logvar: Tensor, other_mu: Tensor, other_logvar: Tensor
) -> tuple[Tensor, Tensor]:
    """The normal distribution in proportion to the product of two: means weighted by precisions.

    The top-down merge of a ladder VAE: what the encoder saw of a group on the way up, and what the
    generative model says of it on the way down (Sonderby et al. 2016, arXiv:1602.02282, equations
    17 to 19). A variance beyond the range of exp() leaves the other's distribution.

    Args:
        mu: Means, any shape.
        logvar: Logarithms of the variances; all four broadcast together.
        other_mu: Those of the other one.
        other_logvar: Likewise.

    Returns:
        (mu, logvar) of the shape that all broadcast to, of the dtype that they promote to.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes do not broadcast, or the devices differ.

    Example:
        >>> import torch
        >>> from vae_fast.latent import merge_normals
        >>> zero = torch.zeros(1)
        >>> mu, logvar = merge_normals(zero, zero, zero + 3, zero)
        >>> mu, logvar.exp()
        (tensor([1.5000]), tensor([0.5000]))
    """
    names = ("mu", "logvar", "other_mu", "other_logvar")
    given = (mu, logvar, other_mu, other_logvar)
    mu, logvar, other_mu, other_logvar = _checked("merge_normals", names, given)
    difference = other_logvar - logvar
    merged = torch.sigmoid(difference) * mu + torch.sigmoid(-difference) * other_mu
    merged_logvar = -torch.logaddexp(-logvar, -other_logvar)
    shape, dtype = broadcast_shape(given), promoted_dtype(given)
    return merged.to(dtype), merged_logvar.expand(shape).to(dtype)


def balance_kl(kls: Tensor, sizes: Sequence[int]) -> Tensor:
    """Coefficients of the groups' divergences which spread the information over the groups.

    In proportion to a group's mean divergence over its size, with a mean of 1: a group that says
    much is charged more, one that says little less. Vahdat and Kautz 2020, "NVAE"
    (arXiv:2007.03898), appendix A, for the time of warm-up, with the inverse of the size as their
    code has it (the paper's text has the size itself, by mistake). They have no gradient. While
    there is nothing to balance, all divergences 0, all are 1.

    Args:
        kls: Divergences per datum and group (*batch, L), or (L,) averaged already; none negative,
            in nats.
        sizes: How many latent dimensions each of the L groups has.

    Returns:
        (L,), which the divergences are multiplied by before they are summed.

    Raises:
        TypeError: kls is no tensor of floats.
        ValueError: There are not as many sizes as groups, or one is not positive.

    Example:
        >>> import torch
        >>> from vae_fast.latent import balance_kl
        >>> balance_kl(torch.tensor([[1.0, 9.0], [3.0, 9.0]]), sizes=[2, 3])
        tensor([0.5000, 1.5000])
    """
    checks.check_tensor("balance_kl", "kls", kls)
    checks.check_kind("balance_kl", "kls", kls, checks.FLOATS, "kls", kls)
    groups = kls.shape[-1] if kls.dim() else 0
    if groups != len(sizes) or not groups:
        raise ValueError(
            f"balance_kl: kls has shape {shown(kls.shape)} and there are {len(sizes)} sizes, "
            f"expected (*batch, L) and L of them"
        )
    if not all(size > 0 for size in sizes):
        raise ValueError(f"balance_kl: sizes are {list(sizes)}, expected positive numbers")
    average = kls.detach().to(arithmetic_dtype((kls,))).reshape(-1, groups).mean(0)
    each = torch.stack([kl / size for kl, size in zip(average.unbind(), sizes, strict=True)])
    mean = each.mean()
    return torch.where(mean > 0, each / mean, 1)
