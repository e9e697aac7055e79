"""The calls whose hot loops are looked at: each loss of the extension's list, and the sampling."""

from collections.abc import Iterator
from dataclasses import dataclass

from vae_fast._extension import C

# The kernels' names for paths, by what the call's longest element has: csrc/cuda/rows.cuh.
_FLAT, _FOUR, _EIGHT, _DOUBLE = (
    "float, 4, true",
    "float, 4, false",
    "float, 8, false",
    "double, 1, false",
)


@dataclass(frozen=True)
class Call:
    """A kind of call on dense, aligned tensors, its value summed over everything.

    Attributes:
        name: for people.
        dtype: for people.
        kernel: that serves it.
        loads: bytes of the elements that it reads, one for each tensor.
        stores: of those that it writes.
        vector: elements of a load.
        vectors: of an iteration.
        scalars: bytes of what serves all elements, read anew for each vector (from the cache).
    """

    name: str
    dtype: str
    kernel: str
    loads: tuple[int, ...]
    stores: tuple[int, ...]
    vector: int
    vectors: int = 1
    scalars: tuple[int, ...] = ()

    @property
    def accesses(self) -> dict[str, int]:
        """What `sass.iteration_cost` asks for."""
        counts: dict[str, int] = {}
        for kind, sizes in (("load", self.loads), ("store", self.stores)):
            for size in sizes:
                access = f"{kind} {size * self.vector}"
                counts[access] = counts.get(access, 0) + self.vectors
        for size in self.scalars:
            counts[f"load {size}"] = counts.get(f"load {size}", 0) + self.vectors
        return counts


def _formula(op: str) -> str:
    """`gaussian_kl` is computed by `GaussianKl`."""
    return "".join(part.capitalize() for part in op.split("_"))


_ROWS = (("float32", 4, _FLAT, 4), ("bfloat16", 2, _EIGHT, 8), ("float64", 8, _DOUBLE, 1))


def _losses() -> Iterator[Call]:
    assert C is not None
    for op, operands in C.LOSSES.items():
        parameters = len(operands) - (operands[-1] == "target")
        for dtype, size, path, vector in _ROWS:
            kernel = f"rows<LossElement<{_formula(op)}, true>, {path}>"
            loads, stores = (size,) * len(operands), (size,) * parameters
            yield Call(f"{op}, gradients", dtype, kernel, loads, stores, vector)
        if parameters < len(operands):
            kernel = f"rows<LossElement<{_formula(op)}, true>, {_FOUR}>"
            loads, stores = (4,) * parameters + (1,), (4,) * parameters
            yield Call(f"{op}, gradients", "float32, uint8 target", kernel, loads, stores, 4)
        kernel = f"rows<LossElement<{_formula(op)}, false>, {_FLAT}>"
        yield Call(op, "float32", kernel, (4,) * len(operands), (), 4)


def _sampling() -> Iterator[Call]:
    draws = (
        ("reparameterize", "noise<DrawElement>", 2),
        ("reparameterize_kl", "noise<SampleElement<StandardNormalKl>>", 2),
        ("reparameterize_kl, prior", "noise<SampleElement<GaussianKl>>", 4),
    )
    for name, kernel, operands in draws:
        for dtype, size in (("float32", 4), ("bfloat16", 2)):
            loads = (size,) * operands
            yield Call(name, dtype, kernel, loads, (size,), 4, 4)
            yield Call(f"{name}, noise kept", dtype, kernel, loads, (size,) * 2, 4, 4)
    backwards = (("backward of both", "StandardNormalKl", 2), ("with a prior", "GaussianKl", 4))
    for name, formula, operands in backwards:
        for dtype, size, path, vector in _ROWS[:2]:
            kernel = f"rows<SampleBackwardElement<{formula}>, {path}>"
            loads, stores = (size,) * (operands + 2), (size,) * operands
            yield Call(name, dtype, kernel, loads, stores, vector, scalars=(4,))
    for dtype, size, path, vector in _ROWS[:1]:
        kernel = f"rows<ScaleElement, {path}>"
        yield Call("upstream gradient", dtype, kernel, (size,), (size,), vector, scalars=(4,))


def calls() -> list[Call]:
    return [*_losses(), *_sampling()]
