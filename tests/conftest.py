"""What the tests of the functions stand on: a fixed seed, the compiled backend, restored knobs."""

import signal

import pytest
import torch
from device import DEVICE

import vae_fast as vf
from vae_fast.engine import extension

# Named by `make cuda-check`, with the tools that read machine code; what only a GPU can show; and
# what makes no tensors on the emulated device.
collect_ignore = ["cuda_gates"]
if DEVICE != "cuda":
    collect_ignore += ["gpu"]
else:
    collect_ignore += ["test_buffer_cache.py"]  # of the CPU's memory; a fork ends with CUDA
if DEVICE != "cpu":
    collect_ignore += ["documentation"]  # what the examples print is the CPU's
    # Processes of their own, on the CPU.
    collect_ignore += ["test_distributed.py", "test_distributed_quantizers.py"]
    collect_ignore += ["test_theory.py"]  # the chapter's figures are made on the CPU
if DEVICE != "emulated":
    collect_ignore += ["cuda_emulation/test_device.py"]
else:
    collect_ignore += [
        "app",
        "attack",
        "cpp",
        "latent",  # PyTorch's own random numbers, as test_distributions.py
        "test_build.py",
        "test_buffer_cache.py",
        "test_distributions.py",  # PyTorch's own random numbers
        "test_optimal_logvar.py",  # models', as app
    ]
    collect_ignore += ["test_gpu_report.py", "test_heap.py", "test_products.py"]


def pytest_sessionstart(session):
    """Without the extension every test would pass in plain PyTorch, and prove nothing."""
    if extension.BACKEND != "compiled":
        pytest.exit("the tests need the compiled extension: make build", returncode=1)
    is_there = torch.get_device_module(DEVICE).is_available()
    if DEVICE != "cpu" and not (is_there and extension.GPU == DEVICE):
        pytest.exit(f"VAE_FAST_TEST_DEVICE is {DEVICE}: there is no GPU, or no kernel for it", 1)


def pytest_configure():
    # What a shell starts in the background ignores Ctrl-C, and so would what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if DEVICE != "cpu":
        torch.set_default_device(DEVICE)


def pytest_collection_modifyitems(items):
    """Threads and instruction sets are the CPU's: on another device nothing would be tested."""
    if DEVICE != "cpu":
        of_the_cpu = {"cpu_threads", "cpu_capability"}
        items[:] = [item for item in items if not of_the_cpu & set(item.fixturenames)]
    left_out = []
    if DEVICE == "emulated":
        left_out += ["of_samples", "torch_devices_only"]
    if extension.BINDING == "stable":
        left_out += ["of_the_fast_binding"]
    items[:] = [item for item in items if not any(map(item.get_closest_marker, left_out))]


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=DEVICE == "emulated")
def _device_memory():
    """Every test leaves the guard zones of the emulated device's memory as they were."""
    yield
    torch.ops.vae_fast_emulation.check_memory()


@pytest.fixture
def cpu_threads():
    """A setter of the thread count, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def cpu_capability():
    """A setter of the instruction set, undone afterwards."""
    before = vf.build_info().cpu_capability
    yield extension.C.set_cpu_capability
    extension.C.set_cpu_capability(before)


_REFERENCE = pytest.param("reference", marks=pytest.mark.of_the_reference)


# Plain PyTorch on the emulated device is the CPU's.
@pytest.fixture(params=["compiled"] if DEVICE == "emulated" else ["compiled", _REFERENCE])
def backend(request, monkeypatch):
    """The public functions on their kernels, then on plain PyTorch."""
    if request.param == "reference":
        monkeypatch.setattr(extension, "kernels", None)
        monkeypatch.setattr(extension, "use_reference", lambda device_type: True)
    return request.param


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=["torch", "oneDNN"])
def products(request):
    """Who makes the large matrix products on the CPU."""
    before = extension.C.uses_onednn()
    extension.C.set_uses_onednn(request.param == "oneDNN")
    assert vf.build_info().matrix_products == request.param
    yield request.param
    extension.C.set_uses_onednn(before)
