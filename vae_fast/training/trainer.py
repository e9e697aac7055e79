"""Trains a model: steps, evaluation, early stopping, checkpoints."""

from __future__ import annotations

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_fast._version import __version__
from vae_fast.bounds import ELBO, capacity_loss
from vae_fast.memory import keep_freed_heap
from vae_fast.models import LatentModel
from vae_fast.training.batches import batches, place, step_count
from vae_fast.training.callbacks import Callback, TensorBoard
from vae_fast.training.checkpoint import Checkpoint, fitting_state, snapshot
from vae_fast.training.config import TrainerConfig, kl_control, kl_weight, learning_rate_factor
from vae_fast.training.devices import choose_device, require_precision
from vae_fast.training.expected import Expected, Given, Source
from vae_fast.training.files import (
    RunError,
    json_bytes,
    lines_bytes,
    naming,
    parsing,
    tensors_bytes,
    write_atomically,
)
from vae_fast.training.graphed import GraphedStep
from vae_fast.training.metrics import Average, EpochMetrics, Terms
from vae_fast.training.randomness import (
    derived_seed,
    kept_generators,
    own_generators,
    seed_all,
    set_generators,
)
from vae_fast.training.run import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    MODEL,
    owned,
    read_config,
    require_free,
)
from vae_fast.training.step import loss_of, sampling_of, weights_of, without_wrappers
from vae_fast.training.stored import entry, fitted, model_of

# Steps between looks at the loss, each of which waits for the device.
_LOOK_EVERY = 25


class TrainingDiverged(RuntimeError):  # noqa: N818
    """The loss, or a weight, is no longer a finite number."""


