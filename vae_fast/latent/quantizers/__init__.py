"""Codes from finite sets: what replaces the Gaussian code in a VQ-VAE and its kin.

Each is a module: of vectors it gives the codes that replace them, their indices and what is added
to the loss, as a :class:`Quantized`; ``decode`` gives the codes of indices. There is no KL term:
with a prior that is the same for all codes it is constant, the logarithm of their number for each
vector.

Example:
    >>> import torch
    >>> import vae_fast as vf
    >>> from vae_fast.latent.quantizers import VectorQuantizer
    >>> encoder, decoder = torch.nn.Linear(64, 4 * 8), torch.nn.Linear(4 * 8, 64)
    >>> quantizer = VectorQuantizer(512, 8)
    >>> x = torch.rand(16, 64)
    >>> found = quantizer(encoder(x).unflatten(1, (4, 8)))
    >>> loss = vf.bernoulli_nll(decoder(found.quantized.flatten(1)), x) + found.loss
    >>> loss.backward()
"""

from vae_fast.latent.quantizers.base import Quantized, Quantizer
from vae_fast.latent.quantizers.finite_scalar import FSQ
from vae_fast.latent.quantizers.grouped import GroupedQuantizer
from vae_fast.latent.quantizers.lookup_free import LFQ
from vae_fast.latent.quantizers.residual import ResidualQuantizer
from vae_fast.latent.quantizers.vector import VectorQuantizer

__all__ = [
    "FSQ",
    "LFQ",
    "GroupedQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "VectorQuantizer",
]
