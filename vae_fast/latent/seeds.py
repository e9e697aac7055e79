"""Where the noise of a call comes from: torch's generators, or a seed that is given."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_fast.engine import extension
from vae_fast.latent import noise
from vae_fast.latent.checks import check_generator, check_generators, check_noise_source

Seed = Tensor | int
Generator = torch.Generator | list[torch.Generator] | tuple[torch.Generator, ...]

_ops = torch.ops.vae_fast


def draw_seed(
    generator: Generator | None = None, *, device: torch.device | str | None = None
) -> Tensor:
    """Draws what determines the noise of one call: the key and the offset of its counters.

    Drawn from torch's generator, so that ``torch.manual_seed``, ``generator`` and the saving and
    restoring of its state hold. A call that is not given ``seed=`` draws it in just this way, from
    the generator of the device that its operands are on. Pass it as ``seed=`` to repeat the noise
    of a call, or under ``torch.compile`` to draw from a generator of one's own (``generator=`` does
    not trace) and to be safe from a compiler that is set to recompute random operations
    (``aggressive_recomputation``, ``activation_memory_budget``).

    Args:
        generator: Of any device; None: the default one of ``device``. A list of them: a row of the
            seed from each, in order.
        device: Where the seed is drawn; None: on the CPU, from whichever generator. What a CUDA
            graph records must be drawn on the GPU, or every replay has the same noise.

    Returns:
        (1, 2) int64, on ``device``; (R, 2) from a list of R generators.

    Raises:
        TypeError: A generator has a wrong type.
        ValueError: A generator is on another kind of device, or the list is empty.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> seed = vf.draw_seed(torch.Generator().manual_seed(1))
        >>> seed.shape, seed.dtype
        (torch.Size([1, 2]), torch.int64)
        >>> mu = torch.zeros(3)
        >>> z = vf.reparameterize(mu, 0.0, seed=seed)
        >>> torch.equal(z, vf.reparameterize(mu, 0.0, seed=seed))  # the same noise once more
        True
    """
    if isinstance(generator, (list, tuple)):
        check_generators("draw_seed", generator)
        return torch.cat([draw_seed(one, device=device) for one in generator])
    place = torch.device("cpu" if device is None else device)
    if extension.kernels is None or (place.type != "cpu" and extension.use_reference(place.type)):
        _check_generator_of_a_seed(generator, device)
        return noise.draw_seed(generator, place)
    try:
        # The fresh tensor tells two draws apart: the compiler would merge equal calls.
        like = torch.empty((1, 2), dtype=torch.int64, device=place)
        seed: Tensor = _ops.draw_seed(like, generator)
        return seed
    except Exception:
        _check_generator_of_a_seed(generator, device)
        raise


def _check_generator_of_a_seed(
    generator: torch.Generator | None, device: torch.device | str | None
) -> None:
    """Where no device is named, a generator of any will do."""
    own = getattr(generator, "device", "cpu")
    check_generator("draw_seed", generator, torch.device(own if device is None else device))


def seed_of(function: str, generator: Generator | None, seed: Seed | None, mu: Tensor) -> Tensor:
    """The seed of a call of the public function ``function``, given or drawn."""
    check_noise_source(function, generator, seed, mu)
    if seed is None:
        # Compiled code may become a graph: on the GPU its draws belong there, but for those of the
        # CPU's generators.
        given = generator if isinstance(generator, (list, tuple)) else [generator]
        on_gpu = mu.device.type == extension.GPU and not extension.use_reference(mu.device.type)
        on_gpu = on_gpu and all(one is None or one.device.type == extension.GPU for one in given)
        return draw_seed(generator, device=mu.device if on_gpu else None)
    if isinstance(seed, Tensor):
        return seed
    return torch.tensor([[int(seed), 0]], dtype=torch.int64, device="cpu")


def draws_in_kernel(generator: Generator | None, seed: Seed | None) -> bool:
    """Whether the kernels' own entry serves, which draws one seed itself."""
    return (
        seed is None
        and not isinstance(generator, (list, tuple))
        and not torch.compiler.is_compiling()
    )
