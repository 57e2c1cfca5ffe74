"""Keras 3, on any backend: a callback for ``fit`` and ``evaluate``."""

import sys
from collections.abc import Mapping
from typing import Any

from runtide.integrations.frameworks import missing
from runtide.integrations.params import flat
from runtide.integrations.training_run import TrainingRun
from runtide.tracking.run import Run
from runtide_schemas.errors import InvalidRequest

try:
    import numpy as np
    from keras.callbacks import Callback, CallbackList
except ImportError as error:
    raise missing("Keras 3 with a backend (jax, torch or tensorflow)", "keras", error) from error


class RuntideCallback(Callback):  # type: ignore[misc]  # Keras has no types
    """Logs the training's params, and every epoch's metrics and learning rate.

    Metrics have Keras' names (``loss``, ``val_loss``), the epoch is the step: with ``fit(initial_epoch=...)`` a training
    goes on where it was. An ``evaluate`` outside of a training logs ``test_loss`` and alike at the model's last epoch, to
    the run of its own that this callback's last training of the same model object had, else to a new one.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        every_batches: int | None = None,
        log_model: bool = False,
    ) -> None:
        """Make a callback; it may serve any number of trainings, one after another.

        Args:
            run: the run to log to. None: the active one, else one of the training's own; see ``training_run.py``.
            name: of a run of its own.
            experiment: of a run of its own.
            tags: of a run of its own.
            every_batches: also log ``batch/loss`` and alike after each so many batches; the step is the optimizer's
                number of updates.
            log_model: store the model as ``model/model.keras`` when training has ended.

        Raises:
            InvalidRequest: ``every_batches`` is less than 1.
        """
        super().__init__()
        if every_batches is not None and every_batches < 1:
            raise InvalidRequest(f"every_batches must be 1 or more, got {every_batches}")
        self._training = TrainingRun("keras", run, name=name, experiment=experiment, tags=tags)
        self._log_model = log_model
        self._every_batches = every_batches
        self._batches = 0
        self._fitting = False
        if every_batches is not None:  # only then: with a hook for batches Keras waits for each one's results
            self.on_train_batch_end = self._after_batch

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' signature
        """Choose the run, and log the training's params."""
        self._fitting = True
        self._batches = 0
        self._training.begin(of=self.model)
        with self._training.undisturbed("on_train_begin"):
            caller = sys._getframe(1).f_locals.get("self")
            if isinstance(caller, CallbackList):  # which the call of `fit` holds
                self._training.watch(caller, self._left)
            self._training.log_params({name: value for name, value in self._described().items() if value is not None})

    def _left(self) -> None:
        """The call of ``fit`` is gone, and never came to its end."""
        self._fitting = False
        self._training.end_unfinished()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the epoch's metrics."""
        rates: dict[str, Any] = {}
        with self._training.undisturbed("reading the learning rate"):
            rates = {"learning_rate": rate} if (rate := self._learning_rate()) is not None else {}
        with self._training.undisturbed("on_epoch_end"):
            self._training.log_metrics({**rates, **(logs or {})}, epoch)

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Log what an ``evaluate`` outside of a training found."""
        if self._fitting:
            return
        with self._training.undisturbed("on_test_end"):
            self._training.begin(of=self.model, go_on=True)
            found = {f"test_{name}": value for name, value in (logs or {}).items()}
            self._training.log_metrics(found, self._last_epoch())
            self._training.end()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' signature
        """Store the model when asked to, and end a run of its own."""
        self._fitting = False
        with self._training.undisturbed("on_train_end"):
            if self._log_model:
                self._training.log_saved(self.model.save, "model", "model.keras")
        self._training.end()

    def _after_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras' signature
        self._batches += 1
        if self._every_batches is None or self._batches % self._every_batches:
            return
        with self._training.undisturbed("on_train_batch_end"):
            updates = int(self.model.optimizer.iterations)
            self._training.log_metrics({f"batch/{name}": value for name, value in (logs or {}).items()}, updates)

    def _described(self) -> dict[str, Any]:
        """Params of the training: of ``fit``, of the loss, of the optimizer."""
        optimizer: Any = getattr(self.model, "optimizer", None)
        settings = {"optimizer": type(optimizer).__name__} if optimizer is not None else {}
        with self._training.undisturbed("reading the optimizer's configuration"):  # a schedule may have none
            if hasattr(optimizer, "get_config"):
                configuration = flat(optimizer.get_config(), "optimizer/")
                settings |= {name: _as_given(value) for name, value in configuration.items()}
        loss = getattr(self.model, "loss", None)
        named = loss if loss is None or isinstance(loss, str | list | dict) else getattr(loss, "name", loss)
        weights = self.model.count_params() if self.model.built else None
        return {**(self.params or {}), "loss": named, "model": self.model.name, "weights": weights, **settings}

    def _last_epoch(self) -> int:
        """The last epoch of the model's last ``fit``, as Keras' own history of it has it; 0 when there was none."""
        epochs = getattr(getattr(self.model, "history", None), "epoch", None)
        return int(epochs[-1]) if epochs else 0

    def _learning_rate(self) -> float | None:
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        return None if rate is None else float(rate)


def _as_given(value: Any) -> Any:
    """A float of 32 bits as short as it was given: Keras has a rate of 0.001 as 0.0010000000474974513."""
    return np.float32(value) if isinstance(value, float) and float(np.float32(value)) == value else value
