"""The calls whose hot loops are looked at: each loss of the extension's list, the multinomial, and
the sampling."""

from collections.abc import Iterator
from dataclasses import dataclass

from vae_fast.engine.extension import C

# dtype, bytes, what the rows' kernel is called (csrc/cuda/rows.cuh), elements of its vector.
_ROWS = (
    ("float32", 4, "float, 4, float", 4),
    ("bfloat16", 2, "float, 8, BFloat16", 8),
    ("float16", 2, "float, 8, Float16", 8),
    ("float64", 8, "double, 2, double", 2),
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
        stores_later: in a loop of its own, which reads everything once more (from the cache).
    """

    name: str
    dtype: str
    kernel: str
    loads: tuple[int, ...]
    stores: tuple[int, ...]
    vector: int
    vectors: int = 1
    scalars: tuple[int, ...] = ()
    stores_later: bool = False

    @property
    def loops(self) -> list[dict[str, int]]:
        """What `sass.iteration_cost` asks for, of each of the kernel's loops over elements."""
        if not self.stores_later:
            return [self._accesses(self.stores)]
        return [self._accesses(()), self._accesses(self.stores)]

    def _accesses(self, stores: tuple[int, ...]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for kind, sizes in (("load", self.loads), ("store", stores)):
            for size in sizes:
                access = f"{kind} {size * self.vector}"
                counts[access] = counts.get(access, 0) + self.vectors
        for size in self.scalars:
            counts[f"load {size}"] = counts.get(f"load {size}", 0) + self.vectors
        return counts


def _formula(op: str) -> str:
    """`gaussian_kl` is computed by `GaussianKl`."""
    return "".join(part.capitalize() for part in op.split("_"))


def _losses() -> Iterator[Call]:
    assert C is not None
    for op, operands in C.LOSSES.items():
        parameters = len(operands) - (operands[-1] == "target")
        for dtype, size, path, vector in _ROWS:
            kernel = f"rows<LossElement<{_formula(op)}, true>, {path}>"
            loads, stores = (size,) * len(operands), (size,) * parameters
            yield Call(f"{op}, gradients", dtype, kernel, loads, stores, vector)
        for dtype, size, path, vector in _ROWS[:2] if parameters < len(operands) else ():
            kernel = f"rows<LossElement<{_formula(op)}, true>, {path}>"
            loads, stores = (size,) * parameters + (1,), (size,) * parameters
            yield Call(f"{op}, gradients", f"{dtype}, uint8 target", kernel, loads, stores, vector)
        kernel = f"rows<LossElement<{_formula(op)}, false>, {_ROWS[0][2]}>"
        yield Call(op, "float32", kernel, (4,) * len(operands), (), 4)


def _multinomial() -> Iterator[Call]:
    """Of rows longer than a team holds."""
    name = "multinomial_nll, gradients"
    for dtype, size, path, vector in _ROWS:
        kernel = f"multinomial_rows<{path}>"
        vectors = (4 if dtype == "float64" else 16) // vector
        yield Call(name, dtype, kernel, (size, size), (size,), vector, vectors, stores_later=True)
        if dtype in ("float32", "bfloat16"):
            bytes_too = f"{dtype}, uint8 target"
            yield Call(
                name, bytes_too, kernel, (size, 1), (size,), vector, vectors, stores_later=True
            )
    yield Call("multinomial_nll", "float32", f"multinomial_rows<{_ROWS[0][2]}>", (4, 4), (), 4, 4)


def _sampling() -> Iterator[Call]:
    draws = (
        ("reparameterize", "DrawElement", 2),
        ("reparameterize_kl", "SampleElement<StandardNormalKl>", 2),
        ("reparameterize_kl, prior", "SampleElement<GaussianKl>", 4),
    )
    for name, element, operands in draws:
        for dtype, size, path, _ in _ROWS[:3]:
            kernel = f"noise<{element}, {path.split()[-1]}>"
            loads = (size,) * operands
            yield Call(name, dtype, kernel, loads, (size,), 4, 4)
            yield Call(f"{name}, noise kept", dtype, kernel, loads, (size,) * 2, 4, 4)
    for name, element, operands in draws[:2]:
        kernel = f"noise<{element}, AnyDtype>"
        loads = (4,) * operands
        yield Call(f"{name}, halves of a tensor", "float32", kernel, loads, (4,) * 2, 4, 4)
    backwards = (("backward of both", "StandardNormalKl", 2), ("with a prior", "GaussianKl", 4))
    for name, formula, operands in backwards:
        for dtype, size, path, vector in _ROWS[:3]:
            kernel = f"rows<SampleBackwardElement<{formula}>, {path}>"
            loads, stores = (size,) * (operands + 2), (size,) * operands
            yield Call(name, dtype, kernel, loads, stores, vector, scalars=(4,))
    for dtype, size, path, vector in _ROWS[:3]:
        kernel = f"rows<ScaleElement, {path}>"
        yield Call("upstream gradient", dtype, kernel, (size,), (size,), vector, scalars=(4,))


def calls() -> list[Call]:
    return [*_losses(), *_multinomial(), *_sampling()]
