"""All figures of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_fast.evaluation.annealing import PILOTS, annealed_importance_sampling
from vae_fast.evaluation.dci import disentanglement_completeness_informativeness
from vae_fast.evaluation.decomposition import decompose_kl
from vae_fast.evaluation.elbo import elbo_per_datum
from vae_fast.evaluation.figures import (
    METRICS,
    AnnealingFigures,
    Bound,
    DecompositionFigures,
    DisentanglementFigures,
    Estimate,
    Evaluation,
    ImportanceFigures,
    Metric,
    RatePoint,
    UnitFigures,
    finite,
)
from vae_fast.evaluation.importance import (
    ImportanceEstimate,
    importance_estimate,
    iwae_bound,
)
from vae_fast.evaluation.mig import mutual_information_gap
from vae_fast.evaluation.sap import separated_attribute_predictability
from vae_fast.evaluation.units import active_units, kl_per_dimension
from vae_fast.models import VAE
from vae_fast.training.batches import batches
from vae_fast.training.randomness import kept_generators, seed_all

_BATCH = 128
_ELBO_SAMPLES = 5
_UNRELIABLE = 0.7
_CURVE = 50  # points that are kept of it


def evaluate_model(
    model: VAE,
    x: Tensor,
    *,
    metrics: Sequence[Metric] = METRICS,
    factors: Tensor | None = None,
    importance_samples: int = 1000,
    annealed: int = 40,
    chains: int = 6,
    temperatures: int = 250,
    seed: int = 0,
) -> Evaluation:
    """The figures of a model on data that it has not seen.

    The noise depends on the seed alone, and torch's generators are left as they were.

    Args:
        model: with a Gaussian q(z | x) and the prior N(0, I).
        x: (N, *input_shape), floats or uint8; counts perhaps in `torch.sparse_csr`.
        metrics: what to compute beside the bound and its parts, of ``METRICS``.
        factors: (N, F), or (N,) for one: what is known of the data; whole numbers are classes,
            floats are numbers. Without them there are no figures of disentanglement.
        importance_samples: of each datum.
        annealed: how many of the data, the first ones, are annealed.
        chains: of annealing, for each datum.
        temperatures: of annealing.
        seed: of the noise.

    Raises:
        TypeError: the model is not a VAE.
        ValueError: a metric has another name, or there are not at least two data.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> from vae_fast.evaluation import evaluate_model
        >>> model = vf.VAE(6, 2, hidden=(8,))
        >>> figures = evaluate_model(model, torch.rand(30, 6), metrics=["units"])
        >>> figures.count, len(figures.units.kl)
        (30, 2)
    """
    if not isinstance(model, VAE):
        raise TypeError(f"evaluate_model: model is of type {type(model).__name__}; expected a VAE")
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"evaluate_model: metrics has {unknown[0]!r}; expected some of {METRICS}")
    if len(x) < 2:
        raise ValueError(f"evaluate_model: x has {len(x)} data; expected at least 2")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with kept_generators(device), torch.no_grad():
        seed_all(seed)
        parts = list(batches(x, _BATCH, device))
        mu, logvar = (
            torch.cat(heads).flatten(1)
            for heads in zip(*(model.encode(part) for part in parts), strict=True)
        )
        # Twice: what the two differ by is the noise of the codes.
        terms = [elbo_per_datum(model, part, _ELBO_SAMPLES) for part in parts * 2]
        loss, nll, kl = (
            torch.cat(term).double().reshape(2, -1) for term in zip(*terms, strict=True)
        )
        elbo = _estimate(-loss.mean(0), (loss[0] - loss[1]) / 2)
        found: dict[str, Any] = {}
        beside = None
        if "importance" in metrics:
            weights = torch.cat([model.log_weights(part, importance_samples) for part in parts], 1)
            estimate = importance_estimate(weights)
            found["importance"] = _importance(weights, estimate)
            beside = float(estimate.log_likelihood[:annealed].mean())
        if "annealing" in metrics:
            first = torch.cat(parts)[:annealed]
            found["annealing"] = _annealing(model, first, chains, temperatures, beside)
        if "units" in metrics:
            each = kl_per_dimension(mu, logvar)
            found["units"] = UnitFigures(int(active_units(mu).sum()), tuple(each.tolist()))
        if "decomposition" in metrics:
            decomposition = decompose_kl(mu, logvar)
            found["decomposition"] = DecompositionFigures(*decomposition)
        if "disentanglement" in metrics and factors is not None:
            found["disentanglement"] = _disentanglement(mu, logvar, factors)
    model.train(was_training)
    return Evaluation(len(x), elbo, float(nll.mean()), float(kl.mean()), **found)


def _estimate(values: Tensor, errors: Tensor) -> Estimate:
    """Of figures of each datum, with the standard errors of each."""
    count = len(values)
    noise = float(errors.square().sum().sqrt()) / count
    return Estimate(float(values.mean()), noise, float(values.std()) / math.sqrt(count))


def _importance(weights: Tensor, estimate: ImportanceEstimate) -> ImportanceFigures:
    samples = len(weights)
    bounds = []
    fewer = 1
    while fewer <= samples // 2:
        bound, error = iwae_bound(weights, fewer)
        of_all = _estimate(bound, error)
        bounds.append(Bound(fewer, of_all.mean, of_all.standard_error))
        fewer *= 10
    k = estimate.pareto_k
    unreliable = None if bool(k.isnan().all()) else float((k > _UNRELIABLE).double().mean())
    return ImportanceFigures(
        samples,
        _estimate(estimate.log_likelihood, estimate.standard_error),
        tuple(bounds),
        float(estimate.effective_sample_size.mean()),
        tuple(finite(round(value, 4)) for value in k.tolist()),
        unreliable,
    )


def _annealing(
    model: VAE, x: Tensor, chains: int, temperatures: int, beside: float | None
) -> AnnealingFigures:
    draws = torch.randn(PILOTS + chains, len(x), *model.latent_shape, device="cpu").to(
        next(model.parameters())
    )
    estimate = annealed_importance_sampling(
        lambda z: model.conditional_log_likelihood(x, z), draws, num_temperatures=temperatures
    )
    kept = torch.linspace(0, temperatures, min(_CURVE, temperatures + 1)).round().long()
    figures = (estimate.temperatures, estimate.rate.mean(1), estimate.distortion.mean(1))
    points = zip(*(figure[kept.to(figure.device)].tolist() for figure in figures), strict=True)
    return AnnealingFigures(
        len(x),
        chains,
        temperatures,
        _estimate(estimate.log_likelihood, estimate.standard_error),
        beside,
        float(estimate.acceptance.mean()),
        tuple(RatePoint(*point) for point in points),
    )


def _disentanglement(mu: Tensor, logvar: Tensor, factors: Tensor) -> DisentanglementFigures:
    mig = None if factors.is_floating_point() else mutual_information_gap(mu, logvar, factors)
    dci = disentanglement_completeness_informativeness(mu, factors)
    return DisentanglementFigures(
        mig,
        separated_attribute_predictability(mu, factors),
        dci.disentanglement if factors.dim() == 2 and factors.shape[1] > 1 else None,
        dci.completeness,
        dci.informativeness,
    )
