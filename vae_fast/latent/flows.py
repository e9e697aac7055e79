"""Normalizing flows, of the package zuko."""

from __future__ import annotations

from typing import Any

import torch


def masked_autoregressive_flow(
    features: int, context: int, transforms: int, hidden: tuple[int, ...]
) -> Any:
    """A lazy flow of zuko's: a module that makes a distribution of a context.

    Papamakarios et al. 2017, "Masked autoregressive flow for density estimation"
    (arXiv:1705.07057): one pass for the density of any z, one for each feature for a sample.

    Raises:
        ModuleNotFoundError: zuko is not installed.
    """
    try:
        from zuko.flows import MAF
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "flows need the package zuko: pip install 'vae_fast[flows]'", name="zuko"
        ) from error
    # Its masks are made of values, which the meta device has not.
    device = torch.get_default_device()
    with torch.device("cpu" if device.type == "meta" else device):
        return MAF(features, context, transforms=transforms, hidden_features=hidden)
