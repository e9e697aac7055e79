"""Batches out of tensors in memory, or out of any DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import cast

import torch
from torch import Tensor

from vae_fast.data.sparse import density, nbytes, rows
from vae_fast.training.expected import Expected, Source

# Of the GPU's free memory, what the data may take; the rest is for the model and its step.
_SHARE_FOR_DATA = 0.5

# The density of a table in CSR from which a step is as fast with dense batches.
DENSE_FROM = 0.1


def place(source: Source, device: torch.device) -> Source:
    """Tensors are moved to the device once, as they are (uint8 stays uint8), where they fit."""
    if not isinstance(source, Tensor) or source.device == device:
        return source
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if nbytes(source) > _SHARE_FOR_DATA * free:
            return source
    return source.to(device)


def step_count(source: Source, batch_size: int) -> int | None:
    """Batches in a pass over the data; None where a DataLoader does not know."""
    if isinstance(source, Tensor):
        return -(-len(source) // batch_size)
    try:
        return len(cast(Sized, source))
    except TypeError:
        return None


def batches(
    source: Source,
    batch_size: int,
    device: torch.device,
    shuffle: int | None = None,
    expected: Expected = Expected(),  # noqa: B008  (frozen)
    *,
    in_csr: bool = False,
) -> Iterator[Tensor]:
    """The data batch by batch, on the device.

    From a tensor: slices, or for a shuffle `index_select` of a permutation, which costs a tenth of
    what a DataLoader does; of a sparse one a batch at a time is made dense, unless the model reads
    CSR and few numbers are stored. A DataLoader's own batches and order; of a batch that is a
    sequence or a mapping, the entry that has the model's shape is the data (the others, labels for
    example, are not used).

    What is not on the GPU yet goes there by way of pinned memory, while the steps before still run.

    Args:
        source: (N, *shape) tensor, perhaps in `torch.sparse_csr`, or a DataLoader.
        batch_size: of batches from a tensor.
        device: where the batches shall be.
        shuffle: seed of the order of a tensor's data; None keeps it.
        expected: what a DataLoader's batches are looked through for, and checked against.
        in_csr: whether the model reads a batch in CSR as it is.
    """
    in_csr = in_csr and isinstance(source, Tensor) and density(source) < DENSE_FROM
    if isinstance(source, Tensor):
        if shuffle is None and source.layout is torch.strided:
            for batch in torch.split(source, batch_size):
                yield _moved(batch, device)
            return
        order = torch.arange(len(source), device="cpu")
        if shuffle is not None:
            generator = torch.Generator().manual_seed(shuffle)
            order = torch.randperm(len(source), generator=generator, device="cpu")
        for index in torch.split(order.to(source.device), batch_size):
            yield _moved(rows(source, index, in_csr=in_csr), device)
        return
    for batch in source:
        yield _moved(expected.batch(batch), device)


def _moved(batch: Tensor, device: torch.device) -> Tensor:
    if batch.device.type == "cpu" and device.type == "cuda":
        batch = batch.pin_memory()
    return batch.to(device, non_blocking=True)
