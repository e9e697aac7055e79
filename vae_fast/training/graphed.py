"""A training step recorded once as a CUDA graph and then replayed: one launch for hundreds.

Not yet run on a GPU: written against the documentation of torch.cuda.graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vae_fast.functional import ELBO

# Steps before the recording, for what libraries and optimizer set up when they are first used.
_WARM_UPS = 3


class GraphedStep:
    """A step on batches of one shape: the first few run as they are, then one is recorded.

    What changes from step to step is read from memory that the graph knows: the batch, the KL
    weight, the learning rates. The noise does too, since its seeds are drawn on the device.

    A batch of another shape (the last of an epoch) runs as it is, and so does everything where the
    step cannot be recorded, because the model looks at values on the CPU for example; a warning
    says so.

    Args:
        step: takes a batch and the KL weight (a number, or a tensor without dimensions), updates
            the weights, and returns the terms of the loss.
        optimizer: whose learning rates it uses; must be capturable.
    """

    def __init__(
        self, step: Callable[[Tensor, float | Tensor], ELBO], optimizer: torch.optim.Optimizer
    ) -> None:
        self._step = step
        self._optimizer = optimizer
        self._steps = 0
        self._batch: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._cannot = False

    def __call__(self, x: Tensor, beta: float) -> ELBO:
        """The step. The terms are valid until the next one."""
        if self._batch is None:
            self._batch = torch.empty_like(x)
            self._beta = torch.zeros((), device=x.device)
            self._rates = [torch.zeros((), device=x.device) for _ in self._optimizer.param_groups]
        if self._cannot or x.shape != self._batch.shape or x.dtype != self._batch.dtype:
            return self._step(x, beta)
        self._steps += 1
        if self._steps <= _WARM_UPS:
            return self._on_another_stream(x, beta)
        graph = self._graph or self._record(self._batch)
        if graph is None:
            return self._step(x, beta)
        self._batch.copy_(x)
        self._beta.fill_(beta)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        graph.replay()
        return self._terms

    def _on_another_stream(self, x: Tensor, beta: float) -> ELBO:
        """As a recording will: what is set up for a stream is then set up for such a one."""
        here = torch.cuda.current_stream(x.device)
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            terms = self._step(x, beta)
        here.wait_stream(stream)
        for tensor in (x, *terms):
            tensor.record_stream(here if tensor is not x else stream)
        return terms

    def _record(self, batch: Tensor) -> torch.cuda.CUDAGraph | None:
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        graph = torch.cuda.CUDAGraph()
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"] = rate
            with torch.cuda.graph(graph):
                self._terms = self._step(batch, self._beta)
        except RuntimeError as error:
            self._cannot = True
            warnings.warn(
                f"the training step cannot be recorded as a CUDA graph and runs as it is: {error}",
                stacklevel=2,
            )
            return None
        finally:
            for group, number in zip(groups, rates, strict=True):
                group["lr"] = number
        self._graph = graph
        return graph
