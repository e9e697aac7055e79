"""What the package asks of its binding, answered by the stable half (the fast one is C++)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vae_fast.engine import checks
from vae_fast.stable import composed, losses, nodes, sampling
from vae_fast.stable.composed import is_overridden
from vae_fast.stable.fused import Fused
from vae_fast.stable.nodes import is_ordinary

_ops = torch.ops.vae_fast


class Binding(Fused):
    """The entries of the public functions, each None where torch is to ask a class or a mode.

    Args:
        path: Of the library of kernels, which is loaded into torch here.

    Raises:
        OSError: It does not load.
        ValueError: ``VAE_FAST_CPU_CAPABILITY`` is none that this machine has.
    """

    TORCH_VERSION = "2.10 and later"

    set_gradient_formula = staticmethod(nodes.set_gradient_formula)
    set_composition = staticmethod(composed.set_composition)

    def __init__(self, path: Path) -> None:
        self._library = _open(path)
        schemas = _strings(self._library.vae_fast_schemas())
        for schema in schemas:
            nodes.library.define(schema, tags=torch.Tag.pt2_compliant_tag)
        nodes.set_last_refusal(self._library.vae_fast_last_refusal)
        sampling.define(self._library.vae_fast_draw_from_counter)
        found = losses.of_schemas(schemas)
        self.LOSSES = {loss.op: loss.operands for loss in found if not loss.rowwise}
        super().__init__(self.LOSSES)
        self._found = found
        for loss in found:
            setattr(self, loss.op, _entry(loss, losses.register(loss)))
        sampling.register()
        self._implement_for("cpu")

    def use_gpu(self, address: int, device: str) -> None:
        """Takes what the library of CUDA kernels has for bindings, for the device of that name."""
        key = torch._C._dispatch_key_for_device(device)
        self._library.vae_fast_use_gpu(address, key.encode())
        nodes.use_gpu(device)
        self._implement_for(device)

    def _implement_for(self, device: str) -> None:
        for loss in self._found:
            losses.implement_autocast(loss, device)
        sampling.implement(device)

    # ---- samplers --------------------------------------------------------------------------------

    def reparameterize(
        self, mu: Tensor, logvar: Tensor, generator: torch.Generator | None
    ) -> Tensor | None:
        """See :func:`vae_fast.reparameterize`."""
        if is_overridden((mu, logvar)):
            return None
        seed = sampling.draw_seed(mu, generator)
        call = sampling.reparameterize if is_ordinary() else _ops.reparameterize.default
        z: Tensor = call(mu, logvar, seed)[0]
        return z

    def reparameterize_kl(
        self,
        mu: Tensor,
        logvar: Tensor,
        prior_mu: Tensor | None,
        prior_logvar: Tensor | None,
        generator: torch.Generator | None,
        keep: int,
        mean: int,
        batch_dims: int,
    ) -> tuple[Tensor, Tensor] | None:
        """See :func:`vae_fast.reparameterize_kl`."""
        given = mu, logvar, prior_mu, prior_logvar
        if is_overridden(given):
            return None
        operands = [x for x in given if x is not None]
        names = ("mu", "logvar", "prior_mu", "prior_logvar")
        _check_shapes("reparameterize_kl", names, operands, None, batch_dims)
        seed = sampling.draw_seed(mu, generator)
        call = sampling.reparameterize_kl if is_ordinary() else _ops.reparameterize_kl.default
        z, kl, _ = call(*given, seed, keep, mean)
        return z, kl

    # ---- what the fast binding alone is faster at ------------------------------------------------

    def linear_nll(
        self,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        logvar: Tensor | None,
        mask: Tensor | None,
        op: str,
        keep: int,
        mean: int,
    ) -> Tensor | None:
        """See :func:`vae_fast.linear_nll`: in two steps, always."""
        if is_overridden((h, weight, bias, target, logvar, mask)):
            return None
        output = functional.linear(h, weight, bias)
        if target.shape != output.shape:
            raise ValueError("linear_nll: target has not the shape of the layer's output")
        others = () if logvar is None else (logvar,)
        masks = () if op not in self.LOSSES else (mask,)
        if not masks and mask is not None:
            raise ValueError(f"linear_nll: mask is given, which {op} does not have")
        value: Tensor | None = getattr(self, op)(
            output, *others, target, *masks, keep, mean, h.dim() - 1
        )
        return value

    @staticmethod
    def set_linear_chunks(features: int, rows: int) -> None:
        """A layer's output is one piece."""

    def mlp(self, x: Tensor, parameters: Sequence[Tensor]) -> None:
        """None: the modules are to be called."""

    def elbo(self, *args: Any) -> None:
        """None: the functions are to be called."""

    @staticmethod
    def uses_onednn() -> bool:
        """Matrix products are torch's."""
        return False

    @staticmethod
    def buffer_cache_info() -> tuple[int, int]:
        """Outputs are of torch's memory: nothing is kept."""
        return 0, 0

    @staticmethod
    def set_buffer_cache_limit(limit: int) -> None:
        """There is no cache."""

    @staticmethod
    def empty_buffer_cache() -> None:
        """There is no cache."""

    # ---- instruction sets ------------------------------------------------------------------------

    def cpu_capabilities(self) -> list[str]:
        """Those that this machine has, best last."""
        return _strings(self._library.vae_fast_capabilities())

    def cpu_capability(self) -> str:
        """The one in use."""
        name = self._library.vae_fast_capability()
        if name is None:
            variable = "VAE_FAST_CPU_CAPABILITY"
            raise ValueError(self._unknown(variable, os.environ[variable]))
        found: str = name.decode()
        return found

    def set_cpu_capability(self, name: str) -> None:
        """Uses another one from now on."""
        if not self._library.vae_fast_set_capability(name.encode()):
            raise ValueError(self._unknown("CPU capability", name))

    def _unknown(self, what: str, name: str) -> str:
        names = ", ".join(self.cpu_capabilities())
        return f"{what} is '{name}', expected one that this machine has: {names}"


