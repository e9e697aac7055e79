"""The settings of a training run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from vae_fast.bounds.estimators import ESTIMATORS
from vae_fast.models.sampled import Sampling, check_sampling

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16"]

_LARGEST = 2**63 - 1  # that torch counts with


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The settings of a training run; checked when made, and the same after a trip through JSON.

    Attributes:
        epochs: passes over the training data.
        batch_size: data in a step; the last batch of an epoch is smaller.
        eval_batch_size: data in a step of evaluation.
        learning_rate: of Adam.
        weight_decay: decoupled from the gradient (AdamW); 0 is Adam.
        schedule: the learning rate over the steps: "constant", or down to zero as "linear" or
            "cosine".
        lr_warmup: epochs (or a part of one) in which the learning rate rises from zero.
        clip_norm: the gradient is scaled down to this norm where it is longer; None: never.
        beta: weight of the KL term.
        kl_warmup: epochs (or a part of one) in which the weight rises linearly from 0 to `beta`.
        kl_cycles: equal parts of the run, each of which begins with such a rise (Fu et al. 2019,
            who have 4 that rise for half of their length); 1 is a single one.
        kl_capacity: nats at which the KL term is held: the loss is nll + beta |KL - capacity|, with
            a beta far above 1 (Burgess et al. 2018: 1000); None: it is not.
        kl_capacity_warmup: epochs (or a part of one) in which that rises linearly from 0.
        free_bits: nats of KL that each latent dimension has for nothing.
        estimator: the bound that is trained and evaluated, and the estimate of its gradient, by its
            name in `importance_weighted_loss`; `VAE.loss` has this and what follows.
        num_samples: codes drawn for each datum.
        alpha: of an estimator that has it.
        groups: of the samples, of an estimator that has them.
        antithetic: draw the codes in pairs.
        patience: stop after this many epochs without a better test loss, and keep the best
            weights; None: train for all epochs and keep the last.
        min_delta: how much lower, in nats, a test loss must be to count as better.
        checkpoint_every: epochs between checkpoints; the last epoch always has one.
        seed: of the order of the data and of the noise (and, on the command line, of the first
            weights).
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", …
        precision: of the networks' matrix products: "float32", or "bfloat16" (autocast; weights,
            losses and sums stay in float32).
        cuda_graphs: on a GPU, record the training step once and replay it.
        tensorboard: write the curves for TensorBoard too.

    Example:
        >>> import vae_fast as vf
        >>> config = vf.TrainerConfig(epochs=3, schedule="cosine")
        >>> config.learning_rate
        0.001
        >>> vf.TrainerConfig.from_json(config.to_json()) == config
        True
        >>> vf.TrainerConfig(epochs=0)
        Traceback (most recent call last):
            ...
        ValueError: TrainerConfig.epochs is 0; expected at least 1
    """

    epochs: int = 10
    batch_size: int = 128
    eval_batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    lr_warmup: float = 0.0
    clip_norm: float | None = None
    beta: float = 1.0
    kl_warmup: float = 0.0
    kl_cycles: int = 1
    kl_capacity: float | None = None
    kl_capacity_warmup: float = 0.0
    free_bits: float = 0.0
    estimator: str = "elbo"
    num_samples: int = 1
    alpha: float | None = None
    groups: int | None = None
    antithetic: bool = False
    patience: int | None = None
    min_delta: float = 0.0
    checkpoint_every: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Precision = "float32"
    cuda_graphs: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            TypeError: a field is of the wrong type; the message names it.
            ValueError: a field is out of its range; the message names it.
        """
        whole = ("epochs", "batch_size", "eval_batch_size", "checkpoint_every")
        for name in (*whole, "kl_cycles", "num_samples"):
            self._whole(name, 1)
        self._whole("seed", 0)
        for name in ("weight_decay", "lr_warmup", "beta", "free_bits", "min_delta"):
            self._number(name, zero=True)
        self._kl_schedule()
        self._number("learning_rate", zero=False)
        if self.clip_norm is not None:
            self._number("clip_norm", zero=False)
        for name in ("patience", "groups"):
            if getattr(self, name) is not None:
                self._whole(name, 1)
        self._choice("schedule", get_args(Schedule))
        self._choice("precision", get_args(Precision))
        self._choice("estimator", tuple(ESTIMATORS))
        if not isinstance(self.device, str):
            raise TypeError(f"TrainerConfig.device is {self.device!r}; expected a string")
        for name in ("antithetic", "cuda_graphs", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"TrainerConfig.{name} is {getattr(self, name)!r}; expected a bool")
        check_sampling(
            "TrainerConfig", self.sampling, weighs_kl=self.weighs_kl, free_bits=self.free_bits
        )

    @property
    def weighs_kl(self) -> bool:
        """Whether the KL term has another weight than one at some time."""
        return self.beta != 1 or self.kl_warmup > 0 or self.kl_capacity is not None

    @property
    def sampling(self) -> Sampling:
        """How codes are drawn and what is made of them."""
        return Sampling(**{name: getattr(self, name) for name in Sampling._fields})

    def _kl_schedule(self) -> None:
        for name in ("kl_warmup", "kl_capacity_warmup"):
            self._number(name, zero=True)
        longest = self.epochs / self.kl_cycles
        if self.kl_cycles > 1 and not 0 < self.kl_warmup <= longest:
            raise ValueError(
                f"TrainerConfig.kl_cycles is {self.kl_cycles}, of {longest:g} epochs each, and "
                f"kl_warmup is {self.kl_warmup:g}; expected a rise of more than 0 and at most "
                f"{longest:g} epochs"
            )
        if self.kl_capacity is not None:
            self._number("kl_capacity", zero=True)
        elif self.kl_capacity_warmup:
            raise ValueError(
                f"TrainerConfig.kl_capacity_warmup is {self.kl_capacity_warmup:g}, but kl_capacity "
                "is None; expected the capacity to which it rises"
            )

    def _choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(f"TrainerConfig.{name} is {value!r}; expected one of {choices}")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"TrainerConfig.{name} is {value!r}; expected a whole number")
        if value < least:
            raise ValueError(f"TrainerConfig.{name} is {value}; expected at least {least}")
        if value > _LARGEST:
            raise ValueError(f"TrainerConfig.{name} is {value}; expected at most {_LARGEST}")

    def _number(self, name: str, *, zero: bool) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"TrainerConfig.{name} is {value!r}; expected a number")
        # A whole number that is none in floating point is not finite either.
        if not 0 <= value <= sys.float_info.max or (value == 0 and not zero):
            least = "at least" if zero else "more than"
            raise ValueError(
                f"TrainerConfig.{name} is {value}; expected a finite number of {least} 0"
            )
        object.__setattr__(self, name, float(value))  # torch takes no whole number beyond 2**63

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainerConfig:
        """The inverse of `to_dict`; what is missing has its default.

        `native_step`, which runs of release 0.1.0 have, chose between two ways to the same numbers;
        it is left out.

        Raises:
            ValueError: there is a field that does not exist.
        """
        values = {name: value for name, value in values.items() if name != "native_step"}
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"TrainerConfig has no field {', '.join(unknown)}")
        return cls(**values)

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainerConfig:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))


def kl_weight(config: TrainerConfig, epoch: float) -> float:
    """The weight of the KL term after so many epochs, counted from 0 in fractions."""
    if config.kl_cycles > 1:
        epoch %= config.epochs / config.kl_cycles
    return config.beta * _risen(epoch, config.kl_warmup)


def kl_control(config: TrainerConfig, epoch: float | None = None) -> tuple[float, ...]:
    """What a step at this epoch weighs the KL term by: beta, and the capacity if there is one.

    Args:
        config: the settings.
        epoch: counted from 0 in fractions; None: after all warm-ups, as evaluation has it.
    """
    weight = config.beta if epoch is None else kl_weight(config, epoch)
    if config.kl_capacity is None:
        return (weight,)
    risen = 1.0 if epoch is None else _risen(epoch, config.kl_capacity_warmup)
    return weight, config.kl_capacity * risen


def _risen(epoch: float, warmup: float) -> float:
    """From 0 to 1 over so many epochs."""
    return 1.0 if epoch >= warmup else epoch / warmup


def learning_rate_factor(config: TrainerConfig, epoch: float) -> float:
    """What the learning rate is multiplied by after so many epochs, counted from 0 in fractions."""
    if epoch < config.lr_warmup:
        return _risen(epoch, config.lr_warmup)
    if config.schedule == "constant":
        return 1.0
    left = 1 - (epoch - config.lr_warmup) / max(config.epochs - config.lr_warmup, 1e-9)
    if config.schedule == "linear":
        return max(0.0, left)
    return 0.5 * (1 - math.cos(math.pi * max(0.0, left)))
