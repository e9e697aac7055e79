"""The calls whose hot loops are looked at: each loss of the extension's list, the multinomial, rows
of counts, and the sampling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vae_fast.engine.extension import C

# dtype, bytes, what the rows' kernel is called (csrc/cuda/rows.cuh), elements of its vector.
_ROWS = (
    ("float32", 4, "float, 4, float", 4),
    ("bfloat16", 2, "float, 8, BFloat16", 8),
    ("float16", 2, "float, 8, Float16", 8),
    ("float64", 8, "double, 2, double", 2),
)


class Loop(NamedTuple):
    """What `sass.iteration_cost` asks for, and of how many elements an iteration is."""

    accesses: dict[str, int]
    elements: int


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
        around: elements of an iteration of the two loops that surround that one, over rows of
            counts: before it for the softmax, behind it for the gradient in the logits, which are
            read again (from the cache).
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
    around: int = 0

    @property
    def loops(self) -> list[Loop]:
        """The kernel's loops over elements."""
        under_way = self.vector * self.vectors
        loops = [Loop(self._accesses(self.stores), under_way)]
        if self.stores_later:
            loops.insert(0, Loop(self._accesses(()), under_way))
        if self.around:
            access = self.loads[0]
            loops.insert(0, Loop({f"load {access}": self.around}, self.around))
        if self.around and self.stores:
            n, kept = self.around, self.stores[0]
            accesses = {f"load {access}": n, f"store {kept}": n}
            accesses[f"load {kept}"] = accesses.get(f"load {kept}", 0) + n
            loops.append(Loop(accesses, n))
        return loops

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


def _counts() -> Iterator[Call]:
    """Rows of counts, means their shares of a total; every parameter by element."""
    assert C is not None
    for op in ("poisson_nll", "negative_binomial_nll"):
        for of in (op, f"zero_inflated_{op}"):
            operands = len(C.LOSSES[of])
            for dtype, size, around in (("float", 4, 8), ("double", 8, 4)):
                for gradients in ("true", "false") if dtype == "float" else ("true",):
                    yield Call(
                        f"softmax {of}" + ", gradients" * (gradients == "true"),
                        f"float{8 * size}",
                        f"count_rows<LossElement<{_formula(of)}, {gradients}>, {dtype}>",
                        (size,) * operands,
                        (size,) * (operands - 1) * (gradients == "true"),
                        vector=1,
                        around=around,
                    )


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
    return [*_losses(), *_multinomial(), *_counts(), *_sampling()]
