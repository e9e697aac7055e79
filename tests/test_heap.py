"""What a training step frees is there for the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Whether a block of 24 MB is mapped afresh, or comes from the heap, to which it returns: the fourth
# field of mallinfo2 counts the mapped ones. In a process of its own: what others have freed there
# decides as well.
_MAPPED = """
import ctypes, torch
from vae_fast.memory import keep_freed_heap

class Mallinfo2(ctypes.Structure):
    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(10)]

mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
mallinfo2.restype = Mallinfo2

keep_freed_heap()
before = mallinfo2().field3
block = torch.empty(24 << 20, dtype=torch.uint8)
print(mallinfo2().field3 - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator alone")
def test_freed_blocks_stay_in_the_heap() -> None:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    output = subprocess.check_output([sys.executable, "-c", _MAPPED], text=True, env=unset)
    assert int(output) == 0
