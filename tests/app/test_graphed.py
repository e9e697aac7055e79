"""How a training step is recorded, on fakes of torch.cuda: on which stream, and where it fails."""

import contextlib
import warnings

import pytest
import torch

from vae_fast.bounds import ELBO
from vae_fast.training.graphed import GraphedStep


class FakeStream:
    def __init__(self, device):
        self.device = device

    def wait_stream(self, other):
        pass


class FakeGraph:
    def replay(self):
        pass


class FakeCuda:
    """Like torch: recording with no stream of its own takes the first device's."""

    def __init__(self, monkeypatch):
        self.current = FakeStream(torch.device("cuda:0"))
        self.devices = []
        self.recorded_on = []
        for name in ("Stream", "CUDAGraph", "device", "stream", "current_stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    Stream = staticmethod(FakeStream)
    CUDAGraph = staticmethod(FakeGraph)

    @contextlib.contextmanager
    def device(self, device):
        self.devices.append(device)
        yield

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def current_stream(self, device):
        return self.current

    @contextlib.contextmanager
    def graph(self, graph, stream=None):
        self.current = stream or FakeStream(torch.device("cuda:0"))
        before = self.current
        self.recorded_on.append(self.current.device)
        yield  # and, where it fails, does not go back to the stream before
        self.current = before


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(monkeypatch)


def graphed(fails=None, warns=None, calls=None):
    parameter = torch.nn.Parameter(torch.zeros(()))
    calls = [] if calls is None else calls

    def step(x, *control):
        calls.append(control)
        if len(calls) > 3 and fails is not None:
            raise RuntimeError(fails)
        if len(calls) > 3 and warns is not None:
            warnings.warn(warns, stacklevel=1)
        return ELBO(*torch.zeros(3))

    return GraphedStep(step, torch.optim.SGD([parameter], lr=0.5))


def test_it_is_recorded_on_the_device_of_the_batch(cuda):
    step, x = graphed(), torch.zeros(2)
    for _ in range(5):
        step(x, 1.0)
    assert cuda.recorded_on == [x.device]
    assert cuda.devices == [x.device] * 5


def test_what_weighs_the_kl_is_read_from_memory(cuda):
    calls, x = [], torch.zeros(2)
    step = graphed(calls=calls)
    for i in range(6):
        step(x, 0.5 * i, 2.0 * i)
    assert calls[:3] == [(0.0, 0.0), (0.5, 2.0), (1.0, 4.0)]
    (recorded,) = calls[3:]
    assert [value.item() for value in recorded] == [2.5, 10.0]


def test_a_step_that_cannot_be_recorded_is_an_error(cuda):
    step, x, stream = graphed(fails="no .item() while recording"), torch.zeros(2), cuda.current
    for _ in range(3):
        step(x, 1.0)
    with pytest.raises(RuntimeError, match=r"cuda_graphs=False .*: no \.item\(\) while"):
        step(x, 1.0)
    assert cuda.current is stream
    assert step._optimizer.param_groups[0]["lr"] == 0.5


def test_an_empty_recording_is_an_error(cuda):
    step, x = graphed(warns="The CUDA Graph is empty. This usually means"), torch.zeros(2)
    for _ in range(3):
        step(x, 1.0)
    with pytest.raises(RuntimeError, match=r"cuda_graphs=False .*: nothing of it was queued"):
        step(x, 1.0)
