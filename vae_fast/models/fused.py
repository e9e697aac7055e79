"""A sequence of modules in which linear layers with ReLU between them are one op."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from vae_fast.engine.extension import kernels
from vae_fast.engine.sparse_linear import sparse_linear

_has_global_hooks = cast(Callable[[], bool], _has_any_global_hook)


def can_fuse(x: Tensor) -> bool:
    """Whether modules' work on x may be done by one op, as far as x and torch's state say.

    The op looks at the rest itself: dtypes and shapes, modes, autocast, torch.func.
    """
    is_eager = type(x) is Tensor and not torch.compiler.is_compiling()
    return kernels is not None and is_eager and x.is_cpu and not _has_global_hooks()


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


def as_written(owner: object, methods: Mapping[str, Any]) -> bool:
    """Whether an object's methods are still these functions, replaced neither on it nor its class.

    Args:
        owner: any object.
        methods: by name, what its class came with.
    """
    return all(
        getattr(getattr(owner, name), "__func__", None) is function
        for name, function in methods.items()
    )


class Plain:
    """Recognises the modules that do what their class was written to do, and nothing else.

    No hooks, no subclass (parametrizations make one), no other method, not compiled by themselves.

    Args:
        kind: the class.
        methods: those beside forward that are asked for.
    """

    def __init__(self, kind: type[nn.Module], *methods: str) -> None:
        self._kind = kind
        self._methods = {name: getattr(kind, name) for name in ("forward", *methods)}

    def __call__(self, module: nn.Module) -> bool:
        """Whether the module is one."""
        return (
            type(module) is self._kind
            and not has_hooks(module)
            and module._compiled_call_impl is None
            and as_written(module, self._methods)
        )


is_flatten = Plain(nn.Flatten)
_is_relu = Plain(nn.ReLU)
_is_plain_linear = Plain(nn.Linear)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a plain linear layer with a bias."""
    return _is_plain_linear(module) and module.bias is not None


class FusedSequential(nn.Sequential):
    """An `nn.Sequential`, with the same results to rounding and the same state.

    On the CPU, each run of `nn.Linear` layers with `nn.ReLU` between them is computed, in eager
    mode, by one op with one node in autograd's graph. On AMD's processors with AVX-512 its larger
    matrix products are oneDNN's, which are about twice as fast there as those of `nn.Linear`.
    What is not float32, has hooks or a forward of its own, is a subclass or has no bias is called
    as it is, and so is everything under autocast, torch.func, torch.compile, and function and
    dispatch modes.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Each module in turn; of x in CSR, the first linear layer by `sparse_linear`."""
        modules = list(self)
        if x.layout is torch.sparse_csr:
            if not starts_with_linear(self):
                return self.forward(x.to_dense())
            linear = cast(nn.Linear, modules[1])
            x, modules = sparse_linear(x, linear.weight, linear.bias), modules[2:]
        while modules:
            run = leading_run(modules) if can_fuse(x) else []
            fused = kernels.mlp(x, parameters_of(run)) if run else None
            if fused is None:
                run = modules[:1]
                x = run[0](x)
            else:
                x = fused
            modules = modules[len(run) :]
        return x


def starts_with_linear(modules: nn.Module) -> bool:
    """Whether it is what `mlp_encoder` makes: its linear layer can read a table in CSR."""
    first = list(modules)[:2] if isinstance(modules, FusedSequential) else []
    return len(first) == 2 and is_flatten(first[0]) and _is_plain_linear(first[1])


def leading_run(modules: list[nn.Module]) -> list[nn.Module]:
    """The linear layers, with ReLU between them, that come first; [] where none does."""
    kinds: tuple[Callable[[nn.Module], bool], ...] = (is_linear, _is_relu)
    is_next = itertools.cycle(kinds)
    run = list(itertools.takewhile(lambda module: next(is_next)(module), modules))
    return run if len(run) % 2 else run[:-1]


def parameters_of(run: list[nn.Module]) -> list[Any]:
    """Weight and bias of each layer of a run."""
    return [p for linear in run[::2] for p in (linear.weight, linear.bias)]
