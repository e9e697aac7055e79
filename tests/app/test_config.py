"""Settings: checked by name, the same after JSON; the schedules that they describe."""

import dataclasses
import math

import pytest

from vae_fast.training import TrainerConfig
from vae_fast.training.config import kl_control, kl_weight, learning_rate_factor


def test_json_keeps_every_field():
    config = TrainerConfig(
        epochs=6, batch_size=7, eval_batch_size=5, learning_rate=1 / 3, weight_decay=0.1,
        schedule="cosine", lr_warmup=0.5, clip_norm=1.5, beta=0.1, kl_warmup=2.0, free_bits=0.01,
        patience=4, min_delta=1e-3, checkpoint_every=2, seed=11, device="cpu", tensorboard=True,
        precision="bfloat16", cuda_graphs=False, kl_cycles=3, kl_capacity=5.0,
        kl_capacity_warmup=1.5,
    )  # fmt: skip
    # Which go with no weights of the KL term.
    sampled = (
        TrainerConfig(estimator="dreg", num_samples=6, alpha=0.25, groups=3),
        TrainerConfig(num_samples=2, antithetic=True),
    )
    default = TrainerConfig()
    for field in dataclasses.fields(config):
        values = {getattr(each, field.name) for each in (config, *sampled)}
        assert values != {getattr(default, field.name)}, field.name
    for each in (config, *sampled):
        assert TrainerConfig.from_json(each.to_json()) == each
    assert TrainerConfig.from_json("{}") == default


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("epochs", True, TypeError),
        ("batch_size", -1, ValueError),
        ("eval_batch_size", 0, ValueError),
        ("checkpoint_every", 0, ValueError),
        ("seed", -1, ValueError),
        ("learning_rate", 0, ValueError),
        ("learning_rate", math.nan, ValueError),
        ("learning_rate", "fast", TypeError),
        ("weight_decay", -0.1, ValueError),
        ("clip_norm", 0.0, ValueError),
        ("beta", -1.0, ValueError),
        ("beta", math.inf, ValueError),
        ("kl_warmup", -1, ValueError),
        ("kl_cycles", 0, ValueError),
        ("kl_cycles", 4, ValueError),  # without a warm-up to repeat
        ("kl_capacity", -1, ValueError),
        ("kl_capacity", "5", TypeError),
        ("kl_capacity_warmup", 1, ValueError),  # without a capacity
        ("kl_capacity_warmup", None, TypeError),
        ("lr_warmup", None, TypeError),
        ("free_bits", -1, ValueError),
        ("estimator", "naive", ValueError),
        ("num_samples", 0, ValueError),
        ("num_samples", None, TypeError),
        ("groups", 0, ValueError),
        ("groups", 2.0, TypeError),
        ("antithetic", 1, TypeError),
        ("patience", 0, ValueError),
        ("min_delta", -1, ValueError),
        ("schedule", "steps", ValueError),
        ("device", None, TypeError),
        ("tensorboard", "yes", TypeError),
        ("cuda_graphs", 1, TypeError),
        ("precision", "float16", ValueError),
    ],
)
def test_bad_fields_are_named(field, value, error):
    with pytest.raises(error, match=rf"TrainerConfig\.{field} "):
        TrainerConfig(**{field: value})


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match="momentum"):
        TrainerConfig.from_dict({"momentum": 0.9})


def test_kl_weight():
    config = TrainerConfig(beta=2.0, kl_warmup=4.0)
    assert [kl_weight(config, epoch) for epoch in (0, 1, 2, 4, 9)] == [0, 0.5, 1, 2, 2]
    assert kl_weight(TrainerConfig(beta=2.0), 0) == 2.0


def test_kl_weight_in_cycles():
    """Fu et al. 2019: M = 4, R = 0.5."""
    config = TrainerConfig(epochs=16, beta=2.0, kl_warmup=2.0, kl_cycles=4)
    epochs = [0, 0.5, 1, 2, 3.5, 4, 5, 6, 7, 8, 15]
    assert [kl_weight(config, e) for e in epochs] == [0, 0.5, 1, 2, 2, 0, 1, 2, 2, 0, 2]


@pytest.mark.parametrize("kl_warmup", [0.0, 4.5])
def test_a_cycle_is_as_long_as_its_rise(kl_warmup):
    with pytest.raises(ValueError, match="kl_cycles is 4, of 4 epochs each, and kl_warmup is"):
        TrainerConfig(epochs=16, kl_cycles=4, kl_warmup=kl_warmup)


def test_kl_control():
    assert kl_control(TrainerConfig(beta=2.0, kl_warmup=4.0), 1.0) == (0.5,)
    assert kl_control(TrainerConfig(beta=2.0, kl_warmup=4.0)) == (2.0,)
    config = TrainerConfig(beta=100.0, kl_capacity=10.0, kl_capacity_warmup=5.0)
    assert [kl_control(config, e) for e in (0, 1, 5, 9)] == [
        (100.0, 0.0), (100.0, 2.0), (100.0, 10.0), (100.0, 10.0),
    ]  # fmt: skip
    assert kl_control(config) == (100.0, 10.0)
    assert kl_control(TrainerConfig(kl_capacity=0.0), 0) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.5, 0, 0]),
        ("cosine", [0, 0.5, 1, 0.5, 0, 0]),
    ],
)
def test_learning_rate(schedule, expected):
    config = TrainerConfig(epochs=10, lr_warmup=2.0, schedule=schedule)
    factors = [learning_rate_factor(config, epoch) for epoch in (0, 1, 2, 6, 10, 12)]
    assert factors == pytest.approx(expected)


def test_warmup_of_the_whole_run():
    config = TrainerConfig(epochs=2, lr_warmup=2.0, schedule="linear")
    assert learning_rate_factor(config, 1.0) == 0.5
    assert learning_rate_factor(config, 2.0) == 1.0


def test_the_choice_of_a_step_in_an_earlier_release_is_left_out():
    stored = TrainerConfig(epochs=3).to_dict() | {"native_step": False}
    assert TrainerConfig.from_dict(stored) == TrainerConfig(epochs=3)
