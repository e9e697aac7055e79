"""log p(x) by annealed importance sampling, which needs no recognition model.

Neal 2001; of decoders, Wu, Burda, Salakhutdinov and Grosse 2017, "On the quantitative analysis of
decoder-based generative models".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_fast.evaluation.importance import importance_estimate

_ACCEPTANCE = 0.65  # that the steps are tuned to; Wu et al. 2017, appendix
_GAIN = 0.2  # of the tuning: nats of step a move, for an acceptance off by 1
PILOTS = 2  # chains a datum that find the steps
_STEEPNESS = 4.0  # of the schedule

LogDensity = Callable[[Tensor], Tensor]


class AnnealedEstimate(NamedTuple):
    """What annealed chains say of each datum; float64.

    Attributes:
        log_likelihood: (N,), nats: the logarithm of an unbiased estimate of p(x), hence too low on
            average, and the less so the more temperatures.
        standard_error: (N,), of it, in nats, by the delta method over the chains.
        effective_sample_size: (N,), of the chains' weights.
        acceptance: (N,), the share of moves that were accepted.
        temperatures: (T + 1,), from 0 to 1.
        rate: (T + 1, N): KL(p_t(z | x) || p(z)) in nats, where p_t is proportional to
            p(z) p(x | z)^t at temperature t.
        distortion: (T + 1, N): the mean of -log p(x | z) under p_t, in nats.
    """

    log_likelihood: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    acceptance: Tensor
    temperatures: Tensor
    rate: Tensor
    distortion: Tensor


def standard_normal_log_prob(z: Tensor, latent_dims: int = 1) -> Tensor:
    """Log N(z; 0, I), the last `latent_dims` dimensions summed, in nats.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import standard_normal_log_prob
        >>> standard_normal_log_prob(torch.zeros(3, 2))  # - log 2 pi
        tensor([-1.8379, -1.8379, -1.8379])
    """
    return (-0.5 * (z * z + math.log(2 * math.pi))).flatten(-latent_dims).sum(-1)


def annealed_importance_sampling(
    log_likelihood: LogDensity,
    prior_draws: Tensor,
    log_prior: LogDensity | None = None,
    *,
    num_temperatures: int = 200,
    leapfrog_steps: int = 10,
    step_size: float = 0.5,
    generator: torch.Generator | None = None,
) -> AnnealedEstimate:
    """Estimate log p(x) by chains from the prior to the posterior, moved by Hamiltonian dynamics.

    The temperatures t rise from 0 to 1 by Wu et al.'s sigmoid; at each, a chain's log weight gains
    (t - t_before) log p(x | z), and one trajectory leaves p(z) p(x | z)^t as it is. The rates and
    distortions on the way are the model's rate-distortion curve (Huang et al. 2020, "Evaluating
    lossy compression rates of deep generative models", section 4). The first two chains of each
    datum are pilots: they find the step of each temperature, for an acceptance of 0.65. The others
    keep these steps, so that their mean weight is p(x) without bias; they alone count.

    Args:
        log_likelihood: (C, N, *latent) to log p(x_n | z), (C, N), nats; differentiable.
        prior_draws: (2 + C, N, *latent), drawn from the prior: where the chains for N data begin.
        log_prior: the prior's log density, likewise; None: the standard normal.
        num_temperatures: T, above 0; the work grows with it, the bias falls with it.
        leapfrog_steps: of a trajectory.
        step_size: that the pilots begin with.
        generator: for the momenta, of the draws' device.

    Raises:
        TypeError: the draws are no floating tensor.
        ValueError: they are not (2 + C, N, *latent) with C of at least 2, or a number is not
            above 0.

    Example:
        >>> import torch
        >>> from vae_fast.evaluation import annealed_importance_sampling
        >>> x = torch.tensor([0.0, 1.0])  # x given z is N(z, 1), so that x is N(0, 2)
        >>> likelihood = torch.distributions.Normal(0.0, 1.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimate = annealed_importance_sampling(
        ...     lambda z: likelihood.log_prob(x - z[..., 0]),
        ...     torch.randn(66, 2, 1, generator=generator),
        ...     generator=generator,
        ... )
        >>> exact = torch.distributions.Normal(0.0, 2**0.5).log_prob(x)
        >>> (estimate.log_likelihood - exact).abs().max() < 0.1
        tensor(True)
    """
    _check(prior_draws, num_temperatures, leapfrog_steps, step_size)
    if log_prior is None:
        latent_dims = prior_draws.dim() - 2

        def log_prior(z: Tensor) -> Tensor:
            return standard_normal_log_prob(z, latent_dims)

    chains = _Chains(log_likelihood, log_prior, leapfrog_steps, generator)
    schedule = _sigmoid_schedule(num_temperatures)
    first = torch.full(prior_draws.shape[1:2], step_size).to(prior_draws)
    # Of draws of their own: steps that knew where a chain begins would bias its weight.
    steps = chains.run(prior_draws[:PILOTS], schedule, first).steps
    path = chains.run(prior_draws[PILOTS:], schedule, steps)
    estimate = importance_estimate(path.log_weights[-1])
    return AnnealedEstimate(
        estimate.log_likelihood,
        estimate.standard_error,
        estimate.effective_sample_size,
        path.acceptance,
        schedule,
        *_rate_and_distortion(schedule, path),
    )


class _Path(NamedTuple):
    log_weights: Tensor  # (T + 1, C, N)
    log_likelihoods: Tensor  # (T + 1, C, N)
    steps: Tensor  # (T, N)
    acceptance: Tensor  # (N,)


class _Chains(NamedTuple):
    log_likelihood: LogDensity
    log_prior: LogDensity
    leapfrog_steps: int
    generator: torch.Generator | None

    def run(self, z: Tensor, schedule: Tensor, steps: Tensor) -> _Path:
        """From the first temperature to the last; `steps` (N,) are tuned, (T, N) are kept."""
        tuned = steps.dim() == 1
        step = steps
        log_weight = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
        likelihood = self.log_likelihood(z).detach()
        log_weights, likelihoods = [log_weight], [likelihood.double()]
        taken, accepted = [], []
        for t, (before, now) in enumerate(itertools.pairwise(schedule.tolist())):
            log_weight = log_weight + (now - before) * likelihood.double()
            log_weights.append(log_weight)
            likelihoods.append(likelihood.double())
            if not tuned:
                step = steps[t]
            z, likelihood, chance = self._move(z, now, step)
            taken.append(step)
            accepted.append(chance.mean(0))
            if tuned:
                step = step * torch.exp(_GAIN * (accepted[-1] - _ACCEPTANCE))
        return _Path(
            torch.stack(log_weights),
            torch.stack(likelihoods),
            torch.stack(taken),
            torch.stack(accepted).mean(0),
        )

    def _move(self, z: Tensor, temperature: float, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One trajectory and its test: the codes, their log-likelihoods, the chance to be taken."""
        wide = step.reshape(-1, *[1] * (z.dim() - 2))
        momentum = torch.randn(z.shape, generator=self.generator, device=z.device, dtype=z.dtype)
        likelihood, density, force = self._at(z, temperature)
        energy = density - 0.5 * (momentum * momentum).flatten(2).sum(2)
        moved, kept = z, likelihood
        momentum = momentum + 0.5 * wide * force
        for leap in range(self.leapfrog_steps):
            moved = moved + wide * momentum
            likelihood, density, force = self._at(moved, temperature)
            is_last = leap == self.leapfrog_steps - 1
            momentum = momentum + (0.5 if is_last else 1.0) * wide * force
        gain = density - 0.5 * (momentum * momentum).flatten(2).sum(2) - energy
        # A trajectory that has left the numbers is never taken.
        chance = torch.where(gain.isfinite(), gain, -math.inf).clamp(max=0).exp()
        uniform = torch.rand(chance.shape, generator=self.generator, device=z.device, dtype=z.dtype)
        taken = uniform < chance
        z = torch.where(taken.reshape(*taken.shape, *[1] * (z.dim() - 2)), moved, z)
        return z, torch.where(taken, likelihood, kept), chance

    @torch.enable_grad()
    def _at(self, z: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log p(x | z), the log density at this temperature, and its gradient."""
        z = z.detach().requires_grad_()
        likelihood = self.log_likelihood(z)
        density = self.log_prior(z) + temperature * likelihood
        (force,) = torch.autograd.grad(density.sum(), z)
        return likelihood.detach(), density.detach(), force


def _sigmoid_schedule(count: int) -> Tensor:
    """Temperatures 0 = t_0 < ... < t_count = 1; Wu et al. 2017, appendix."""
    at = torch.sigmoid(torch.linspace(-_STEEPNESS, _STEEPNESS, count + 1, dtype=torch.float64))
    return (at - at[0]) / (at[-1] - at[0])


def _rate_and_distortion(schedule: Tensor, path: _Path) -> tuple[Tensor, Tensor]:
    """KL(p_t || p) = t E_t[log p(x | z)] - log Z_t, and -E_t[log p(x | z)], from the weights."""
    weights = torch.softmax(path.log_weights, dim=1)
    expected = (weights * path.log_likelihoods).sum(1)
    log_constant = path.log_weights.logsumexp(1) - math.log(path.log_weights.shape[1])
    return schedule.to(expected).unsqueeze(1) * expected - log_constant, -expected


def _check(draws: Tensor, temperatures: int, leapfrog_steps: int, step_size: float) -> None:
    name = "annealed_importance_sampling"
    if not isinstance(draws, Tensor) or not draws.is_floating_point():
        kind = getattr(draws, "dtype", type(draws).__name__)
        raise TypeError(f"{name}: prior_draws is {kind}; expected a floating tensor")
    if draws.dim() < 3 or len(draws) < PILOTS + 2:
        raise ValueError(
            f"{name}: prior_draws has shape {tuple(draws.shape)}; expected (chains, N, *latent) "
            f"with at least {PILOTS + 2} chains"
        )
    for argument, value in (
        ("num_temperatures", temperatures),
        ("leapfrog_steps", leapfrog_steps),
        ("step_size", step_size),
    ):
        if not value > 0:
            raise ValueError(f"{name}: {argument} is {value}; expected a number above 0")
