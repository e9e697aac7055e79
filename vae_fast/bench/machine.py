"""What the machine can do at best: the limits that the figures are held against."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from vae_fast.bench.measure import copy_of, finished

COPIED_BYTES = tuple(1 << k for k in range(16, 29, 2))
_GEMM = 1024


def _median_seconds(run: Callable[[], Any], seconds: float) -> float:
    for _ in range(3):
        run()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return statistics.median(times)


def copy_bandwidth(device: str, seconds: float = 0.1) -> dict[int, float]:
    """Bytes per second, read and written, of a copy that moves so many bytes."""
    return {
        nbytes: nbytes / _median_seconds(finished(copy_of(nbytes, device), device), seconds)
        for nbytes in COPIED_BYTES
    }


def gemm_rate(device: str, seconds: float = 0.3) -> float:
    """Floating-point operations per second of a square float32 matrix product."""
    a = torch.rand(_GEMM, _GEMM, device=device)
    out = torch.empty_like(a)
    product = finished(lambda: torch.mm(a, a, out=out), device)
    return 2 * _GEMM**3 / _median_seconds(product, seconds)
