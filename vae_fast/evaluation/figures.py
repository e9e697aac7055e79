"""All figures of a model in one place, which is JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Metric = Literal["importance", "annealing", "units", "decomposition", "disentanglement"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True)
class Estimate:
    """A mean over the data, in nats per datum.

    Attributes:
        mean: over the data.
        standard_error: of that mean as an estimate for these very data: the noise of the samples.
        data_error: the standard error that the choice of the data adds: their deviation by the root
            of their number.
    """

    mean: float
    standard_error: float
    data_error: float


@dataclass(frozen=True)
class Bound:
    """An IWAE's: the mean over the data of E[log 1/k sum_k w_k], in nats, k the samples."""

    samples: int
    bound: float
    standard_error: float


@dataclass(frozen=True)
class ImportanceFigures:
    """See :class:`vae_fast.evaluation.ImportanceEstimate`.

    Attributes:
        samples: K.
        log_likelihood: by all K samples.
        bounds: with fewer.
        effective_sample_size: the mean over the data.
        pareto_k: of each datum; None where there are too few samples, or no fit.
        unreliable: the share of the data whose k is above 0.7, or has no fit.
    """

    samples: int
    log_likelihood: Estimate
    bounds: tuple[Bound, ...]
    effective_sample_size: float
    pareto_k: tuple[float | None, ...]
    unreliable: float | None


@dataclass(frozen=True)
class RatePoint:
    """A point of a rate-distortion curve, nats per datum.

    Attributes:
        temperature: t of p_t(z | x), proportional to p(z) p(x | z)^t; or the beta of a run.
        rate: KL(p_t(z | x) || p(z)).
        distortion: the mean of -log p(x | z).
    """

    temperature: float
    rate: float
    distortion: float


@dataclass(frozen=True)
class AnnealingFigures:
    """See :class:`vae_fast.evaluation.AnnealedEstimate`.

    Attributes:
        data: how many, the first ones; chains go for each of them.
        chains: for each datum.
        temperatures: how many.
        log_likelihood: of these data.
        importance: the mean of what importance samples say of them, where these were asked for: how
            far the two are apart is what one of them does not see.
        acceptance: the share of the moves that were accepted.
        curve: rates and distortions from the prior to the posterior, at most 50 of them.
    """

    data: int
    chains: int
    temperatures: int
    log_likelihood: Estimate
    importance: float | None
    acceptance: float
    curve: tuple[RatePoint, ...]


@dataclass(frozen=True)
class UnitFigures:
    """Of the dimensions of the code.

    Attributes:
        active: how many are; see :func:`vae_fast.evaluation.active_units`.
        kl: of each dimension, nats, averaged over the data.
    """

    active: int
    kl: tuple[float, ...]


@dataclass(frozen=True)
class DecompositionFigures:
    """See :class:`vae_fast.evaluation.Decomposition`; nats."""

    mutual_information: float
    total_correlation: float
    dimension_wise_kl: float
    standard_errors: tuple[float, float, float]


@dataclass(frozen=True)
class DisentanglementFigures:
    """From 0 to 1 each.

    Attributes:
        mig: the mutual information gap; None where a factor is no class.
        sap: the separated attribute predictability.
        disentanglement: of DCI; None of one factor alone, which nothing can be mixed with.
        completeness: of DCI.
        informativeness: of DCI.
    """

    mig: float | None
    sap: float
    disentanglement: float | None
    completeness: float
    informativeness: float


@dataclass(frozen=True)
class Evaluation:
    """All figures of a model on some data; what was not asked for is None.

    Attributes:
        count: how many data.
        elbo: nats per datum.
        nll: -E[log p(x | z)], nats per datum.
        kl: KL(q(z | x) || p(z)), nats per datum.
        importance: the log-likelihood by importance samples.
        annealing: the same by annealed importance sampling; the rate-distortion curve.
        units: active units, the divergence of each dimension.
        decomposition: of the divergence.
        disentanglement: where there are factors.
    """

    count: int
    elbo: Estimate
    nll: float
    kl: float
    importance: ImportanceFigures | None = None
    annealing: AnnealingFigures | None = None
    units: UnitFigures | None = None
    decomposition: DecompositionFigures | None = None
    disentanglement: DisentanglementFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """What json.dumps takes.

        Example:
            >>> from vae_fast.evaluation import Estimate, Evaluation
            >>> figures = Evaluation(10, Estimate(-80.0, 0.1, 2.0), 60.0, 20.0)
            >>> Evaluation.from_dict(figures.to_dict()) == figures
            True
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """What `to_dict` gave, by way of JSON perhaps.

        Raises:
            ValueError: it is not that.
        """
        try:
            made: Evaluation = _made(cls, values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"these are no figures of an Evaluation: {error}") from error
        return made


# What the entries of a dictionary are made into, by name; others are what they are.
_PARTS: dict[str, Any] = {
    "elbo": Estimate,
    "log_likelihood": Estimate,
    "importance": ImportanceFigures,
    "annealing": AnnealingFigures,
    "units": UnitFigures,
    "decomposition": DecompositionFigures,
    "disentanglement": DisentanglementFigures,
    "bounds": Bound,
    "curve": RatePoint,
}


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass from a dictionary, lists as tuples, its parts likewise."""
    return kind(**{name: _part(_PARTS.get(name), value) for name, value in values.items()})


def _part(kind: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return _made(kind, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_part(kind, entry) for entry in value)
    return value


def finite(value: float) -> float | None:
    """JSON knows no other numbers."""
    return value if math.isfinite(value) else None
