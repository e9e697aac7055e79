"""Repeats the launches that ptx_cases writes with nvcc's PTX of the same kernels, and compares."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ptx

ROOT = Path(__file__).resolve().parents[2]

# Relative to 1 + the value: the PTX fuses other products than g++ does. Half a float: two of its
# units.
TOLERANCES = {"float32": 4e-6, "float64": 1e-12, "bfloat16": 2.0**-6, "float16": 2.0**-9}


def compile_ptx(nvcc: str, arch: str) -> str:
    """The PTX of ptx_kernels.cu."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "kernels.ptx"
        source = Path(__file__).with_name("ptx_kernels.cu")
        options = ["-std=c++20", "-O3", f"-arch={arch}", f"-I{ROOT / 'csrc'}", "-ptx"]
        options.append("--expt-relaxed-constexpr")  # torch's builds have it
        subprocess.run([nvcc, *options, str(source), "-o", str(output)], check=True)
        return output.read_text()


def to_float(content: bytes, dtype: str) -> Any:
    """The numbers in an allocation."""
    if dtype == "bfloat16":
        return (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, dtype)


def repeat(module: str, launch: dict[str, Any]) -> str:
    """Runs one launch; returns what there is to say about it."""
    kernel = ptx.Kernel(module, launch["kernel"])
    memory = ptx.Memory()
    for part in launch["memory"]:
        content = bytes.fromhex(part["content"])
        is_input = not part["output"]
        memory.add(part["address"], content if is_input else bytes(len(content)), is_input)
    executed = ptx.run(kernel, memory, launch["blocks"], bytes.fromhex(launch["args"]))
    worst = 0.0
    for part in launch["memory"]:
        dtype = part["output"]
        if dtype not in TOLERANCES:
            continue
        content, is_complete = memory.content(part["address"])
        if not is_complete:
            raise ptx.PtxError("an output is not written")
        got, expected = to_float(content, dtype), to_float(bytes.fromhex(part["content"]), dtype)
        error = float(np.max(np.abs(got - expected) / (1 + np.abs(expected))))
        if not error <= TOLERANCES[dtype]:
            raise ptx.PtxError(f"{dtype} output: an error of {error:.3g}")
        worst = max(worst, error)
    return f"{launch['blocks']} blocks, {executed} instructions, largest error {worst:.2g}"


def main() -> int:
    """1 if a launch goes wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", required=True, help="the program that writes the launches")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--arch", default="sm_80")
    arguments = parser.parse_args()
    module = compile_ptx(arguments.nvcc, arguments.arch)
    cases = subprocess.run([arguments.cases], capture_output=True, text=True, check=True).stdout
    wrong = 0
    for launch in json.loads(cases):
        name = subprocess.run(["c++filt", launch["kernel"]], capture_output=True, text=True).stdout
        name = (
            name.replace("vae_fast::", "").replace("cuda::", "").replace("portable::", "").strip()
        )
        try:
            print(f"ok    {name}: {repeat(module, launch)}", flush=True)
        except ptx.PtxError as error:
            wrong += 1
            print(f"WRONG {name}: {error}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
