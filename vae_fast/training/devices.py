"""Where a model is trained, and what that place can do."""

from __future__ import annotations

import warnings

import torch

from vae_fast.data.reading import first_line
from vae_fast.training.config import Precision


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where torch sees one, else the CPU.

    Raises:
        ValueError: there is no such device here, or it holds no values (meta).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"the device {name!r} is not to be had here: {first_line(error)}"
        ) from error
    return device


def require_precision(precision: Precision, device: torch.device) -> None:
    """Asked now: autocast itself may do no more than warn, and train in float32.

    Raises:
        ValueError: the device has no such autocast.
    """
    if precision != "bfloat16":
        return
    with warnings.catch_warnings(action="error"):
        try:
            torch.autocast(device.type, torch.bfloat16)
        except (RuntimeError, UserWarning) as error:
            raise ValueError(
                f"TrainerConfig.precision is 'bfloat16', which {device} cannot do ({error}); "
                "expected 'float32' there"
            ) from error
