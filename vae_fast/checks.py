"""Checks of arguments, with messages that say which argument, what was expected and what came.

The compiled kernels check by themselves, and fast. These run where there is none (the reference,
the compiler's fake tensors), and where a kernel refused its arguments: then they say why, in the
terms of the public function. Nothing here looks at a tensor's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

REDUCTIONS = ("none", "sample", "sum", "batchmean", "mean")
FREE_BITS_PER = ("dimension", "sample")

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_TARGETS = (*_FLOATS, torch.uint8, torch.bool)
_INT64 = range(-(2**63), 2**63)


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _names(dtypes: Iterable[torch.dtype]) -> str:
    return _one_of([str(dtype).removeprefix("torch.") for dtype in dtypes])


def _shape(shape: Sequence[int]) -> str:
    return str(tuple(shape))


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python or of numpy; a bool is none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (float, int, Real, torch.SymFloat))


def is_int(value: Any) -> bool:
    """Whether it is a whole number, of Python or of numpy; a bool is none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, Integral, torch.SymInt))


def _is_known(size: Any) -> bool:
    """Not one of the compiler's, which may be known at run time alone."""
    return type(size) is int and not torch.compiler.is_compiling()


def _same_size(a: int, b: int) -> bool:
    """Sizes that only the run will tell are taken to agree: the kernels look again."""
    if _is_known(a) and _is_known(b):
        return a == b
    from torch.fx.experimental.symbolic_shapes import guard_or_true

    return guard_or_true(a == b)


def _is_one(a: int) -> bool:
    """A size that only the run will tell is taken to be none that broadcasts."""
    if _is_known(a):
        return a == 1
    from torch.fx.experimental.symbolic_shapes import guard_or_false

    return guard_or_false(a == 1)


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that two shapes broadcast to, or None where they do not."""
    aligned = list(zip_longest(reversed(a), reversed(b), fillvalue=1))
    if not all(_is_one(x) or _is_one(y) or _same_size(x, y) for x, y in aligned):
        return None
    return tuple(y if _is_one(x) else x for x, y in reversed(aligned))


def _same_shape(a: Sequence[int], b: Sequence[int]) -> bool:
    return len(a) == len(b) and all(map(_same_size, a, b))


def _fits_into(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a tensor broadcasts to the shape ``whole``, and no further."""
    if len(shape) > len(whole):
        return False
    own = whole[len(whole) - len(shape) :]
    return all(_is_one(x) or _same_size(x, y) for x, y in zip(shape, own, strict=True))


def check_tensor(function: str, argument: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a tensor, and not a sparse or a nested one."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: {argument} is of type {type(value).__name__}, expected torch.Tensor"
        )
    if value.layout != torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        raise TypeError(
            f"{function}: {argument} is a tensor of layout {kind}, expected a dense one"
        )


def check_operands(
    function: str, names: Sequence[str], operands: Sequence[Any], mask: Any = None
) -> None:
    """Types, dtypes, devices and shapes of a loss's operands and of its mask.

    Raises:
        TypeError: An operand is no tensor, or has a dtype that it must not have.
        ValueError: The operands lie on different devices or do not broadcast together.
    """
    for name, operand in zip(names, operands, strict=True):
        check_tensor(function, name, operand)
    if mask is not None:
        check_tensor(function, "mask", mask)
    first = operands[0]
    shape: tuple[int, ...] = ()
    arguments: list[tuple[str, Tensor, tuple[torch.dtype, ...]]] = [
        (name, operand, _TARGETS if name == "target" else _FLOATS)
        for name, operand in zip(names, operands, strict=True)
    ]
    if mask is not None:
        arguments.append(("mask", mask, (torch.bool,)))
    for name, tensor, dtypes in arguments:
        if tensor.dtype not in dtypes:
            raise TypeError(
                f"{function}: {name} has dtype {tensor.dtype}, expected {_names(dtypes)}"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"{function}: {name} is on {tensor.device}, expected {first.device} like {names[0]}"
            )
        joined = _broadcast(tensor.shape, shape)
        if joined is None:
            raise ValueError(
                f"{function}: {name} has shape {_shape(tensor.shape)}, "
                f"expected a shape that broadcasts with {names[0]} {_shape(shape)}"
            )
        shape = joined


