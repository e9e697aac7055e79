"""The nearest entry of a codebook, of vector quantization."""

from __future__ import annotations

from torch import Tensor

from vae_fast.engine import checks, pairs
from vae_fast.engine.checks import FLOATS
from vae_fast.latent.gaussian_mixture import check_components

_NAME = "nearest_code"


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """argmin_k |x - code_k|^2, of each vector (van den Oord et al. 2017, equation 1).

    Vectors meet codes in tiles that stay in the cache, and no matrix of distances is made: N D + K
    D numbers are read and N indices written. Distances are sums of squared differences, which do
    not cancel as |x|^2 - 2 x . code + |code|^2 does.

    Args:
        x: (*batch, D).
        codebook: (K, D).

    Returns:
        (*batch), int64: the first of equally near ones. It has no gradient. A vector with a NaN in
        it has the index 0.

    Raises:
        TypeError: An argument has a wrong type or dtype.
        ValueError: The shapes or devices do not fit, or there is no code.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> vf.nearest_code(torch.tensor([[0.2, 0.1], [0.9, 0.7]]), codebook)
        tensor([0, 1])
    """
    for name, value in (("x", x), ("codebook", codebook)):
        checks.check_tensor(_NAME, name, value)
        checks.check_kind(_NAME, name, value, FLOATS, "x", x)
    check_components(_NAME, "x", x, "codebook", codebook)
    return pairs.nearest(x.reshape(-1, x.shape[-1]), codebook).reshape(x.shape[:-1])
