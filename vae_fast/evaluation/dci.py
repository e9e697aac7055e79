"""Disentanglement, completeness, informativeness."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.factors import checked_factors, two_halves


class DCI(NamedTuple):
    """Of codes and factors, from 0 to 1 each.

    Attributes:
        disentanglement: whether each dimension of the code is about one factor alone.
        completeness: whether each factor is in one dimension alone.
        informativeness: how well the whole code predicts the factors: of classes the accuracy, of
            numbers R^2, on data that the predictor has not seen; the mean over the factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def disentanglement_completeness_informativeness(codes: Tensor, factors: Tensor) -> DCI:
    """DCI of Eastwood and Williams 2018, section 2, by gradient-boosted trees.

    The importance of each dimension for each factor is the trees' own (Locatello et al. 2019,
    appendix C); one half of the data is for fitting, the other for informativeness.

    Args:
        codes: (N, D), of N data: the means of q(z | x).
        factors: (N, F), or (N,) for one: whole numbers are classes, floats are numbers. Of one
            factor alone disentanglement is 1, there being no other.

    Raises:
        TypeError: codes are no floats, or factors neither whole numbers nor floats.
        ValueError: the shapes do not fit, or a factor is constant.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import disentanglement_completeness_informativeness
        >>> factors = torch.stack([torch.arange(400) % 2, torch.arange(400) // 2 % 2], dim=1)
        >>> dci = disentanglement_completeness_informativeness(factors.float(), factors)
        >>> [round(value, 3) for value in dci]
        [1.0, 1.0, 1.0]
    """
    from sklearn.ensemble import (  # type: ignore[import-untyped]
        GradientBoostingClassifier,
        GradientBoostingRegressor,
    )

    factors = checked_factors("disentanglement_completeness_informativeness", codes, factors)
    kind = GradientBoostingRegressor if factors.is_floating_point() else GradientBoostingClassifier
    fitted, tested = two_halves(len(codes))
    x = codes.detach().double().cpu().numpy()
    columns, scores = [], []
    for factor in factors.numpy().T:
        trees = kind(random_state=0).fit(x[fitted], factor[fitted])
        columns.append(torch.from_numpy(trees.feature_importances_))
        scores.append(trees.score(x[tested], factor[tested]))
    importance = torch.stack(columns, dim=1)  # (D, F)
    informativeness = max(0.0, sum(scores) / len(scores))
    return DCI(_concentration(importance), _concentration(importance.T), informativeness)


def _concentration(importance: Tensor) -> float:
    """1 - H(p_i) / log n of each row's shares p_i, weighed by the row's part of everything.

    Rows of n entries; with one entry nothing can be spread. Eastwood and Williams 2018, section 2.
    """
    if importance.shape[1] == 1:
        return 1.0
    total = importance.sum(1)
    if float(total.sum()) == 0:
        return 0.0
    shares = importance / total.unsqueeze(1).clamp(min=torch.finfo(total.dtype).tiny)
    entropy = torch.special.entr(shares).sum(1)
    spread = entropy / math.log(importance.shape[1])
    return float(((1 - spread) * total).sum() / total.sum())