def check_shapes(
    function: str,
    names: Sequence[str],
    operands: Sequence[Tensor],
    mask: Tensor | None,
    batch_dims: int,
) -> None:
    """What may broadcast, and how: the first operand has the shape of the loss.

    A target has that shape too, but for leading batch dimensions (samples of z, which it does not
    have). Everything else broadcasts to it and makes it no larger. A shape that is wrong in
    another way broadcasts as well, to a loss that is wrong: it is refused.

    Raises:
        ValueError: An operand's shape is another.
    """
    whole = operands[0].shape
    for name, operand in zip(names[1:], operands[1:], strict=True):
        shape = operand.shape
        if name != "target":
            if not _fits_into(shape, whole):
                raise ValueError(
                    f"{function}: {name} has shape {_shape(shape)}, expected one that broadcasts "
                    f"to that of {names[0]}, {_shape(whole)}"
                )
            continue
        leading = len(whole) - len(shape)
        if not (0 <= leading <= batch_dims and _same_shape(shape, whole[leading:])):
            raise ValueError(
                f"{function}: target has shape {_shape(shape)}, expected that of {names[0]}, "
                f"{_shape(whole)}; only leading batch dimensions may be missing "
                f"(batch_dims is {batch_dims})"
            )
    if mask is not None and not _fits_into(mask.shape, whole):
        raise ValueError(
            f"{function}: mask has shape {_shape(mask.shape)}, expected one that broadcasts to "
            f"that of {names[0]}, {_shape(whole)}"
        )


def check_latent(function: str, mu: Tensor, batch_dims: int, reduction: Any) -> None:
    """Raises ValueError where the mean per datum would be one over the code's own numbers."""
    if 0 < mu.dim() == batch_dims and reduction == "batchmean":
        raise ValueError(
            f"{function}: mu has shape {_shape(mu.shape)}, which is batch alone, as batch_dims is "
            f"{batch_dims}; expected (*batch, *latent): for one datum give batch_dims=0, for codes "
            f"of one number mu.unsqueeze(-1)"
        )


def check_elbo(
    function: str,
    params: Tensor,
    target: Tensor,
    mu: Tensor,
    batch_dims: int,
    sample_dims: int,
) -> None:
    """The shapes that the terms of the bound must have in common.

    Raises:
        TypeError: ``sample_dims`` is no whole number.
        ValueError: ``params`` is not ``sample_dims`` dimensions and then the target's shape, or mu
            has another batch than the target.
    """
    if not is_int(sample_dims):
        raise TypeError(
            f"{function}: sample_dims is of type {type(sample_dims).__name__}, expected int"
        )
    if sample_dims < 0 or not _same_shape(params.shape[sample_dims:], target.shape):
        expected = f"({'K, ' * sample_dims}*{_shape(target.shape)})" if sample_dims > 0 else ""
        raise ValueError(
            f"{function}: params has shape {_shape(params.shape)}, expected "
            f"{expected or _shape(target.shape)} for a target {_shape(target.shape)}: samples of z "
            f"in front of it are declared by sample_dims, which is {sample_dims}"
        )
    if mu.device != target.device:
        raise ValueError(f"{function}: mu is on {mu.device}, expected {target.device} like target")
    if not _same_shape(mu.shape[:batch_dims], target.shape[:batch_dims]):
        raise ValueError(
            f"{function}: mu has shape {_shape(mu.shape)}, expected the batch of target "
            f"{_shape(target.shape)} in front (batch_dims is {batch_dims})"
        )


def check_gradient(
    function: str, name: str, gradient: Tensor, shape: Sequence[int], device: torch.device
) -> None:
    """What a gradient that comes to a backward op, or was kept for one, must be."""
    if gradient.dtype not in _FLOATS:
        raise TypeError(
            f"{function}: {name} has dtype {gradient.dtype}, expected {_names(_FLOATS)}"
        )
    if gradient.device != device:
        raise ValueError(f"{function}: {name} is on {gradient.device}, expected {device}")
    if tuple(gradient.shape) != tuple(shape):
        raise ValueError(
            f"{function}: {name} has shape {_shape(gradient.shape)}, expected {_shape(shape)}"
        )


