"""How a decoder gives classes: what the likelihoods of them have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from vae_fast.engine.checks import is_int
from vae_fast.engine.classes import class_numbers
from vae_fast.engine.likelihood import Kind, Likelihood

# All that bfloat16 holds one by one.
_MOST = 256


class ClassLikelihood(Likelihood):
    """Each element of x is one of K classes: a whole number from 0 to K - 1, as it is.

    Args:
        num_classes: K.

    Raises:
        ValueError: It is no whole number from 2 to 256.
    """

    data: ClassVar[Kind] = "classes"
    settings: ClassVar[tuple[str, ...]] = ("num_classes",)
    num_classes: int

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        if num_classes is None or not is_int(num_classes) or not 2 <= num_classes <= _MOST:
            raise ValueError(
                f"num_classes is {num_classes!r}; likelihood {self.name!r} needs a whole number "
                f"from 2 to {_MOST}"
            )
        self.num_classes = int(num_classes)

    def target(self, x: Tensor, prepared: Tensor) -> Tensor:
        """The numbers of the classes; of floats as int64."""
        return class_numbers(x, self.num_classes) if x.is_floating_point() else x
