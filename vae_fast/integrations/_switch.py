"""What the modules of the peers share: the peer's names, and a model that changes its class."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar

Model = TypeVar("Model")


class Peer:
    """A package whose models are switched.

    Args:
        package: What ``pip install`` takes.
        tried: The release with which it was tried.
    """

    def __init__(self, package: str, tried: str) -> None:
        self.package, self.tried = package, tried

    def module(self, name: str) -> Any:
        """One of its modules; an ImportError that says what to install."""
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            if missing == name.split(".")[0]:
                message = f"{missing} is not installed: pip install {self.package}"
            elif missing.startswith(name.split(".")[0]):
                message = f"there is no {missing} in {self._versions()}"
            else:
                raise  # something that the peer itself misses
            raise ImportError(message, name=missing) from error

    def names(self, module: str, *names: str) -> Any:
        """What a module has under these names, one or more; an ImportError where it has not."""
        found = self.module(module)
        for name in names:
            if not hasattr(found, name):
                raise ImportError(f"there is no {module}.{name} in {self._versions()}")
        values = tuple(getattr(found, name) for name in names)
        return values if len(values) > 1 else values[0]

    def expect(self, function: Callable[..., Any], *parameters: str) -> None:
        """An ImportError unless a function that is replaced has these parameters."""
        found = tuple(inspect.signature(function).parameters)
        if found != parameters:
            raise ImportError(
                f"{function.__qualname__} takes ({', '.join(found)}), expected "
                f"({', '.join(parameters)}), in {self._versions()}"
            )

    def _versions(self) -> str:
        installed = metadata.version(self.package)
        return f"{self.package} {installed}; vae_fast was tried with {self.package} {self.tried}"


class Switched:
    """The first base of a switched model's class: its methods come before the model's own."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = super().__reduce_ex__(protocol)
        bases = _bases(type(self))
        # The class has no name under which pickle would find it.
        return made if bases is None else (_new, bases, *made[2:])


@functools.cache
def _class(methods: Any, own: Any) -> Any:
    names = {name: getattr(own, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(own.__name__, (methods, own), {**names, "_switched": (methods, own)})


def _bases(kind: type) -> tuple[Any, Any] | None:
    """The methods and the own class of a switched one; not of a class that was laid over it."""
    found: tuple[Any, Any] | None = vars(kind).get("_switched")
    return found


def _new(methods: Any, own: Any) -> Any:
    made = _class(methods, own)
    return made.__new__(made)


def switch(model: Model, methods: type[Switched] | None, expected: str) -> Model:
    """Gives a model methods that come before those of its class.

    Args:
        model: Whatever ``apply`` was given.
        methods: None: it is not served.
        expected: What is served, for the error.

    Returns:
        The model.

    Raises:
        TypeError: It is not served.
        ValueError: It is switched already.
    """
    own: Any = type(model)
    if issubclass(own, Switched):
        raise ValueError(f"apply: the {own.__name__} is switched already")
    if methods is None:
        raise TypeError(
            f"apply: model is a {own.__module__}.{own.__qualname__}, expected {expected}"
        )
    of: Any = methods
    model.__class__ = _class(of, own)
    return model


def switch_class(
    peer: Peer, model: Model, methods_of: Mapping[type, type[Switched]], advice: str = ""
) -> Model:
    """As :func:`switch`, a model of one of these very classes.

    A class that inherits from one of them may have a loss of its own, which must not be lost.
    """
    served = ", ".join(sorted(kind.__name__ for kind in methods_of))
    expected = f"one of {served} of {peer.package}{advice}"
    return switch(model, methods_of.get(type(model)), expected)


def revert(model: Model) -> Model:
    """Gives a model the class back that it had, and so its package's own arithmetic.

    Args:
        model: What ``apply`` switched.

    Returns:
        The model.

    Raises:
        ValueError: It is not switched, or its class is another one, laid over the switched one.
    """
    kind = type(model)
    if not isinstance(model, Switched):
        raise ValueError(f"revert: the {kind.__name__} is not switched")
    bases = _bases(kind)
    if bases is None:
        # As fully_shard and parametrizations do it.
        raise ValueError(f"revert: the model is a {kind.__name__}, a class over the switched one")
    model.__class__ = bases[1]
    return model