def check_reduction(function: str, keep: int, mean: int, dims: int) -> None:
    """An op's ``keep`` and ``mean``: raises ValueError where they do not fit the dimensions."""
    if keep < 0 or mean < 0 or keep + mean > dims:
        raise ValueError(
            f"{function}: keep = {keep} and mean_dims = {mean} do not fit {dims} dimensions"
        )


def _check_choice(function: str, argument: str, value: Any, choices: Iterable[str]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{function}: {argument} is of type {type(value).__name__}, expected str")
    if value not in choices:
        raise ValueError(
            f"{function}: {argument} is {value!r}, expected "
            f"{_one_of([repr(choice) for choice in choices])}"
        )


def check_reduction_name(function: str, reduction: Any) -> None:
    """Raises unless ``reduction`` is the name of one."""
    _check_choice(function, "reduction", reduction, REDUCTIONS)


def check_public_reduction(
    function: str, reduction: Any, batch_dims: Any, tensors: Iterable[Tensor | None]
) -> None:
    """``reduction`` and ``batch_dims`` of a public function, for tensors that broadcast."""
    check_reduction_name(function, reduction)
    if not is_int(batch_dims):
        raise TypeError(
            f"{function}: batch_dims is of type {type(batch_dims).__name__}, expected int"
        )
    dims = max(tensor.dim() for tensor in tensors if tensor is not None)
    counts_batch = reduction in ("sample", "batchmean")
    # The default of one is nothing said where a number is summed.
    if not 0 <= batch_dims <= (dims if counts_batch else max(dims, 1)):
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected 0 to {dims}, "
            f"the number of dimensions"
        )


def check_has_classes(function: str, batch_dims: int, tensors: Iterable[Tensor]) -> None:
    """Raises ValueError unless a dimension is left for the classes of a softmax."""
    dims = max(tensor.dim() for tensor in tensors)
    if batch_dims >= dims:
        raise ValueError(
            f"{function}: batch_dims is {batch_dims}, expected less than {dims}, the number of "
            f"dimensions: the last one are the classes"
        )


def check_linear(function: str, h: Any, weight: Any, bias: Any, target: Any) -> None:
    """A linear layer's input and parameters, and a target for each of its outputs."""
    for name, value in (("h", h), ("weight", weight), ("target", target)):
        check_tensor(function, name, value)
    if weight.dim() != 2 or h.dim() < 1 or h.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{function}: weight has shape {_shape(weight.shape)}, expected (out, in) with in the "
            f"last size of h {_shape(h.shape)}"
        )
    layer = [("h", h), ("weight", weight)]
    if bias is not None:
        check_tensor(function, "bias", bias)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{function}: bias has shape {_shape(bias.shape)}, expected "
                f"{_shape(weight.shape[:1])}"
            )
        layer.append(("bias", bias))
    for name, value in layer:
        if value.dtype not in _FLOATS:
            raise TypeError(
                f"{function}: {name} has dtype {value.dtype}, expected {_names(_FLOATS)}"
            )
    for name, value in layer:
        if value.dtype != weight.dtype:
            raise TypeError(f"{function}: {name} has dtype {value.dtype}, expected {weight.dtype}")
        if value.device != h.device:
            raise ValueError(f"{function}: {name} is on {value.device}, expected {h.device} like h")
    if target.device != h.device:
        raise ValueError(f"{function}: target is on {target.device}, expected {h.device} like h")
    if target.shape != (*h.shape[:-1], weight.shape[0]):
        raise ValueError(
            f"{function}: target has shape {_shape(target.shape)}, expected "
            f"{_shape((*h.shape[:-1], weight.shape[0]))}"
        )


def check_prior(function: str, prior_mu: Any, prior_logvar: Any) -> None:
    """Raises ValueError unless both parameters of the prior are given, or neither."""
    if (prior_mu is None) != (prior_logvar is None):
        missing = "prior_mu" if prior_mu is None else "prior_logvar"
        raise ValueError(f"{function}: {missing} is missing, expected both or neither")


