"""How a row is measured, and on what."""

from __future__ import annotations

import os
import platform
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import vae_fast as vf

_SETTLING = 0.02


class Step:
    """One forward and backward, as a training step does them: old gradients are dropped first.

    Its own, made by itself: the inputs' memory is shared with other contestants, their gradients
    are not.
    """

    def __init__(self, function: Callable[..., Any], inputs: list[Tensor]) -> None:
        self._function = function
        self.inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
        self.outputs = self._forward()
        # The loss's upstream gradient is one; z's is what a decoder would send back.
        self._upstream = [torch.randn_like(x) if x.dim() else None for x in self.outputs]

    def _forward(self) -> list[Tensor]:
        outputs = self._function(*self.inputs)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    def __call__(self) -> None:
        """Take the step."""
        for x in self.inputs:
            x.grad = None
        torch.autograd.backward(self._forward(), self._upstream)


def finished(peer: Callable[[], Any], device: str) -> Callable[[], Any]:
    """`peer`, and on a GPU the wait for what it has started."""
    if device == "cpu":
        return peer

    def run() -> None:
        peer()
        torch.accelerator.synchronize()

    return run


def copy_of(nbytes: int, device: str) -> Callable[[], Any]:
    """A copy that moves so many bytes: half of them read, half of them written."""
    source = torch.zeros(max(1, nbytes // 8), device=device)
    destination = torch.zeros_like(source)
    return lambda: destination.copy_(source)


@dataclass
class Timings:
    """Seconds of one contestant."""

    seconds: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        """The shortest."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Half of them are longer."""
        return statistics.median(self.seconds)

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return high - low

    def as_info(self, name: str) -> dict[str, float]:
        """For pytest-benchmark's extra_info. On a busy machine the least says more."""
        return {
            f"{name}_median": self.median,
            f"{name}_iqr": self.iqr,
            f"{name}_min": self.least,
        }


class Interleaved:
    """Runs and times every peer once per call, beginning with another one each time.

    Called between the rounds of the function that is benchmarked, it puts all of them under the
    same conditions: what the machine does besides, what the one before left in the caches.
    """

    def __init__(self, peers: dict[str, Callable[[], Any]], device: str) -> None:
        self._order = deque((name, finished(peer, device)) for name, peer in peers.items())
        self.timings = {name: Timings() for name in peers}

    def __call__(self) -> None:
        """Run each."""
        for name, peer in self._order:
            start = perf_counter()
            peer()
            self.timings[name].seconds.append(perf_counter() - start)
        self._order.rotate(1)

    def settle(self) -> None:
        """Run untimed until the threads of the contestants before have gone to sleep.

        The pools of OpenMP and of XLA look for more work for up to ten milliseconds after the last,
        and take a core from those of the other.
        """
        end = perf_counter() + _SETTLING
        while perf_counter() < end:
            for _, peer in self._order:
                peer()

    def forget(self) -> None:
        """What was timed up to here was the warm-up."""
        for timings in self.timings.values():
            timings.seconds.clear()


class OtherLoad:
    """What share of the machine other processes used since this was made; None where unknown."""

    def __init__(self) -> None:
        self._others, self._elapsed = self._now()

    def __call__(self) -> float | None:
        """The share since then."""
        others, elapsed = self._now()
        if others is None or self._others is None:
            return None
        return max(0.0, others - self._others) / (elapsed - self._elapsed) / (os.cpu_count() or 1)

    @staticmethod
    def _now() -> tuple[float | None, float]:
        own = sum(os.times()[:2])
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return None, perf_counter()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - own, perf_counter()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _allocator() -> str:
    """Who gives out memory: at large sizes it decides as much as the arithmetic."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        maps = ""
    known = ("tcmalloc", "jemalloc", "mimalloc")
    name = next((name for name in known if name in maps), "the C library's")
    settings = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("MALLOC_")]
    return f"{name}, {' '.join(sorted(settings)) or 'default settings'}"


def conditions(device: str) -> dict[str, str]:
    """What has to stand beside every figure of PyTorch's and of this package's."""
    info = vf.build_info()
    always = {
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }
    if device == "cuda":
        return always | {"kernels": f"CUDA {info.cuda_kernels}, for {info.cuda_architectures}"}
    return always | {
        "threads": str(torch.get_num_threads()),
        "instruction set": info.cpu_capability or "none: vae_fast runs in plain PyTorch",
        "allocator": _allocator(),
    }
