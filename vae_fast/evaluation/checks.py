"""What the functions of this room ask of their arguments."""

from __future__ import annotations

from torch import Tensor


def check_log_weights(function: str, log_weights: Tensor, fewest: int) -> None:
    """Raise TypeError or ValueError unless they are floats (K, N) with K of at least `fewest`."""
    if not isinstance(log_weights, Tensor) or not log_weights.is_floating_point():
        kind = getattr(log_weights, "dtype", type(log_weights).__name__)
        raise TypeError(f"{function}: log_weights is {kind}; expected a floating tensor")
    if log_weights.dim() != 2 or len(log_weights) < fewest:
        raise ValueError(
            f"{function}: log_weights has shape {tuple(log_weights.shape)}; expected (K, N) with "
            f"at least {fewest} samples"
        )


def check_posterior(function: str, mu: Tensor, logvar: Tensor) -> None:
    """Raise TypeError or ValueError unless they are floats of one shape (N, D), N of at least 2."""
    for name, value in (("mu", mu), ("logvar", logvar)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"{function}: {name} is {kind}; expected a floating tensor")
    if mu.dim() != 2 or len(mu) < 2 or mu.shape != logvar.shape:
        raise ValueError(
            f"{function}: mu has shape {tuple(mu.shape)} and logvar {tuple(logvar.shape)}; "
            "expected (N, D) both, with at least 2 data"
        )