def _open(path: Path) -> Any:
    """The library, with the types of its functions (csrc/bindings/stable)."""
    library = ctypes.CDLL(str(path))
    text, number, address = ctypes.c_char_p, ctypes.c_uint64, ctypes.c_void_p
    functions: dict[str, tuple[Any, ...]] = {  # the result's, then the arguments'
        "schemas": (ctypes.POINTER(text),),
        "capabilities": (ctypes.POINTER(text),),
        "capability": (text,),
        "set_capability": (ctypes.c_bool, text),
        "last_refusal": (text,),
        "draw_from_counter": (number, number, number, ctypes.c_int64, address),
        "use_gpu": (None, address, text),
    }
    for name, (result, *arguments) in functions.items():
        function = getattr(library, f"vae_fast_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def _strings(pointers: Any) -> list[str]:
    """Of a null-terminated array of C."""
    found = []
    for text in pointers:
        if text is None:
            break
        found.append(text.decode())
    return found


def _check_shapes(
    function: str,
    names: Sequence[str],
    operands: Sequence[Tensor],
    mask: Tensor | None,
    batch_dims: int,
) -> None:
    """The public functions' rule, at once where all have one shape.

    torch.jit.trace would record what is asked of shapes: the ops look at them again.
    """
    if torch._C._is_tracing():
        return
    shape = operands[0].shape
    if not 0 <= index(batch_dims) <= max(len(shape), 1):  # a TypeError where it is no int
        raise ValueError(f"{function}: batch_dims is {batch_dims}")
    if mask is None and all(x.shape == shape for x in operands):
        return
    checks.check_shapes(function, names[: len(operands)], operands, mask, batch_dims)


def _entry(loss: losses.Loss, kernel: Callable[..., Any]) -> Callable[..., Tensor | None]:
    """The entry of a loss: of its operands, its mask if it has one, keep, mean and batch_dims."""
    op, names, overload = loss.op, loss.operands, loss.overload

    def elementwise(*args: Any) -> Tensor | None:
        *tensors, keep, mean, batch_dims = args
        if is_overridden(tensors):
            return None
        *operands, mask = tensors
        _check_shapes(op, names, operands, mask, batch_dims)
        call = kernel if is_ordinary() else overload
        value: Tensor = call(*tensors, keep, mean)[0]
        return value

    def rowwise(*args: Any) -> Tensor | None:
        *operands, keep, mean, batch_dims = args
        if is_overridden(operands):
            return None
        first = operands[0]
        _check_shapes(op, names, operands, None, batch_dims)
        if batch_dims >= first.dim():
            raise ValueError(f"{op}: there is no dimension of classes")
        expanded = (x if x.dim() == first.dim() else x.expand_as(first) for x in operands)
        call = kernel if is_ordinary() else overload
        value: Tensor = call(*expanded, keep, mean)[0]
        return value

    return rowwise if loss.rowwise else elementwise
