"""The handwritten digits that come with scikit-learn (UCI, Alpaydin and Kaynak), 8 x 8."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vae_fast.data.layout import as_labels, as_tensor


def load_digits(*, counts: bool = False) -> tuple[Tensor, Tensor]:
    """All 1797 digits, (1797, 1, 8, 8) uint8, and their labels.

    The source counts 0..16 dark cells in each pixel. They are stored as round(255 v / 16), so that
    x / 255 is the intensity v / 16 to within 0.002, and the data are uint8 like any picture; with
    `counts` as they are.
    """
    from sklearn import datasets  # type: ignore[import-untyped]

    bunch = datasets.load_digits()
    pictures = np.rint(bunch.images * (1 if counts else 255 / 16)).astype(np.uint8)
    return as_tensor(pictures, "digits", counts=counts), as_labels(
        bunch.target, len(pictures), "digits' labels"
    )
