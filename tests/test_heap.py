"""What a training step frees is there for the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Page faults of taking and freeing four blocks of 4 MB, twenty times. In a process of its own: what
# others have freed there decides as well.
_FAULTS = """
import resource, torch
from vae_fast.memory import keep_freed_heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(1 << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_heap()
faults()
print(faults())
"""
_PAGES = 20 * 4 * 1024  # faults without it, unless a package freed a large block when imported


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator alone")
def test_freed_blocks_are_not_fetched_again() -> None:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    output = subprocess.check_output([sys.executable, "-c", _FAULTS], text=True, env=unset)
    assert int(output) < _PAGES / 20
