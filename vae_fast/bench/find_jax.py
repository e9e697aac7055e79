"""Whether JAX takes part: it is no dependency of this package."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def find_jax(device: str) -> tuple[ModuleType | None, str]:
    """`jax_peers`, or None where it cannot run; and what has to stand beside the figures.

    Import it before the number of torch's threads changes: JAX gets as many, once.
    """
    try:
        peers = importlib.import_module("vae_fast.bench.jax_peers")
    except ModuleNotFoundError as error:
        if error.name != "jax":  # it is there, and broken: nothing to pass over in silence
            raise
        return None, "not installed: its columns stay empty"
    if not peers.has(device):
        return None, f"{peers.VERSION} without {device}: its columns stay empty"
    own = f", its own pool of threads: {torch.get_num_threads()}" if device == "cpu" else ""
    return peers, f"{peers.VERSION}{own}"
