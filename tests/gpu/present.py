"""Whether there is a GPU here, asked of the driver alone: before anything is installed or built."""

import ctypes
import sys


def count() -> int:
    """GPUs that CUDA's driver sees; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    found = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(found)) != 0:
        return 0
    return found.value


if __name__ == "__main__":
    if count() == 0:
        sys.exit("make gpu: there is no NVIDIA GPU with a driver here; make cuda-check needs none")
