"""How much likelier a code is under q(z|x) than under p(z): what a log weight is less by."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vae_fast.engine import checks
from vae_fast.engine.call import as_tensor, in_result_dtype, logvar_of, loss
from vae_fast.engine.dtypes import arithmetic_dtype, promoted_dtype, sum_dtype
from vae_fast.engine.reductions import Reduction, keep_and_mean, reduce
from vae_fast.latent.checks import check_prior

_NAME = "gaussian_log_ratio"
_OPERANDS = ("z", "mu", "logvar", "prior_mu", "prior_logvar", "noise")
_NLL = "gaussian_nll"  # -log N, the likelihood's kernel: symmetric in the number and its mean


def gaussian_log_ratio(
    z: Tensor,
    mu: Tensor | float,
    logvar: Tensor | float | None = None,
    prior_mu: Tensor | float | None = None,
    prior_logvar: Tensor | float | None = None,
    *,
    scale: Tensor | float | None = None,
    noise: Tensor | None = None,
    batch_dims: int = 1,
    reduction: Reduction = "batchmean",
) -> Tensor:
    """Log N(z; mu, exp(logvar)) - log N(z; prior_mu, exp(prior_logvar)), diagonal, in nats.

    Its mean over z from q is :func:`gaussian_kl`; log p(x|z) less it is the log weight of z (Burda
    et al. 2016, equation 8). Without a prior it is the standard normal N(0, I).

    It works in logvar, so that no variance under- or overflows. Where sigma is small beside mu,
    z - mu has few of the noise's digits left: give the noise, if it is there.

    Args:
        z: Codes (*batch, *latent). Samples of z are leading batch dimensions, which mu lacks:
            (K, B, D) against (B, D), with ``batch_dims=2``.
        mu: Means of q(z|x), broadcasts to z; or a number.
        logvar: Logarithms of its variances, likewise.
        prior_mu: Means of the prior, likewise. Both of the prior's, or neither.
        prior_logvar: Logarithms of the prior's variances, likewise.
        scale: In place of logvar, as in :func:`reparameterize`.
        noise: The eps of z = mu + exp(logvar / 2) eps, of z's shape. log q(z|x) is then made of it
            and logvar alone: its gradients are those of the z that was drawn, in one with the
            gradient through z, so that it cannot be taken apart for a path-gradient estimator.
        batch_dims: How many leading dimensions of z are batch, samples among them.
        reduction: See :mod:`vae_fast`; ``"sample"`` is one value for each sample of each datum.

    Returns:
        The log ratio, reduced.

    Raises:
        TypeError: An argument has a wrong type or dtype, or neither logvar nor scale is given.
        ValueError: The shapes do not fit, the devices differ, both logvar and scale, half a prior,
            an unknown reduction, or batch_dims beyond the dimensions.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> mu, logvar = torch.zeros(1, 2), torch.zeros(1, 2)
        >>> z = torch.tensor([[[0.0, 0.0]], [[1.0, 2.0]]])  # two samples of one code
        >>> vf.gaussian_log_ratio(z, mu, logvar, 1.0, 0.0, batch_dims=2, reduction="sample")
        tensor([[ 1.0000],
                [-2.0000]])
    """
    if logvar is None or scale is not None:
        logvar = logvar_of(_NAME, logvar, scale, "z", z, mu, prior_mu, prior_logvar)
        value = gaussian_log_ratio(
            z,
            mu,
            logvar,
            prior_mu,
            prior_logvar,
            noise=noise,
            batch_dims=batch_dims,
            reduction=reduction,
        )
        is_elementwise = reduction == "none"
        of = (z, mu, scale, prior_mu, prior_logvar)
        return in_result_dtype(value, *of) if is_elementwise else value
    check_prior(_NAME, prior_mu, prior_logvar)
    given: dict[str, Any] = {
        name: as_tensor(value, z, mu, logvar, prior_mu, prior_logvar)
        for name, value in zip(
            _OPERANDS, (z, mu, logvar, prior_mu, prior_logvar, noise), strict=True
        )
        if value is not None
    }
    names, operands = tuple(given), tuple(given.values())
    checks.check_operands(_NAME, names, operands)
    checks.check_public_reduction(_NAME, reduction, batch_dims, (z,))
    checks.check_shapes(_NAME, names, operands, None, batch_dims)
    if noise is not None:
        checks.check_gradient(_NAME, "noise", noise, z.shape, z.device)

    def nll(x: Tensor, mean: Tensor | float, of: Tensor | float) -> Tensor:
        mean = as_tensor(mean, x).to(x.dtype).expand(x.shape)
        return loss(_NAME, _NLL, (x, as_tensor(of, x), mean), None, batch_dims, reduction)

    exact = arithmetic_dtype(
        operands
    )  # else the elements would be rounded before they are taken off
    code = z.to(exact)
    of_prior = nll(code, given.get("prior_mu", 0.0), given.get("prior_logvar", 0.0))
    if noise is None:
        own = nll(code, given["mu"], given["logvar"])
    else:
        half = 0.5 * given["logvar"].to(exact).expand(z.shape)
        own = nll(noise.to(exact), 0.0, 0.0) + reduce(
            half, *keep_and_mean(reduction, batch_dims, z)
        )
    ratio = of_prior - own
    return (
        in_result_dtype(ratio, *operands)
        if reduction == "none"
        else ratio.to(sum_dtype(promoted_dtype(operands)))
    )
