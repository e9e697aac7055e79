"""A training step recorded once as a CUDA graph and then replayed: one launch for hundreds.

Not yet run on a GPU: written against the documentation of torch.cuda.graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vae_fast.bounds import ELBO

# Steps before the recording, for what libraries and optimizer set up when they are first used.
_WARM_UPS = 3

_CANNOT_RECORD = (
    "the training step cannot be recorded as a CUDA graph; train with cuda_graphs=False "
    "(--no-cuda-graphs)"
)


class CannotRecord(RuntimeError):  # noqa: N818
    """A training step cannot be recorded; the message says what to do."""


class GraphedStep:
    """A step on batches of one shape: the first few run as they are, then one is recorded.

    What changes from step to step is read from memory that the graph knows: the batch, what weighs
    the KL term, the learning rates. The noise does too, since its seeds are drawn on the device.

    A batch of another shape (the last of an epoch) runs as it is. All of it runs on the batch's
    device, whichever is current.

    Args:
        step: takes a batch and what weighs the KL term (numbers, or tensors without dimensions),
            updates the weights, and returns the terms of the loss.
        optimizer: whose learning rates it uses; must be capturable.

    Raises:
        CannotRecord: from the call that records: the step cannot be recorded, because the model
            looks at values on the CPU for example, or nothing was.
    """

    def __init__(self, step: Callable[..., ELBO], optimizer: torch.optim.Optimizer) -> None:
        self._step = step
        self._optimizer = optimizer
        self._steps = 0
        self._batch: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, *control: float) -> ELBO:
        """The step. The terms are valid until the next one."""
        with torch.cuda.device(x.device):
            return self._on_device(x, control)

    def _on_device(self, x: Tensor, control: Sequence[float]) -> ELBO:
        if self._batch is None:
            self._batch = torch.empty_like(x)
            self._control = [torch.zeros((), device=x.device) for _ in control]
            self._rates = [torch.zeros((), device=x.device) for _ in self._optimizer.param_groups]
        if x.shape != self._batch.shape or x.dtype != self._batch.dtype:
            return self._step(x, *control)
        self._steps += 1
        if self._steps <= _WARM_UPS:
            return self._on_another_stream(x, control)
        if self._graph is None:
            self._graph = self._record(self._batch)
        self._batch.copy_(x)
        for place, value in zip(self._control, control, strict=True):
            place.fill_(value)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        return self._terms

    def _on_another_stream(self, x: Tensor, control: Sequence[float]) -> ELBO:
        """As a recording will: what is set up for a stream is then set up for such a one."""
        here = torch.cuda.current_stream(x.device)
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            terms = self._step(x, *control)
        here.wait_stream(stream)
        for tensor in (x, *terms):
            tensor.record_stream(here if tensor is not x else stream)
        return terms

    def _record(self, batch: Tensor) -> torch.cuda.CUDAGraph:
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        graph = torch.cuda.CUDAGraph()
        # torch's own stream for recordings is of the device that was current at the first of all.
        stream = torch.cuda.Stream(batch.device)  # type: ignore[no-untyped-call]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            # A recording that fails leaves its stream the current one: the outer context does not.
            with torch.cuda.stream(stream), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with torch.cuda.graph(graph, stream=stream):
                    self._terms = self._step(batch, *self._control)
        except RuntimeError as error:
            raise CannotRecord(f"{_CANNOT_RECORD}: {error}") from error
        finally:
            for group, number in zip(groups, rates, strict=True):
                group["lr"] = number
        for warning in caught:
            if "CUDA Graph is empty" in str(warning.message):
                raise CannotRecord(f"{_CANNOT_RECORD}: nothing of it was queued on {batch.device}")
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        return graph
