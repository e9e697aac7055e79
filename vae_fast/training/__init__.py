"""Training: settings, loop, checkpoints, metrics."""

from vae_fast.training.callbacks import Callback
from vae_fast.training.config import TrainerConfig
from vae_fast.training.devices import choose_device
from vae_fast.training.files import RunError
from vae_fast.training.metrics import EpochMetrics, Terms
from vae_fast.training.run import Run, load_run
from vae_fast.training.trainer import Trainer, TrainingDiverged

__all__ = [
    "Callback",
    "EpochMetrics",
    "Run",
    "RunError",
    "Terms",
    "Trainer",
    "TrainerConfig",
    "TrainingDiverged",
    "choose_device",
    "load_run",
]
