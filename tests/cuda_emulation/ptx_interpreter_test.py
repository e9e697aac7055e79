"""The interpreter's instructions, in a few lines of PTX, against torch, fractions and bits."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import ptx
import pytest
import torch

BITS = np.random.default_rng(0).integers(0, 1 << 32, 3 * 4096, np.uint32)
# Every kind of float, NaNs and subnormals too; ties of bfloat16 and float16 among them.
ANY = np.concatenate([BITS[:3000], BITS[:3000] & 0xFFFF8000, BITS[:1000] & 0xFFFFF000, BITS[:500]])
ANY[-500:] &= 0x807FFFFF


def execute(code: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The registers after code, one thread for each element of the inputs."""
    threads = len(next(iter(inputs.values())))
    module = f".entry k(\n.param .u64 p\n)\n.maxntid {threads}\n{{\n{code}\nret;\n}}"
    block = ptx.Block(ptx.Kernel(module, "k"), ptx.Memory(), 0, 1, bytes(8))
    for name, values in inputs.items():
        block.registers[f"%{name}"] = values.view(f"u{values.itemsize}")
    block.run()
    return {name.lstrip("%"): values for name, values in block.registers.items()}


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """The same bits, or NaN both."""
    nan = np.isnan(got) & np.isnan(expected)
    return bool(np.all(nan | (got.view(f"u{got.itemsize}") == expected.view(f"u{got.itemsize}"))))


def rounded(exact: Fraction, direction: str) -> float:
    """The float next to a number of no special size: towards zero, down, up."""
    unit = Fraction(2) ** (math.frexp(float(exact))[1] - 24)
    to_integer = {"rz": math.trunc, "rm": math.floor, "rp": math.ceil, "rn": round}[direction]
    return float(to_integer(exact / unit) * unit)


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_halves(kind: str, dtype: torch.dtype) -> None:
    a, b = ANY, ANY[::-1].copy()
    code = f"""cvt.rn.{kind}.f32 %rs1, %f1;
        {{ cvt.rn.{kind}x2.f32 %r1, %f1, %f2; }}
        {{.reg .b16 low, high;
          mov.b32 {{low, high}}, %r1;
          cvt.f32.{kind} %f3, low;
          cvt.f32.{kind} %f4, high;}}"""
    registers = execute(code, f1=a, f2=b)

    def half(bits: np.ndarray) -> np.ndarray:
        return torch.from_numpy(bits.view(np.float32)).to(dtype).float().numpy()

    assert same(registers["f4"].astype(np.uint32).view(np.float32), half(a))
    assert same(registers["f3"].astype(np.uint32).view(np.float32), half(b))
    assert np.array_equal(registers["rs1"], registers["r1"] >> 16)