def check_seed(function: str, seed: Any, shape: Sequence[int] | None, device: torch.device) -> None:
    """Raises unless ``seed`` is int64, on the CPU or on ``device``, with rows for equal parts.

    Of z, whose shape is ``shape``; None: not asked.
    """
    check_tensor(function, "seed", seed)
    if seed.dtype != torch.int64:
        raise TypeError(f"{function}: seed has dtype {seed.dtype}, expected int64")
    fits = seed.dim() == 2 and seed.shape[1] == 2 and seed.shape[0] >= 1
    if fits and shape is not None and all(map(_is_known, (*seed.shape, *shape))):
        fits = math.prod(shape) % seed.shape[0] == 0
    if not fits:
        of_z = "" if shape is None else f" of shape {_shape(shape)}"
        raise ValueError(
            f"{function}: seed has shape {_shape(seed.shape)}, expected (1, 2), or (R, 2): one row "
            f"for each of R equal parts of z{of_z}, in order"
        )
    if seed.device.type != "cpu" and seed.device != device:
        expected = _one_of(list(dict.fromkeys(("cpu", str(device)))))
        raise ValueError(f"{function}: seed is on {seed.device}, expected {expected}")


def check_noise_source(function: str, generator: Any, seed: Any, mu: Tensor) -> None:
    """``generator`` and ``seed`` of a public function, for a z of the shape of ``mu``."""
    if generator is not None and seed is not None:
        raise ValueError(f"{function}: generator and seed are both given, expected at most one")
    if isinstance(generator, (list, tuple)):
        count = mu.shape[0] if mu.dim() > 0 else 0
        of_what = f"entry of the first dimension of mu {_shape(mu.shape)}"
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
        expected = _one_of(list(dict.fromkeys(("cpu", device.type))))
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
    if count is not None and not _same_size(len(generators), count):
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


def check_one_spelling(function: str, logvar: Any, scale: Any) -> None:
    """Raises unless exactly one of a variance's logarithm and its root is given."""
    if scale is None:
        raise TypeError(
            f"{function}: logvar is of type NoneType, expected torch.Tensor or a number, or scale "
            f"in its place"
        )
    if logvar is not None:
        raise ValueError(f"{function}: logvar and scale are both given, expected one of them")


def check_given_noise(function: str, noise: Any, mu: Tensor, sources: dict[str, Any]) -> None:
    """``noise`` of a public function, beside ``sources``, the arguments that would draw it."""
    for name, source in sources.items():
        if source is not None:
            raise ValueError(f"{function}: noise and {name} are both given, expected at most one")
    check_tensor(function, "noise", noise)
    check_gradient(function, "noise", noise, mu.shape, mu.device)


def check_num_samples(function: str, num_samples: Any) -> None:
    """Raises unless ``num_samples`` is a positive integer."""
    if not is_int(num_samples):
        raise TypeError(
            f"{function}: num_samples is of type {type(num_samples).__name__}, expected int or None"
        )
    if num_samples < 1:
        raise ValueError(f"{function}: num_samples is {num_samples}, expected at least 1")


def check_free_bits(function: str, free_bits: Any, free_bits_per: Any, reduction: Any) -> None:
    """``free_bits`` and what they are counted per."""
    if not is_number(free_bits):
        raise TypeError(
            f"{function}: free_bits is of type {type(free_bits).__name__}, expected float"
        )
    if not free_bits >= 0:
        raise ValueError(f"{function}: free_bits is {free_bits}, expected at least 0 (nats)")
    _check_choice(function, "free_bits_per", free_bits_per, FREE_BITS_PER)
    if free_bits and free_bits_per == "dimension" and reduction in ("none", "sample"):
        raise ValueError(
            f"{function}: reduction is {reduction!r}, which keeps the batch, but free bits per "
            f"'dimension' are counted after averaging over it; use 'batchmean', 'mean' or 'sum', "
            f"or free_bits_per='sample'"
        )


def check_likelihood(function: str, likelihood: Any, choices: Iterable[str]) -> None:
    """Raises unless ``likelihood`` is the name of one."""
    _check_choice(function, "likelihood", likelihood, tuple(choices))
