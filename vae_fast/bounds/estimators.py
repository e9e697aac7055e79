"""What each estimator makes of K log weights: a bound, and what the parts of its gradient weigh.

With log w_k = log p(x, z_k) - log q(z_k|x) and z_k drawn from q, a gradient has three parts: of
log p(x, z_k) in the model's own parameters, of log q(z_k|x) in those of q at the same z_k (the
score), and of log w_k in z_k and on to what z_k was drawn from (the path). An estimator is a bound,
which is a function of the log weights with two derivatives, and a rule that makes of these a weight
for each part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.bounds.log_mean_exp import log_mean_exp


class Settings(NamedTuple):
    """What a bound or a rule may be told; see `importance_weighted_loss`."""

    alpha: float
    groups: int
    baseline: Tensor | float


class Bound(NamedTuple):
    """A bound of log p(x) with its derivatives in each log weight.

    Attributes:
        value: (*batch), in nats.
        slope: d value / d log w_k, (K, *batch).
        bend: d^2 value / d log w_k^2, (K, *batch).
    """

    value: Tensor
    slope: Tensor
    bend: Tensor


class Weights(NamedTuple):
    """A bound's value and what multiplies the parts of its gradient; all but value (K, *batch).

    Attributes:
        value: (*batch), in nats.
        model: of log p(x, z_k), in the model's own parameters.
        score: of log q(z_k|x), in q's parameters at the same z_k.
        path: of log w_k, in z_k.
    """

    value: Tensor
    model: Tensor
    score: Tensor
    path: Tensor


# ---- bounds --------------------------------------------------------------------------------------


def _renyi(log_weights: Tensor, settings: Settings) -> Bound:
    """log(mean w^(1 - alpha)) / (1 - alpha) of each group of samples, averaged over the groups.

    The VR bound of Li and Turner 2016: of alpha 0 the IWAE's (Burda et al. 2016, equation 8), of
    alpha 1 the ELBO, of -infinity the largest log weight. Of several groups the MIWAE's (Rainforth
    et al. 2018, section 5).
    """
    groups, power = settings.groups, 1 - settings.alpha
    each = torch.unflatten(log_weights, 0, (groups, -1))
    if power == 0:
        value = each.mean(1)
        shares, bend = torch.full_like(each, 1 / each.shape[1]), torch.zeros_like(each)
    elif math.isinf(power):
        value = each.amax(1)
        is_largest = (each == value.unsqueeze(1)).to(each.dtype)
        shares, bend = is_largest / is_largest.sum(1, keepdim=True), torch.zeros_like(each)
    else:
        value, shares = log_mean_exp(power * each, 1)
        value, bend = value / power, power * shares * (1 - shares)
    return Bound(value.mean(0), (shares / groups).flatten(0, 1), (bend / groups).flatten(0, 1))


def _combination(log_weights: Tensor, settings: Settings) -> Bound:
    """Alpha ELBO + (1 - alpha) IWAE; the CIWAE of Rainforth et al. 2018, section 5."""
    share = settings.alpha
    elbo, iwae = (_renyi(log_weights, settings._replace(alpha=alpha)) for alpha in (1.0, 0.0))
    return Bound(*(share * a + (1 - share) * b for a, b in zip(elbo, iwae, strict=True)))


# ---- rules ---------------------------------------------------------------------------------------

BoundOf = Callable[[Tensor, Settings], Bound]


def _total(bound: BoundOf, log_weights: Tensor, settings: Settings) -> Weights:
    """The bound's derivative as it is."""
    value, slope, _ = bound(log_weights, settings)
    return Weights(value, slope, -slope, slope)


def _path(bound: BoundOf, log_weights: Tensor, settings: Settings) -> Weights:
    """Without the score, which the path replaces where its mean is not zero.

    A score that slope multiplies has the mean of the path of slope (Tucker et al. 2019, section 3),
    which is bend times the path of log w_k. Of the ELBO this is sticking the landing (Roeder et al.
    2017). Of the IWAE's bound it is DReG, whose path weighs the square of the sample's share; of
    Renyi's, alpha times the share and 1 - alpha times that square.
    """
    value, slope, bend = bound(log_weights.detach(), settings)
    return Weights(value, slope, torch.zeros_like(slope), slope - bend)