class Trainer:
    """Trains a model and keeps everything that the run is in a folder.

    The folder holds config.json, metrics.jsonl (one line an epoch, `EpochMetrics`),
    model.safetensors (the weights: the best ones with early stopping, else the last) and
    checkpoint.safetensors, from which `Trainer.resume` goes on. On the CPU, a run that was
    interrupted and resumed ends bit for bit as one that was not, with the same number of threads.

    Randomness is a function of the configuration's seed and the epoch alone: the global generators
    of torch, numpy and Python are seeded for each pass, and left as they were found. Generators of
    its own that a DataLoader or its sampler has (torch's, named `generator`) are in the checkpoint;
    of others, and of what persistent workers have drawn before, a resumption knows nothing.

    Args:
        model: one of this package; or any module with a method `loss(x, *, beta, free_bits)`, or
            else a forward with these arguments, that returns an `ELBO`, averages over the batch.
            It may be compiled, or in DataParallel or DistributedDataParallel (each process with
            data and a folder of its own) if its forward is the loss; where that has an argument
            `return_loss`, it is given True. For another estimator than "elbo" of one sample it
            takes the arguments of `VAE.loss`.
        config: the settings.
        out: the run's folder, made if need be; None: nothing is written.
        optimizer: makes another optimizer than Adam from the parameters. The schedule scales the
            learning rates that it starts with.
        callbacks: look on.
        info: more for config.json: where the data came from, for example.
        overwrite: replace another run in the folder. It is there until the new one has begun.

    Raises:
        RunError: the folder holds a run already, or files that are not a run's.
        ValueError: the device is not there, or it or the model cannot do what the configuration
            asks for.
        ModuleNotFoundError: a package is missing that the configuration asks for.

    Example:
        >>> import torch
        >>> import vae_fast as vf
        >>> model = vf.VAE(20, 2, hidden=(16,))
        >>> trainer = vf.Trainer(model, vf.TrainerConfig(epochs=2, device="cpu"))
        >>> history = trainer.fit(torch.rand(256, 20), torch.rand(64, 20))
        >>> [epoch.epoch for epoch in history]
        [1, 2]
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainerConfig | None = None,
        *,
        out: str | Path | None = None,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        callbacks: Sequence[Callback] = (),
        info: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.config = config or TrainerConfig()
        self.device = choose_device(self.config.device)
        require_precision(self.config.precision, self.device)
        self._sampling = sampling_of(model, self.config)
        if self.device.type == "cpu":
            keep_freed_heap()
        self.model = model.to(self.device)
        self._module = without_wrappers(model)  # whose names the files have
        self.out = None if out is None else Path(out)
        self.epoch = 0
        self.history: list[EpochMetrics] = []
        self.callbacks = list(callbacks)
        self._info = info or {}
        self._best: dict[str, Tensor] | None = None
        self._best_loss = math.inf
        self._waited = 0
        self._generators: dict[str, Tensor] | None = None  # of the loader of the run resumed
        # What a resumption would go on from if the run ended now, where that is not in the folder.
        self._unsaved: Checkpoint | None = None
        self._steps: int | None = None

        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = (optimizer or self._adam)(parameters)
        # Another optimizer may keep on the CPU what a graph would have to change.
        graphed = self.device.type == "cuda" and self.config.cuda_graphs and optimizer is None
        self._step_on = (
            GraphedStep(self._plain_step, self.optimizer) if graphed else self._plain_step
        )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        if self.config.tensorboard:
            self._add_tensorboard()
        if self.out is not None:
            require_free(self.out, overwrite=overwrite)
        self._overwrite = overwrite
        # The epoch after which a resumption goes on; None before the folder holds the run.
        self.saved_epoch: int | None = None

    @classmethod
    def resume(
        cls,
        out: str | Path,
        model: nn.Module | None = None,
        *,
        epochs: int | None = None,
        device: str | None = None,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Trainer:
        """The trainer of a run as it was after its last checkpoint; `fit` goes on from there.

        Args:
            out: the run's folder.
            model: needed where the run's model was not one of this package's own.
            epochs: a new total number of epochs.
            device: another device.
            optimizer: as the run was started with.
            callbacks: look on.

        Raises:
            RunError: there is no run there, or its files are damaged.
            ValueError: the model is not described in the run and was not given.
        """
        folder = Path(out)
        stored = read_config(folder)
        state = Checkpoint.read(folder / CHECKPOINT)
        with parsing(folder / CONFIG):
            before = TrainerConfig.from_dict(entry(stored, "trainer", dict))
            described = entry(stored, "model", dict, type(None))
            if model is None and described is not None:
                model = model_of(described, state.model)
        if model is None:
            raise ValueError(f"the model of {folder} is not of this package: give it")
        config = replace(
            before,
            epochs=before.epochs if epochs is None else epochs,
            device=before.device if device is None else device,
        )
        _warn_of_a_jump(before, config, state.epoch)
        known = {"vae_fast", "torch", "model", "trainer"}
        trainer = cls(
            model,
            replace(config, tensorboard=False),  # it needs the folder, which is not new
            optimizer=optimizer,
            callbacks=callbacks,
            info={name: value for name, value in stored.items() if name not in known},
        )
        trainer.config, trainer.out = config, folder
        if config.tensorboard:
            trainer._add_tensorboard()
        trainer._restore(state)
        return trainer

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the run."""
        patience = self.config.patience
        stopped = patience is not None and self._waited >= patience
        return stopped or self.epoch >= self.config.epochs

    def fit(self, train: Given, test: Given | None = None) -> list[EpochMetrics]:
        """Train until `finished`.

        Args:
            train: (N, *input_shape) uint8 or floating tensor or array, a Dataset, or a DataLoader;
                of counts and classes int32 or int64, too, and counts in `torch.sparse_csr`. Of
                batches that are sequences or mappings, the entry of the model's shape is used.
            test: held-out data, likewise.

        Returns:
            The metrics of every epoch of the run, those before a resumption too.

        Raises:
            TrainingDiverged: the loss became NaN or infinite; the last checkpoint is kept.
            TypeError: the data are of another kind.
            ValueError: early stopping without test data, or no data, or data of another shape than
                the model's, or not of its likelihood's kind: out of [0, 1], no counts, no classes.
        """
        if self.config.patience is not None and test is None:
            raise ValueError("TrainerConfig.patience needs test data to judge by: give test")
        train = self._source(train, self.config.batch_size, shuffle=True)
        if test is not None:
            test = self._source(test, self.config.eval_batch_size)
        if self._generators is not None:
            set_generators(train, self._generators)
            self._generators = None
        with nullcontext() if self.out is None else owned(self.out):
            if self.out is not None:
                self._write_start(train)
            for callback in self.callbacks:
                callback.on_start(self)
            try:
                while not self.finished:
                    self._fit_epoch(train, test)
            except BaseException:  # an interruption too: the epochs that are done are kept
                self._save_unsaved()
                raise
            finally:
                for callback in self.callbacks:
                    callback.on_end(self)
        if self._best is not None:
            self._module.load_state_dict(self._best)
        return self.history

    @torch.no_grad()
    def evaluate(self, data: Given) -> Terms:
        """The loss and its terms on data, in nats per datum, with the full KL weight.

        The noise is the same at every call: figures of two calls differ by the weights alone.

        Raises:
            TypeError, ValueError: as `fit` raises them of the data.
        """
        data = self._source(data, self.config.eval_batch_size)
        average = Average(self.device)
        was_training = self.model.training
        self.model.eval()
        with self._pass(data, self.config.eval_batch_size, "evaluation") as stream:
            for x in stream:
                average.add(self._loss(x, kl_control(self.config), 0.0), len(x))
        self.model.train(was_training)
        return average.read()

    def _source(self, given: Given, batch_size: int, *, shuffle: bool = False) -> Source:
        source = Expected.of(self._module).source(given, batch_size, shuffle=shuffle)
        return place(source, self.device)

    def _fit_epoch(self, train: Source, test: Source | None) -> None:
        start = time.perf_counter()
        trained = self._train_epoch(train)
        tested = None if test is None else self.evaluate(test)
        self._require_finite(trained, "training")
        if tested is not None:
            self._require_finite(tested, "test")
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise self._diverged("a weight is no longer finite")
        self.epoch += 1
        seconds = round(time.perf_counter() - start, 4)
        metrics = EpochMetrics.of(self.epoch, trained, tested, seconds)
        self.history.append(metrics)
        if tested is not None and self.config.patience is not None:
            self._judge(tested.loss)
        if self.out is not None:
            with naming(self.out / METRICS), (self.out / METRICS).open("a") as file:
                file.write(f"{json.dumps(metrics.to_dict())}\n")
            if self.finished or self.epoch % self.config.checkpoint_every == 0:
                self._unsaved = self._checkpoint(train)
                self._save_unsaved()
            else:
                self._unsaved = self._checkpoint(train).clone()
        for callback in self.callbacks:
            callback.on_epoch(self, metrics)

    def _train_epoch(self, train: Source) -> Terms:
        self.model.train()
        average = Average(self.device)
        total = step_count(train, self.config.batch_size) or self._steps
        steps = 0
        with self._pass(train, self.config.batch_size, "training", self.epoch) as stream:
            for steps, x in enumerate(stream, 1):
                # Where in the run this step begins, in epochs (whole ones where nobody knows more).
                place = self.epoch + ((steps - 1) / total if total else 0)
                average.add(self._step(x, place), len(x))
                if steps % _LOOK_EVERY == 0 or steps == total:
                    terms = average.read()
                    self._require_finite(terms, "training", steps)
                    for callback in self.callbacks:
                        callback.on_steps(self, steps, total, terms)
        self._steps = steps
        return average.read()

    def _step(self, x: Tensor, place: float) -> ELBO:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * learning_rate_factor(self.config, place)
        return self._step_on(x, *kl_control(self.config, place))

    def _plain_step(self, x: Tensor, *control: float | Tensor) -> ELBO:
        terms = self._gradients(x, control)
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return terms

    def _gradients(self, x: Tensor, control: Sequence[float | Tensor]) -> ELBO:
        """The terms of a batch's loss; its gradients are then in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._loss(x, control, self.config.free_bits)
        terms.loss.backward()  # type: ignore[no-untyped-call]
        return terms

    def _loss(self, x: Tensor, control: Sequence[float | Tensor], free_bits: float) -> ELBO:
        bfloat16 = self.config.precision == "bfloat16"
        beta, *capacity = control
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            given = weights_of(self._sampling, 0.0 if capacity else beta, free_bits)
            terms = loss_of(self.model, x, **given)
            return capacity_loss(terms, capacity[0], beta) if capacity else terms

    @contextmanager
    def _pass(
        self, source: Source, batch_size: int, purpose: str, epoch: int | None = None
    ) -> Iterator[Iterator[Tensor]]:
        """The batches of a pass; within it the global generators are seeded for it.

        Twice: a DataLoader draws from them when it starts, and how much is its own affair; the
        model's noise shall not depend on that.
        """
        seed = self.config.seed
        with kept_generators(self.device):
            seed_all(derived_seed(seed, purpose, "loader", epoch))
            shuffle = None if epoch is None else derived_seed(seed, purpose, "order", epoch)
            expected, in_csr = Expected.of(self._module), getattr(self._module, "reads_csr", False)
            stream = batches(source, batch_size, self.device, shuffle, expected, in_csr=in_csr)
            first = next(stream, None)
            if first is None or len(first) == 0:
                raise ValueError(f"there are no data for {purpose}")
            seed_all(derived_seed(seed, purpose, "noise", epoch))
            yield itertools.chain([first], stream)

    def _judge(self, loss: float) -> None:
        """Early stopping: is this the best test loss so far?"""
        if loss < self._best_loss - self.config.min_delta:
            self._best_loss, self._waited = loss, 0
            self._best = snapshot(self._module)
        else:
            self._waited += 1

    def _require_finite(self, terms: Terms, what: str, steps: int | None = None) -> None:
        for name, value in terms._asdict().items():
            if not math.isfinite(value):
                when = "" if steps is None else f", by step {steps}"
                raise self._diverged(f"the {what} {name} is {value}{when}")

    def _diverged(self, what: str) -> TrainingDiverged:
        kept = "" if self.out is None else f"; the last good checkpoint is kept in {self.out}"
        return TrainingDiverged(
            f"training diverged in epoch {self.epoch + 1}: {what}{kept}. A lower learning rate, "
            "clip_norm or a KL warm-up may help"
        )

    def _adam(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters,
            self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            decoupled_weight_decay=True,
            fused=self.device.type in ("cpu", "cuda"),
            capturable=self.device.type == "cuda" and self.config.cuda_graphs,
        )

    def _add_tensorboard(self) -> None:
        if self.out is None:
            raise ValueError("TrainerConfig.tensorboard needs a folder to write to: give out")
        self.callbacks.append(TensorBoard(self.out / "tensorboard"))

    def _write_start(self, train: Source) -> None:
        """What must be in the folder before the first step: the run can be resumed from then on."""
        assert self.out is not None
        if self.saved_epoch is None:  # another may have come since
            require_free(self.out, overwrite=self._overwrite)
        config = {
            "vae_fast": __version__,
            "torch": torch.__version__,
            "model": self._module.config if isinstance(self._module, LatentModel) else None,
            "trainer": self.config.to_dict(),
            **self._info,
        }
        contents = {
            CONFIG: json_bytes(config),
            # Epochs after the checkpoint that a resumption starts from are done again.
            METRICS: lines_bytes(metrics.to_dict() for metrics in self.history),
        }
        if self.epoch == 0:
            contents |= _files(self._checkpoint(train))
        write_atomically(self.out, contents)
        self.saved_epoch = self.saved_epoch or 0

    def _save_unsaved(self) -> None:
        if self.out is not None and self._unsaved is not None:
            write_atomically(self.out, _files(self._unsaved))
            self.saved_epoch, self._unsaved = self._unsaved.epoch, None

    def _checkpoint(self, train: Source) -> Checkpoint:
        """Of the run as it is now; training goes on to change its tensors."""
        return Checkpoint(
            epoch=self.epoch,
            model=self._module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            history=self.history,
            best=self._best,
            best_loss=None if self._best is None else self._best_loss,
            waited=self._waited,
            generators={name: g.get_state() for name, g in own_generators(train).items()},
        )

    def _restore(self, state: Checkpoint) -> None:
        try:
            own = self._module.state_dict()
            self._module.load_state_dict(fitted(state.model, own))
            self._best = None if state.best is None else fitted(state.best, own)
            if self._best is not None and self._best.keys() != own.keys():
                raise ValueError("its best model has other tensors")
            self.optimizer.load_state_dict(fitting_state(state.optimizer, self.optimizer))
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(f"the checkpoint of {self.out} is of another model: {error}") from error
        self.epoch = self.saved_epoch = state.epoch
        self.history = state.history
        self._best_loss = math.inf if state.best_loss is None else state.best_loss
        self._waited = state.waited
        self._generators = state.generators


def _files(checkpoint: Checkpoint) -> dict[str, bytes]:
    best = checkpoint.model if checkpoint.best is None else checkpoint.best
    return {MODEL: tensors_bytes(best), CHECKPOINT: checkpoint.to_bytes()}


def _warn_of_a_jump(before: TrainerConfig, now: TrainerConfig, epoch: int) -> None:
    """A schedule over other epochs is another one: it does not go on where the old one was."""
    old, new = (learning_rate_factor(config, epoch) for config in (before, now))
    if old != new:
        warnings.warn(
            f"the {now.schedule} schedule is now over {now.epochs} epochs and not {before.epochs}: "
            f"after epoch {epoch} the learning rate goes on at {new * now.learning_rate:.3g}, and "
            f"was {old * now.learning_rate:.3g}",
            stacklevel=3,
        )
    weight, new_weight = (kl_weight(config, epoch) for config in (before, now))
    if weight != new_weight:
        warnings.warn(
            f"the {now.kl_cycles} cycles of the KL weight are now over {now.epochs} epochs and not "
            f"{before.epochs}: after epoch {epoch} it goes on at {new_weight:.3g}, and was "
            f"{weight:.3g}",
            stacklevel=3,
        )
