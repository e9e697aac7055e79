"""Rests of the modified Bessel functions in plain PyTorch (csrc/formulas/bessel_functions.h)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_fast.engine.logarithms import polynomial

# From here on polynomials in _FROM / k - 1/2, fitted by tests/cpp/fit_bessel_functions.py.
_FROM = 16.0
_LOG_REST = (
    3.96937563432584340e-03,
    8.06940563283201941e-03,
    2.70591581951645983e-04,
    1.95898872879515318e-05,
    2.20366806927595684e-06,
    3.41060901983159557e-07,
    6.83348038550382386e-08,
    1.71087924267429291e-08,
    5.23545682269701901e-09,
    1.93104435493977592e-09,
    8.53649856396931988e-10,
    4.51272544009012137e-10,
    2.66382126858721024e-10,
    1.85782496890362345e-10,
    2.98615873561310793e-10,
    4.64371489351394281e-10,
    1.14759326801060806e-10,
    -5.17187094473101598e-10,
    -4.18842630219915689e-10,
)
_RATIO_REST = (
    5.04034702816416047e-01,
    8.33999721478366485e-03,
    5.70567994835257481e-04,
    6.31769980025398956e-05,
    9.66732452731609607e-06,
    1.91030890678875079e-06,
    4.69889818923077827e-07,
    1.40704017027575948e-07,
    5.05682194196550757e-08,
    2.16334794241548946e-08,
    1.10843042119801589e-08,
    6.73766143281893520e-09,
    3.91366163702491110e-09,
    3.23359759662041355e-09,
    9.77691126575668502e-09,
    1.32433895342433616e-08,
    -7.43726811334733106e-09,
    -2.47035035695645094e-08,
    -2.87663026659791614e-09,
    1.14261726639557964e-08,
)


def bessel_rests(log_k: Tensor) -> tuple[Tensor, Tensor]:
    """Of k = exp(log_k), in float64: log I0(k) - k and k (1 - I1(k) / I0(k))."""
    k = torch.exp(log_k)
    is_far = k > _FROM
    near, far = torch.where(is_far, 1, k), torch.where(is_far, k, _FROM)
    at = _FROM / far - 0.5
    i0, i1 = torch.special.i0e(near), torch.special.i1e(near)
    log_far = polynomial(_LOG_REST, at) - 0.5 * (log_k + math.log(2 * math.pi))
    return (
        torch.where(is_far, log_far, torch.log(i0)),
        torch.where(is_far, polynomial(_RATIO_REST, at), near - near * i1 / i0),
    )
