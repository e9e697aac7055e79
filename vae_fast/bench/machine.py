"""What the machine can do at best: the limits that the figures are held against."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
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


def free_memory(device: str) -> int | None:
    """Bytes that can still be taken on a device; None where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    free = int(fields["MemAvailable"].split()[0]) << 10
    group = Path("/sys/fs/cgroup")
    try:  # a container may have less than the machine
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - used)