def _two_bounds(bound: BoundOf, log_weights: Tensor, settings: Settings) -> Weights:
    """The model by one group of all samples, q by several; the PIWAE of Rainforth et al. 2018."""
    detached = log_weights.detach()
    whole = bound(detached, settings._replace(groups=1))
    slope = bound(detached, settings).slope
    return Weights(whole.value, whole.slope, -slope, slope)


def _score(bound: BoundOf, log_weights: Tensor, settings: Settings) -> Weights:
    """Each score times its log weight above the baseline (Williams 1992), and no path."""
    value, slope, _ = bound(log_weights.detach(), settings)
    signal = slope * (log_weights.detach() - settings.baseline)
    return Weights(value, slope, signal, torch.zeros_like(slope))


def _leave_one_out(bound: BoundOf, log_weights: Tensor, settings: Settings) -> Weights:
    """Each score times how much the bound is above what it is without that sample, and no path.

    In whose place is the mean of the other log weights: VIMCO (Mnih and Rezende 2016, with the
    geometric mean). Of the ELBO it is REINFORCE, whose baseline is the mean of the others
    (Kool et al. 2019). The slope's part is taken without its mean 1 / K: a constant times the score
    has mean zero.
    """
    detached = log_weights.detach()
    count = len(detached)
    value, slope, _ = bound(detached, settings)
    is_own = torch.eye(count, dtype=torch.bool, device=detached.device)
    is_own = is_own.reshape(count, count, *(1,) * (detached.dim() - 1))
    others = torch.where(is_own, 0, detached.unsqueeze(1)).sum(0) / (count - 1)
    # (K samples, K of which one after another is replaced, *batch)
    replaced = torch.where(is_own, others, detached.unsqueeze(1))
    signal = value - bound(replaced, settings).value
    return Weights(value, slope, signal - (slope - 1 / count), torch.zeros_like(slope))


# ---- the table -----------------------------------------------------------------------------------


class Estimator(NamedTuple):
    """A row of the table.

    Attributes:
        bound: of its log weights.
        rule: what the parts of the gradient weigh.
        alpha: the bound's, where none is given; None: it has to be.
        takes: which settings of `importance_weighted_loss` it has a use for.
        wants: which tensors it must be given beside the log weights.
        independent: whether it is unbiased only where no sample depends on another, as those of
            an antithetic pair do.
    """

    bound: BoundOf
    rule: Callable[[BoundOf, Tensor, Settings], Weights]
    alpha: float | None
    takes: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    independent: bool = False

    @property
    def is_elbo(self) -> bool:
        """Whether the bound is the mean of the log weights, whose KL term may be weighed."""
        return self.alpha == 1

    @property
    def has_path(self) -> bool:
        """Whether the gradient goes through z, which a score function's does not."""
        return self.rule not in (_score, _leave_one_out)


_LOG_Q, _BOTH = ("log_q",), ("log_q", "path")

ESTIMATORS: dict[str, Estimator] = {
    "elbo": Estimator(_renyi, _total, 1.0),
    "iwae": Estimator(_renyi, _total, 0.0),
    "miwae": Estimator(_renyi, _total, 0.0, ("groups",)),
    "piwae": Estimator(_renyi, _two_bounds, 0.0, ("groups",), _BOTH),
    "ciwae": Estimator(_combination, _total, None, ("alpha",)),
    "renyi": Estimator(_renyi, _total, None, ("alpha",)),
    "vr_max": Estimator(_renyi, _total, -math.inf),
    "stl": Estimator(_renyi, _path, 1.0, (), _LOG_Q),
    "dreg": Estimator(_renyi, _path, 0.0, ("alpha", "groups"), _BOTH, independent=True),
    "reinforce": Estimator(_renyi, _score, 1.0, ("baseline",), _LOG_Q),
    "reinforce_loo": Estimator(_renyi, _leave_one_out, 1.0, (), _LOG_Q, independent=True),
    "vimco": Estimator(_renyi, _leave_one_out, 0.0, (), _LOG_Q, independent=True),
}
