"""Many calls, each made by the run's seed and its index, and what was wrong with them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tests.fuzz import calls, exact, mistakes
from tests.fuzz.draws import Source
from vae_fast.engine import extension

MISTAKEN_SHARE = 0.1
THREADED_EVERY = 8
CHUNKED_EVERY = 2
SMALL_CHUNKS = (4, 2)  # features, or rows, of linear_nll's


def results(source: Source, call: calls.Call) -> Iterator[tuple[str, Tensor, exact.Result]]:
    """Makes the call; its outputs and then the gradients, each with its name and what is right."""
    outputs = call.function(**call.arguments)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    for k, (output, right) in enumerate(zip(outputs, call.values(), strict=True)):
        yield f"output {k}", output, right
    attached = [output for output in outputs if output.requires_grad]
    wanted = call.wanted
    assert bool(attached) == bool(wanted), "a gradient for whom it may concern, or none at all"
    if not wanted:
        return
    upstream = [source.upstream(output) for output in attached]
    found = torch.autograd.grad(attached, list(wanted.values()), upstream)
    given = iter(upstream)
    everywhere = [
        exact.wide(next(given))
        if output.requires_grad
        else torch.zeros(output.shape, dtype=torch.float64, device="cpu")
        for output in outputs
    ]
    right_ones = call.gradients(everywhere)
    for (name, leaf), gradient in zip(wanted.items(), found, strict=True):
        assert gradient.dtype == leaf.dtype, f"the gradient in {name} is {gradient.dtype}"
        right_one = right_ones[name]
        assert right_one is not None
        yield f"gradient in {name}", gradient, right_one


def _wrong(source: Source, call: calls.Call) -> str | None:
    for name, got, right in results(source, call):
        text = right.complaint(got)
        if text is not None:
            return f"{name}: {text}"
    return None


def _complaint(seed: int, index: int) -> str | None:
    """What is wrong with one call, in a line that begins with how to make it again."""
    source = Source(seed, index)
    call = source.one_of(calls.FUNCTIONS)(source)
    make = mistakes.complaint if source.is_so(MISTAKEN_SHARE) else _wrong
    try:
        text = make(source, call)
    except Exception as error:  # of a call that should be right: a line of the report, which fails
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} in {where.name}: {' '.join(str(error).split())[:300]}"
    return None if text is None else f"--seed {seed} --only {index}: {call}: {text}"


def failures(seed: int, indices: Iterable[int]) -> Iterator[str]:
    """A line for each call that is not right.

    Some calls have two threads, the others one; and every other layer goes by small chunks.
    """
    threads, set_chunks = torch.get_num_threads(), extension.C.set_linear_chunks
    try:
        for index in indices:
            torch.set_num_threads(2 if index % THREADED_EVERY == 0 else 1)
            set_chunks(*(SMALL_CHUNKS if index % CHUNKED_EVERY == 0 else (0, 0)))
            text = _complaint(seed, index)
            if text is not None:
                yield text
    finally:
        torch.set_num_threads(threads)
        set_chunks(0, 0)
