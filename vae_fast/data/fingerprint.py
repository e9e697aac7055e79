"""What data were, so that a run can tell whether they still are."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from vae_fast.data.layout import Data, DataError


def fingerprint(data: Data) -> dict[str, dict[str, Any]]:
    """Count, shape, dtype and BLAKE2b of the content of both parts, as plain values for JSON.

    The names of a folder's images decide the order of the content, and need no word of their own.
    """
    return {"train": _part(data.train), "test": _part(data.test)}


def require_same(data: Data, stored: dict[str, dict[str, Any]], run: str) -> None:
    """Check data against the fingerprint that a run has kept.

    Raises:
        DataError: they differ; the message says in what, and what to do.
    """
    now = fingerprint(data)
    for part, values in now.items():
        kept = stored.get(part)
        for name, value in values.items():
            before = kept.get(name) if isinstance(kept, dict) else None
            if before != value:
                raise DataError(
                    f"{data.name} is not what {run} was trained on: the {name} of its {part} part "
                    f"is {value} and was {before}; put the old data back, or start a new run"
                )


def _part(tensor: Tensor) -> dict[str, Any]:
    is_sparse = tensor.layout is torch.sparse_csr
    parts = (
        (tensor.crow_indices(), tensor.col_indices(), tensor.values()) if is_sparse else (tensor,)
    )
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.contiguous().numpy().reshape(-1).view("u1").data)
    return {
        "count": len(tensor),
        "shape": list(tensor.shape[1:]),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "checksum": digest.hexdigest(),
    }
