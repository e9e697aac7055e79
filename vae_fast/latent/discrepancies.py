"""How far two samples are apart, and how dependent: statistics of kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from vae_fast.engine import checks, pairs
from vae_fast.engine.checks import FLOATS, shown
from vae_fast.engine.dtypes import promoted_dtype, sum_dtype
from vae_fast.latent.gaussian_mixture import check_components

Kernel = Literal["rbf", "imq"]

# Of the inverse multiquadratic kernel (Tolstikhin et al. 2018, in the code that they published).
_IMQ_BANDWIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd(
    x: Tensor,
    y: Tensor,
    *,
    kernel: Kernel = "rbf",
    bandwidths: Sequence[float] | None = None,
    unbiased: bool = True,
) -> Tensor:
    """The squared maximum mean discrepancy of two samples: E k(x, x') + E k(y, y') - 2 E k(x, y).

    Gretton et al. 2012, "A kernel two-sample test", equations 3 and 5; between codes and draws from
    the prior the penalty of InfoVAE (Zhao et al. 2019) and WAE-MMD (Tolstikhin et al. 2018). Of
    several bandwidths the kernels are added.

    Rows meet rows in tiles that stay in the cache: (N + M) D numbers are read, where plain PyTorch
    moves several times (N + M)^2 D.

    Args:
        x: (N, D).
        y: (M, D).
        kernel: ``"rbf"``, exp(-|x - y|^2 / (2 h^2)), or ``"imq"``, 2 D h^2 / (2 D h^2 + |x - y|^2).
        bandwidths: h, each above zero. None: of "rbf" the square root of D, the distance at which
            draws from N(0, I) lie by and large; of "imq" 0.1, 0.2, 0.5, 1, 2, 5 and 10.
        unbiased: Leave out the pairs of a row with itself: the estimate may be negative then.

    Returns:
        A number, at least in float32; sums are in float64.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, an unknown kernel, a bandwidth that is not
            above zero, or fewer than two rows where ``unbiased``.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> x = torch.zeros(4, 2)
        >>> vf.mmd(x, x + 10.0), vf.mmd(x, x)
        (tensor(2.), tensor(0.))
    """
    checks.check_choice("mmd", "kernel", kernel, get_args(Kernel))
    _check_samples("mmd", x, y)
    least = 2 if unbiased else 1
    for name, sample in (("x", x), ("y", y)):
        if len(sample) < least:
            raise ValueError(
                f"mmd: {name} has shape {shown(sample.shape)}, expected at least {least} rows"
            )
    dims = x.shape[1]
    if bandwidths is None:
        bandwidths = (math.sqrt(dims),) if kernel == "rbf" else _IMQ_BANDWIDTHS
    squares = _squares("mmd", bandwidths)
    widths = squares if kernel == "rbf" else [2 * dims * square for square in squares]

    def mean_of(a: Tensor, b: Tensor, is_same: bool) -> Tensor:
        total = pairs.kernel_sum(a, b, kernel=kernel, widths=widths).sum()
        if is_same and unbiased:  # a row with itself: one for each width
            return (total - len(a) * len(widths)) / (len(a) * (len(a) - 1))
        return total / (len(a) * len(b))

    value = mean_of(x, x, True) + mean_of(y, y, True) - 2 * mean_of(x, y, False)
    return value.to(sum_dtype(promoted_dtype((x, y))))


def hsic(x: Tensor, y: Tensor, *, bandwidths: tuple[float, float] | None = None) -> Tensor:
    """The Hilbert-Schmidt independence criterion of paired samples: tr(K H L H) / N^2.

    Gretton et al. 2005, "Measuring statistical dependence with Hilbert-Schmidt norms", with the
    biased (V) statistic of Gretton et al. 2007; Lopez et al. 2018 train VAEs with it. Both kernels
    are Gaussian, exp(-|a - b|^2 / (2 h^2)), so that their product is the one of the rows side by
    side, and no N x N matrix is held.

    Args:
        x: (N, D).
        y: (N, E): row i belongs to row i of x.
        bandwidths: h of x and of y; None: the square roots of D and E.

    Returns:
        A number, never negative but for rounding, at least in float32; sums are in float64.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or a bandwidth is not above zero.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> x = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
        >>> y = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]])
        >>> vf.hsic(x, x) > 0.1, vf.hsic(x, y).abs() < 1e-6
        (tensor(True), tensor(True))
    """
    for name, sample in (("x", x), ("y", y)):
        checks.check_tensor("hsic", name, sample)
        checks.check_kind("hsic", name, sample, FLOATS, "x", x)
        if sample.dim() != 2 or len(sample) == 0 or sample.shape[1] == 0:
            raise ValueError(f"hsic: {name} has shape {shown(sample.shape)}, expected (N, D)")
    if len(x) != len(y):
        raise ValueError(
            f"hsic: y has shape {shown(y.shape)}, expected as many rows as x {shown(x.shape)}"
        )
    if bandwidths is None:
        bandwidths = (math.sqrt(x.shape[1]), math.sqrt(y.shape[1]))
    if not isinstance(bandwidths, (tuple, list)) or len(bandwidths) != 2:
        raise ValueError(f"hsic: bandwidths is {bandwidths!r}, expected two numbers")
    roots = [math.sqrt(square) for square in _squares("hsic", bandwidths)]
    dtype = sum_dtype(promoted_dtype((x, y)))
    scaled = [(sample.to(dtype) / root) for sample, root in zip((x, y), roots, strict=True)]
    both, of_x, of_y = (
        pairs.kernel_sum(rows, rows, kernel="rbf", widths=[1.0])
        for rows in (torch.cat(scaled, 1), *scaled)
    )
    count = len(x)
    # Row means about their own mean: what is left of two kernels that hardly vary is small.
    of_x, of_y, both = of_x / count, of_y / count, both / count
    coupled = ((of_x - of_x.mean()) * (of_y - of_y.mean())).mean()
    return (both.mean() - of_x.mean() * of_y.mean() - 2 * coupled).to(dtype)


def _check_samples(function: str, x: Tensor, y: Tensor) -> None:
    for name, sample in (("x", x), ("y", y)):
        checks.check_tensor(function, name, sample)
        checks.check_kind(function, name, sample, FLOATS, "x", x)
        if sample.dim() != 2:
            raise ValueError(f"{function}: {name} has shape {shown(sample.shape)}, expected (N, D)")
    check_components(function, "x", x, "y", y)


def _squares(function: str, bandwidths: Sequence[float]) -> list[float]:
    """Of bandwidths, checked."""
    if not isinstance(bandwidths, (tuple, list)) or not bandwidths:
        raise ValueError(f"{function}: bandwidths is {bandwidths!r}, expected numbers above 0")
    for bandwidth in bandwidths:
        if not checks.is_number(bandwidth) or not 0 < bandwidth < math.inf:
            raise ValueError(f"{function}: a bandwidth is {bandwidth!r}, expected a number above 0")
    return [float(bandwidth) ** 2 for bandwidth in bandwidths]
