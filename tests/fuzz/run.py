"""Many calls, and what was wrong with them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

from tests.fuzz import calls, mistakes

EVERY = 10  # which call is a mistake


def one(seed: int, index: int) -> str | None:
    """What is wrong with one call, in a line; None where it is right."""
    make = mistakes.refused if index % EVERY == 0 else calls.valid
    try:
        wrong = make(seed, index)
    except Exception as error:  # of a call that should be right: a line of the report, which fails
        where = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"{type(error).__name__} in {where.name}: {' '.join(str(error).split())[:300]}"
    return None if wrong is None else f"--seed {seed} --only {index}: {wrong}"


def failures(seed: int, indices: Iterable[int]) -> Iterator[str]:
    """A line for each call that is not right."""
    return filter(None, (one(seed, index) for index in indices))
