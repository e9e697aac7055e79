"""How a gradient passes from a code back to the vector that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

Gradient = Literal["straight_through", "rotation"]


def straight_through(x: Tensor, code: Tensor) -> Tensor:
    """The code, whose gradient goes to x as it is (Bengio et al. 2013).

    The value is the code's to the bit, which that of x + (code - x) is not.
    """
    return code.detach() + (x - x.detach())


def rotation(x: Tensor, code: Tensor) -> Tensor:
    """The code as x rotated and stretched, both held constant (Fifty et al. 2024, section 4).

    code = |code| / |x| R x with R = 1 - 2 r r^T + 2 c e^T, where e and c are x and the code at
    length 1, and r is e + c at length 1: the gradient is turned back by R^T, so that the angle
    between it and x is that between it and the code. Of x = 0, which has no direction, the gradient
    is the straight-through one.
    """
    code, fixed = code.detach(), x.detach()
    tiny = torch.finfo(x.dtype).tiny
    length = fixed.norm(dim=-1, keepdim=True)
    has_direction = length > 0
    stretch = code.norm(dim=-1, keepdim=True) / length.clamp(min=tiny)
    stretch = torch.where(has_direction, stretch, 1.0)
    before, after = normalize(fixed, dim=-1, eps=tiny), normalize(code, dim=-1, eps=tiny)
    half_way = normalize(before + after, dim=-1, eps=tiny)
    reflected = x - 2 * (x * half_way).sum(-1, keepdim=True) * half_way
    rotated = stretch * (reflected + 2 * (x * before).sum(-1, keepdim=True) * after)
    return straight_through(torch.where(has_direction, rotated, x), code)


GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = dict(
    zip(get_args(Gradient), (straight_through, rotation), strict=True)
)
