"""All randomness of a run is a function of its seed and of the epoch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vae_fast.training.expected import Source
from vae_fast.training.files import RunError


def derived_seed(seed: int, *parts: object) -> int:
    """A seed that is a function of another and of what it is for."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python: a Dataset may draw from any."""
    torch.manual_seed(seed)
    np.random.seed([seed % 2**32, seed >> 32])
    random.seed(seed)


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Puts the global generators back afterwards."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type  # of none, where there are no devices
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def own_generators(source: Source) -> dict[str, torch.Generator]:
    """The generators that a DataLoader and its samplers bring with them, by whose they are."""
    if not isinstance(source, DataLoader):
        return {}
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = {
        "loader": source,
        "sampler": source.sampler,
        "batch_sampler": batch_sampler,
        "inner_sampler": getattr(batch_sampler, "sampler", None),
    }
    found: dict[str, torch.Generator] = {}
    for name, owner in owners.items():
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and generator not in found.values():
            found[name] = generator
    return found


def set_generators(source: Source, states: Mapping[str, Tensor]) -> None:
    """Put a DataLoader's own generators where a run's were.

    Raises:
        RunError: it has others than the run's had, or a state is none of a generator.
    """
    generators = own_generators(source)
    if generators.keys() != states.keys():
        raise RunError(
            f"the run's data came with generators of their own of {_named(states)}, these with "
            f"{_named(generators)}; expected the same"
        )
    for name, generator in generators.items():
        try:
            generator.set_state(states[name])
        except (RuntimeError, TypeError) as error:
            raise RunError(f"the state of the {name}'s generator is none: {error}") from error


def _named(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "nothing"
