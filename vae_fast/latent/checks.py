"""Checks of what a code and its noise are given by; see :mod:`vae_fast.engine.checks`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from vae_fast.engine.checks import (
    check_choice,
    check_gradient,
    check_tensor,
    is_int,
    is_number,
    one_of,
    shown,
)
from vae_fast.engine.shapes import is_known, same_size

FreeBitsPer = Literal["dimension", "group", "sample"]
FREE_BITS_PER: tuple[str, ...] = get_args(FreeBitsPer)

_INT64 = range(-(2**63), 2**63)


def check_latent(function: str, mu: Tensor, batch_dims: int, reduction: Any) -> None:
    """Raises ValueError where the mean per datum would be one over the code's own numbers."""
    if 0 < mu.dim() == batch_dims and reduction == "batchmean":
        raise ValueError(
            f"{function}: mu has shape {shown(mu.shape)}, which is batch alone, as batch_dims is "
            f"{batch_dims}; expected (*batch, *latent): for one datum give batch_dims=0, for codes "
            f"of one number mu.unsqueeze(-1)"
        )


def check_prior(function: str, prior_mu: Any, prior_logvar: Any) -> None:
    """Raises ValueError unless both parameters of the prior are given, or neither."""
    if (prior_mu is None) != (prior_logvar is None):
        missing = "prior_mu" if prior_mu is None else "prior_logvar"
        raise ValueError(f"{function}: {missing} is missing, expected both or neither")


def check_free_bits(function: str, free_bits: Any, free_bits_per: Any, reduction: Any) -> None:
    """``free_bits`` and what they are counted per."""
    if not is_number(free_bits):
        raise TypeError(
            f"{function}: free_bits is of type {type(free_bits).__name__}, expected float"
        )
    if not free_bits >= 0:
        raise ValueError(f"{function}: free_bits is {free_bits}, expected at least 0 (nats)")
    check_choice(function, "free_bits_per", free_bits_per, FREE_BITS_PER)
    if free_bits and free_bits_per != "sample" and reduction in ("none", "sample"):
        raise ValueError(
            f"{function}: reduction is {reduction!r}, which keeps the batch, but free bits per "
            f"{free_bits_per!r} are counted after averaging over it; use 'batchmean', 'mean' or "
            f"'sum', or free_bits_per='sample'"
        )


def check_seed(function: str, seed: Any, shape: Sequence[int] | None, device: torch.device) -> None:
    """Raises unless ``seed`` is int64, on the CPU or on ``device``, with rows for equal parts.

    Of z, whose shape is ``shape``; None: not asked.
    """
    check_tensor(function, "seed", seed)
    if seed.dtype != torch.int64:
        raise TypeError(f"{function}: seed has dtype {seed.dtype}, expected int64")
    fits = seed.dim() == 2 and seed.shape[1] == 2 and seed.shape[0] >= 1
    if fits and shape is not None and all(map(is_known, (*seed.shape, *shape))):
        fits = math.prod(shape) % seed.shape[0] == 0
    if not fits:
        of_z = "" if shape is None else f" of shape {shown(shape)}"
        raise ValueError(
            f"{function}: seed has shape {shown(seed.shape)}, expected (1, 2), or (R, 2): one row "
            f"for each of R equal parts of z{of_z}, in order"
        )
    if seed.device.type != "cpu" and seed.device != device:
        expected = one_of(list(dict.fromkeys(("cpu", str(device)))))
        raise ValueError(f"{function}: seed is on {seed.device}, expected {expected}")


def check_noise_source(function: str, generator: Any, seed: Any, mu: Tensor) -> None:
    """``generator`` and ``seed`` of a public function, for a z of the shape of ``mu``."""
    if generator is not None and seed is not None:
        raise ValueError(f"{function}: generator and seed are both given, expected at most one")
    if isinstance(generator, (list, tuple)):
        count = mu.shape[0] if mu.dim() > 0 else 0
        of_what = f"entry of the first dimension of mu {shown(mu.shape)}"
        check_generators(function, generator, mu.device, count, of_what)
    else:
        check_generator(function, generator, mu.device)
    if is_int(seed):
        if int(seed) not in _INT64:  # numpy's would be looked for one by one
            raise ValueError(f"{function}: seed is {seed}, expected an integer of 64 bits")
    elif seed is not None:
        if not isinstance(seed, Tensor):
            raise TypeError(
                f"{function}: seed is of type {type(seed).__name__}, "
                f"expected int or what draw_seed() returns"
            )
        check_seed(function, seed, mu.shape, mu.device)


def check_generator(
    function: str, generator: Any, device: torch.device, name: str = "generator"
) -> None:
    """Raises unless ``generator`` is None or a torch.Generator of the CPU or of ``device``."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"{function}: {name} is of type {type(generator).__name__}, expected torch.Generator"
        )
    if generator.device.type not in ("cpu", device.type):
        expected = one_of(list(dict.fromkeys(("cpu", device.type))))
        raise ValueError(f"{function}: {name} is on {generator.device}, expected {expected}")


def check_generators(
    function: str,
    generators: Sequence[Any],
    device: torch.device | None = None,
    count: int | None = None,
    of_what: str = "",
) -> None:
    """Raises unless each of a list of generators is one, of the CPU or of ``device``.

    And unless there is one for each of ``count`` things. Neither is asked where it is None.
    """
    if not generators:
        raise ValueError(f"{function}: generator is an empty list, expected one or more")
    if count is not None and not same_size(len(generators), count):
        raise ValueError(
            f"{function}: generator is a list of {len(generators)}, expected {count}: one for each "
            f"{of_what}"
        )
    for k, generator in enumerate(generators):
        name = f"generator[{k}]"
        if generator is None:
            raise TypeError(f"{function}: {name} is None, expected torch.Generator")
        own = getattr(generator, "device", torch.device("cpu"))
        check_generator(function, generator, own if device is None else device, name)


def check_one_draw(function: str, generator: Any) -> None:
    """Raises ValueError for a list of generators where each element is drawn several times."""
    if isinstance(generator, (list, tuple)):
        raise ValueError(
            f"{function}: num_samples and a list as generator are both given, expected at most one"
        )


def check_given_noise(function: str, noise: Any, mu: Tensor, sources: dict[str, Any]) -> None:
    """``noise`` of a public function, beside ``sources``, the arguments that would draw it."""
    for name, source in sources.items():
        if source is not None:
            raise ValueError(f"{function}: noise and {name} are both given, expected at most one")
    check_tensor(function, "noise", noise)
    check_gradient(function, "noise", noise, mu.shape, mu.device)


def check_num_samples(function: str, num_samples: Any) -> None:
    """Raises unless ``num_samples`` is a positive integer."""
    check_count(function, "num_samples", num_samples, "int or None")


def check_count(function: str, name: str, count: Any, expected: str = "int") -> None:
    """Raises unless it is a positive integer; ``expected`` is what it may be, in words."""
    if not is_int(count):
        raise TypeError(
            f"{function}: {name} is of type {type(count).__name__}, expected {expected}"
        )
    if count < 1:
        raise ValueError(f"{function}: {name} is {count}, expected at least 1")


def check_pairs(function: str, num_samples: Any) -> None:
    """Raises unless ``num_samples`` is an even number of antithetic samples."""
    if num_samples is None:
        raise ValueError(f"{function}: antithetic is True, expected with num_samples")
    check_num_samples(function, num_samples)
    if num_samples % 2:
        raise ValueError(
            f"{function}: num_samples is {num_samples}, expected an even number: they are "
            f"antithetic pairs"
        )