@pytest.mark.parametrize("direction", ["rn", "rz", "rm", "rp"])
def test_fma_is_rounded_once(direction: str) -> None:
    near = ((BITS & 0x83FFFFFF) | 0x3C000000).reshape(3, -1).view(np.float32)
    a, b, c = near
    c[::2] = -(a * b)[::2] * floats(1, 1 + 2**-23)[np.arange(len(c[::2])) % 2]  # cancels
    got = execute(f"fma.{direction}.f32 %f4, %f1, %f2, %f3;", f1=a, f2=b, f3=c)["f4"]
    for i, x in enumerate(got.view(np.float32).astype(float)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        assert x == (rounded(exact, direction) if exact else 0)


def test_fma_of_doubles() -> None:
    a = np.array([1 + 2.0**-52, 1 + 2.0**-30])
    registers = execute("fma.rn.f64 %fd2, %fd1, %fd1, 0dBFF0000000000000;", fd1=a)
    expected = [float(Fraction(x) ** 2 - 1) for x in a]
    assert registers["fd2"].view(np.float64).tolist() == expected


@pytest.mark.parametrize(
    ("instruction", "function"),
    [
        ("ex2.approx.ftz.f32", lambda x: 2**x),
        ("rcp.approx.ftz.f32", lambda x: 1 / x),
        ("sqrt.approx.f32", lambda x: x**0.5),
        ("rsqrt.approx.f32", lambda x: x**-0.5),
    ],
)
def test_approximations_are_rounded_once(instruction: str, function: object) -> None:
    x = floats(0.3, 1.7, 2, 9.9, 31)
    got = execute(f"{instruction} %f2, %f1;", f1=x)["f2"].view(np.float32)
    assert got.tolist() == [float(np.float32(function(float(y)))) for y in x]  # type: ignore


def test_modifiers() -> None:
    tiny, nan, infinity = 1e-40, math.nan, math.inf
    a = floats(tiny, nan, -3, 0.0, 0.5, infinity)
    b = floats(1, 2, nan, -0.0, 0.25, 1)
    registers = execute(
        """add.ftz.f32 %f3, %f1, 0f00000000;
        add.sat.f32 %f4, %f1, 0f00000000;
        min.f32 %f5, %f1, %f2;
        max.f32 %f6, %f1, %f2;
        max.NaN.f32 %f7, %f1, %f2;
        copysign.f32 %f8, %f2, %f1;
        cvt.rzi.s32.f32 %r1, %f1;
        cvt.sat.f32.f32 %f9, %f1;""",
        f1=a,
        f2=b,
    )
    results = {name: registers[f"f{name}"].view(np.float32) for name in range(3, 10)}
    assert same(results[3], floats(0, nan, -3, 0, 0.5, infinity))
    assert same(results[4], floats(tiny, 0, 0, 0, 0.5, 1))
    assert same(results[5], floats(tiny, 2, -3, -0.0, 0.25, 1))
    assert same(results[6], floats(1, 2, -3, 0.0, 0.5, infinity))
    assert same(results[7], floats(1, nan, nan, 0.0, 0.5, infinity))
    assert same(results[8][[0, 3, 4]], floats(tiny, -0.0, 0.5))
    assert registers["r1"].view(np.int32).tolist() == [0, 0, -3, 0, 0, 2**31 - 1]
    assert same(results[9], results[4])


def test_bits() -> None:
    a, b, c = BITS.reshape(3, -1)
    registers = execute(
        """lop3.b32 %r4, %r1, %r2, %r3, 0xCA;
        lop3.b32 %r5, %r1, %r2, %r3, 150;
        shf.l.wrap.b32 %r6, %r1, %r2, 39;
        shf.r.clamp.b32 %r7, %r1, %r2, 39;
        prmt.b32 %r8, %r1, %r2, 0x5410;
        prmt.b32 %r9, %r1, %r2, 0xB010;""",
        r1=a,
        r2=b,
        r3=c,
    )
    assert np.array_equal(registers["r4"], (a & b) | (~a & c))
    assert np.array_equal(registers["r5"], a ^ b ^ c)
    assert np.array_equal(registers["r6"], b << 7 | a >> 25)
    assert np.array_equal(registers["r7"], b)
    assert np.array_equal(registers["r8"], (a & 0xFFFF) | b << 16)
    sign = (a.view(np.int32) >> 31).view(np.uint32) & 0xFF000000  # byte 3 of a, its sign alone
    assert np.array_equal(registers["r9"], sign | (a & 0xFF) << 16 | (a & 0xFF00) | (a & 0xFF))


@pytest.mark.parametrize(
    "code",
    [
        "bfind.u32 %r2, %r1;",
        "cvt.rz.bf16.f32 %rs1, %r1;",
        "cvt.rn.satfinite.bf16x2.f32 %r2, %r1, %r1;",
        "add.cc.u32 %r2, %r1, %r1;",
        "add.sat.s32 %r2, %r1, %r1;",
        "fma.rn.bf16x2 %r2, %r1, %r1, %r1;",
        "setp.lt.and.u32 %p1, %r1, %r1, %p2;",
        "mul.rz.f32 %f1, %r1, %r1;",
    ],
)
def test_what_is_not_known_is_an_error(code: str) -> None:
    with pytest.raises(NotImplementedError):
        execute(code, r1=BITS[:1])
