"""The cache of large CPU buffers from which the compiled ops take their outputs.

The C library maps every block above 32 MB afresh, and the page faults of fresh memory cost more
than the arithmetic on it. Outputs of that size (gradients, z, elementwise values) therefore come
from blocks that are kept when their tensors are gone. Kept and used together are never more than
what the ops' tensors took at one time.
"""

from __future__ import annotations

import torch

from vae_fast.engine import extension

# As large as a block may be for glibc to learn from it (DEFAULT_MMAP_THRESHOLD_MAX, with its own
# header and alignment).
_LARGEST_HEAP_BLOCK = (32 << 20) - (64 << 10)

__all__ = ["empty_buffer_cache", "set_buffer_cache_limit"]


def set_buffer_cache_limit(limit: int) -> None:
    """How much CPU memory may be kept for later outputs; what is above it is freed at once.

    `build_info()` tells the limit and what is kept. Nothing is ever kept by the stable binding, and
    without the compiled extension.

    Args:
        limit: bytes, 2**30 unless it was set; 0 keeps nothing.

    Raises:
        TypeError: limit is no int.
        ValueError: limit is negative.

    Example:
        >>> import vae_fast as vf
        >>> before = vf.build_info().buffer_cache_limit
        >>> vf.set_buffer_cache_limit(0)  # nothing is kept
        >>> vf.build_info().buffer_cache_bytes
        0
        >>> vf.set_buffer_cache_limit(before)
    """
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"set_buffer_cache_limit: limit is {limit!r}, expected an int")
    if limit < 0:
        raise ValueError(f"set_buffer_cache_limit: limit is {limit}, expected 0 or more")
    if extension.C is not None:
        extension.C.set_buffer_cache_limit(limit)


def empty_buffer_cache() -> None:
    """Free all CPU memory that is kept for later outputs; tensors keep theirs.

    Example:
        >>> import vae_fast as vf
        >>> vf.empty_buffer_cache()
        >>> vf.build_info().buffer_cache_bytes
        0
    """
    if extension.C is not None:
        extension.C.empty_buffer_cache()


def keep_freed_heap() -> None:
    """Let the C library keep up to 64 MB of what is freed, rather than give it to the system.

    A training step frees its gradients and asks for as much again. glibc gives the top of the heap
    back where more than twice the largest block freed so far is free, and the page faults of
    fetching it again are a tenth of a small step. Freeing one block, never touched, of the largest
    size that it learns from raises that limit, as in any program that frees a tensor of 32 MB.
    Nothing happens where the user has set the limits, and with other allocators.
    """
    torch.empty(_LARGEST_HEAP_BLOCK, dtype=torch.uint8, device="cpu")
