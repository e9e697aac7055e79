"""The separated attribute predictability."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vae_fast.evaluation.factors import checked_factors, gap_of_the_best_two, two_halves


def separated_attribute_predictability(codes: Tensor, factors: Tensor) -> float:
    """How much better one dimension of the code predicts a factor than any other, from 0 to 1.

    SAP of Kumar et al. 2018, section 3. Of a number the score of a dimension is the squared
    correlation; of a class the balanced accuracy of thresholds on it, one fewer than there are
    classes, found on one half of the data and scored on the other.

    Args:
        codes: (N, D), of N data: the means of q(z | x).
        factors: (N, F), or (N,) for one: whole numbers are classes, floats are numbers.

    Raises:
        TypeError: codes are no floats, or factors neither whole numbers nor floats.
        ValueError: the shapes do not fit, or a factor is constant.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import separated_attribute_predictability
        >>> factor = torch.linspace(0, 1, 100)
        >>> codes = torch.stack([2 * factor + 1, (9 * factor).cos()], dim=1)
        >>> round(separated_attribute_predictability(codes, factor), 3)
        0.999
    """
    factors = checked_factors("separated_attribute_predictability", codes, factors)
    wide = codes.detach().double().cpu()
    score = _squared_correlation if factors.is_floating_point() else _balanced_accuracy
    scores = [[score(code, factor) for factor in factors.T] for code in wide.T]
    return float(gap_of_the_best_two(torch.tensor(scores, dtype=torch.float64)).mean())


def _squared_correlation(code: Tensor, factor: Tensor) -> float:
    if bool((code == code[0]).all()):
        return 0.0
    return float(torch.corrcoef(torch.stack([code, factor]))[0, 1]) ** 2


def _balanced_accuracy(code: Tensor, factor: Tensor) -> float:
    from sklearn.tree import DecisionTreeClassifier  # type: ignore[import-untyped]

    fitted, tested = two_halves(len(code))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=max(2, len(torch.unique(factor))), class_weight="balanced", random_state=0
    ).fit(code[fitted].unsqueeze(1).numpy(), factor[fitted].numpy())
    truth = factor[tested].numpy()
    hit = tree.predict(code[tested].unsqueeze(1).numpy()) == truth
    return float(np.mean([hit[truth == value].mean() for value in np.unique(truth)]))
