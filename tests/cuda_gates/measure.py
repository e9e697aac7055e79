"""The figures of a build, and the table that docs/cuda.md shows of them."""

import tempfile
from functools import cache
from pathlib import Path

import vae_fast
from tests.cuda_gates import calls, roofline, sass
from vae_fast import build_info

DOCUMENT = Path(__file__).parents[2] / "docs" / "cuda.md"
ARCHITECTURE = "sm_90"
_BEGIN, _END = "<!-- roofline -->\n", "<!-- end of roofline -->"


def binary() -> Path:
    """The library of CUDA kernels."""
    return Path(vae_fast.__path__[0]) / "_cuda.so"


def architectures() -> list[str]:
    """What it is compiled for, as `sm_90`."""
    text = build_info().cuda_architectures or ""
    return [f"sm_{part.removesuffix('+PTX').replace('.', '')}" for part in text.split(";")]


@cache
def kernels(architecture: str) -> dict[str, sass.Kernel]:
    """By their names."""
    with tempfile.TemporaryDirectory() as folder:
        found = sass.kernels_of(binary(), architecture, Path(folder))
    return {kernel.name: kernel for kernel in found}


Accesses = frozenset[tuple[str, int]]


@cache
def hot_loop(
    architecture: str, kernel: str, accesses: Accesses
) -> tuple[sass.Cost, sass.Cost, int] | None:
    """`sass.iteration_cost` of the kernel with this name."""
    return sass.iteration_cost(kernels(architecture)[kernel], dict(accesses))


def figure(call: calls.Call) -> roofline.Figure:
    """A call's row, from the machine code.

    Raises:
        LookupError: no loop of the kernel accesses memory as the call should.
    """
    under_way, dearest = 0, 0.0
    cheapest = dict.fromkeys(sass.Cost._fields, 0.0)
    for accesses, elements in call.loops:
        found = hot_loop(ARCHITECTURE, call.kernel, frozenset(accesses.items()))
        if found is None:
            raise LookupError(f"{call.kernel} has no loop with {accesses}")
        low, high, unrolled = found
        under_way = elements * unrolled
        dearest += high.instructions / under_way
        for unit, n in low._asdict().items():
            cheapest[unit] += n / under_way
    return roofline.Figure(
        call=call.name,
        dtype=call.dtype,
        kernel=call.kernel,
        read=sum(call.loads),
        written=sum(call.stores),
        elements=under_way,
        **{unit: round(n, 3) for unit, n in cheapest.items()},
        dearest=round(dearest, 3),
        registers=kernels(ARCHITECTURE)[call.kernel].registers,
    )


def figures() -> list[roofline.Figure]:
    """Of this build, for `ARCHITECTURE`."""
    return [figure(call) for call in calls.calls()]


def with_table(text: str, rows: list[roofline.Figure]) -> str:
    """The document with the table of these figures."""
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return head + _BEGIN + "\n".join(roofline.table(rows)) + "\n" + _END + tail


if __name__ == "__main__":  # make cuda-table
    measured = figures()
    roofline.write(measured)
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(), measured))
