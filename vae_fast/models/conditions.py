"""Counts with the number of a condition in the last column, dense or in CSR: taken apart, and told.

In CSR nothing is made dense: a condition's one-hot code is one more entry of its row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast.engine.counts import is_csr, row_sums


def without_condition(x: Tensor) -> Tensor:
    """(B, D) of (B, D + 1): without the last column."""
    if not is_csr(x):
        return x[:, :-1]
    is_kept = x.col_indices() < x.shape[1] - 1
    # How many entries are kept before each one, and before where each row begins.
    before = functional.pad(is_kept.cumsum(0), (1, 0))
    starts = before[x.crow_indices()].to(x.crow_indices().dtype)
    shape = (x.shape[0], x.shape[1] - 1)
    return torch.sparse_csr_tensor(starts, x.col_indices()[is_kept], x.values()[is_kept], shape)


def condition_numbers(x: Tensor) -> Tensor:
    """The last column, (B,) int64; in CSR a 0 need not be stored."""
    if not is_csr(x):
        return x[:, -1].long()
    is_number = x.col_indices() == x.shape[1] - 1
    alone = torch.where(is_number, x.values(), 0)
    only = torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), alone, x.shape)
    return row_sums(only, torch.float64).squeeze(1).long()


def with_codes(values: Tensor, numbers: Tensor, count: int) -> Tensor:
    """(..., B, D + count): the one-hot code of each datum's condition behind its values.

    Args:
        values: (..., B, D), or (B, D) in CSR.
        numbers: (B,).
        count: how many conditions there are.

    Raises:
        RuntimeError: on the CPU, a number that is no condition's.
    """
    codes = functional.one_hot(numbers, count).to(values.dtype)
    if not is_csr(values):
        return torch.cat((values, codes.expand(*values.shape[:-1], -1)), -1)
    starts, columns = values.crow_indices(), values.col_indices()
    rows = torch.arange(len(numbers), device=numbers.device)
    row = torch.repeat_interleave(rows, starts.diff())
    # Each row is longer by one, its code, which comes last.
    own, last = torch.arange(len(row), device=row.device) + row, starts[1:] + rows
    placed = columns.new_empty(len(row) + len(rows))
    placed[own], placed[last] = columns, (values.shape[1] + numbers).to(columns.dtype)
    told = values.values().new_ones(len(placed))
    told[own] = values.values()
    starts = starts + torch.arange(len(starts), dtype=starts.dtype, device=starts.device)
    shape = (values.shape[0], values.shape[1] + count)
    return torch.sparse_csr_tensor(starts, placed, told, shape)
