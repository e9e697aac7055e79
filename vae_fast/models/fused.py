"""A sequence of modules in which linear layers with ReLU between them are one op."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from vae_fast._extension import BACKEND, C

_kernels: Any = C if BACKEND == "compiled" else None

# Whether somebody looks at every module.
has_global_hooks = cast(Callable[[], bool], _has_any_global_hook)


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody looks at what the module is given, or gives."""
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


class FusedSequential(nn.Sequential):
    """An `nn.Sequential`, with the same results to rounding and the same state.

    On the CPU, each run of `nn.Linear` layers with `nn.ReLU` between them is computed, in eager
    mode, by one op with one node in autograd's graph. On AMD's processors with AVX-512 its larger
    matrix products are oneDNN's, which are about twice as fast there as those of `nn.Linear`.
    What is not float32, has hooks, is a subclass or has no bias takes the ordinary way, and so does
    everything under autocast, torch.func and torch.compile.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Each module in turn."""
        is_eager = type(x) is Tensor and not torch.compiler.is_compiling()
        if _kernels is None or not is_eager or has_global_hooks():
            for module in self:
                x = module(x)
            return x
        modules = list(self)
        while modules:
            run = _leading_run(modules)
            x = _kernels.mlp(x, _parameters(run)) if run else modules[0](x)
            modules = modules[max(1, len(run)) :]
        return x


def _leading_run(modules: list[nn.Module]) -> list[nn.Module]:
    """The linear layers, with ReLU between them, that come first; [] where none does."""
    kinds = itertools.cycle((nn.Linear, nn.ReLU))
    pairs = itertools.takewhile(lambda pair: _is_plain(*pair), zip(modules, kinds, strict=False))
    run = [module for module, _ in pairs]
    return run if len(run) % 2 else run[:-1]


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    # No subclass: parametrizations make one, and what it computes is its own affair.
    return type(module) is kind and not has_hooks(module) and getattr(module, "bias", 0) is not None


def _parameters(run: list[nn.Module]) -> list[Any]:
    return [p for linear in run[::2] for p in (linear.weight, linear.bias)]
