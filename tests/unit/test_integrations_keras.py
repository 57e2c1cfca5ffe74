"""Keras' callback, with the real Keras 3 on JAX (or on the backend that KERAS_BACKEND names)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import heavy

heavy.require("keras", os.environ.get("KERAS_BACKEND", "jax"))
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402 - only where it is installed

import runtide  # noqa: E402
from runtide.integrations.keras import RuntideCallback  # noqa: E402
from runtide.integrations.training_run import UNFINISHED  # noqa: E402
from tests.spooled_runs import SpooledRun, spool, spooled_runs  # noqa: E402

__all__ = ["spool"]  # the fixture
pytestmark = pytest.mark.heavy

ROWS = np.random.default_rng(0).random((64, 4)).astype("float32")
LABELS = (ROWS[:, 0] > 0.5).astype("int32")


class Boom(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Raises when the second epoch ends."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise ValueError("bad batch")


class Warm(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """Has no ``get_config``, which Keras needs for saving only."""

    def __call__(self, step: Any) -> float:
        return 0.01


def compiled() -> Any:
    layers = [keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers, name="small")
    model.compile(keras.optimizers.SGD(0.5, momentum=0.25), "binary_crossentropy", metrics=["accuracy"])
    return model


def fit(model: Any, *callbacks: Any, epochs: int = 2, **more: Any) -> Any:
    options = {"batch_size": 16, "validation_split": 0.25, "verbose": 0, **more}
    return model.fit(ROWS, LABELS, epochs=epochs, callbacks=list(callbacks), **options)


def only(spool: Path) -> SpooledRun:
    (run,) = spooled_runs(spool)
    return run


def test_a_training_is_a_run_with_params_and_every_epochs_metrics(spool: Path) -> None:
    history = fit(compiled(), RuntideCallback(name="mine")).history
    assert runtide.active_run() is None
    run = only(spool)
    assert (run.name, run.statuses, run.artifacts) == ("mine", ["RUNNING", "FINISHED"], [])
    assert run.points.keys() == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    for name in history:
        assert run.points[name] == [(epoch, pytest.approx(value)) for epoch, value in enumerate(history[name])]
    assert run.points["learning_rate"] == [(0, 0.5), (1, 0.5)]
    asked = {"epochs": "2", "steps": "3", "loss": "binary_crossentropy", "model": "small", "weights": "19"}
    assert asked.items() <= run.params.items()
    assert (run.params["optimizer"], run.params["optimizer/momentum"]) == ("SGD", "0.25")


def test_the_learning_rate_is_the_param_that_was_given(spool: Path) -> None:
    model = compiled()
    model.compile(keras.optimizers.Adam(0.001, clipnorm=0.1), "binary_crossentropy")
    fit(model, RuntideCallback())
    params = only(spool).params
    assert (params["optimizer/learning_rate"], params["optimizer/clipnorm"]) == ("0.001", "0.1")


def test_the_active_run_is_used_and_a_training_that_goes_on_counts_on(spool: Path) -> None:
    model, callback = compiled(), RuntideCallback()
    with runtide.start_run("users") as active:
        fit(model, callback)
        fit(model, callback, epochs=4, initial_epoch=2)
        assert not active.ended
    assert [step for step, _ in only(spool).points["loss"]] == [0, 1, 2, 3]
    assert only(spool).statuses == ["RUNNING", "FINISHED"]


def test_batches_are_logged_when_asked_to(spool: Path) -> None:
    fit(compiled(), RuntideCallback(every_batches=2))
    assert [step for step, _ in only(spool).points["batch/loss"]] == [2, 4, 6]
    with pytest.raises(runtide.InvalidRequest, match="every_batches must be 1 or more, got 0"):
        RuntideCallback(every_batches=0)


def test_without_that_keras_need_not_wait_for_batches() -> None:
    """Its dispatch of batches is asynchronous only while no callback has a hook for them."""
    assert (
        keras.callbacks.CallbackList([RuntideCallback()])._async_train == keras.callbacks.CallbackList([])._async_train
    )


def test_an_evaluation_afterwards_goes_on_with_the_run(spool: Path) -> None:
    model, callback = compiled(), RuntideCallback()
    fit(model, callback)
    loss, accuracy = model.evaluate(ROWS, LABELS, callbacks=[callback], verbose=0)
    run = only(spool)
    assert run.statuses == ["RUNNING", "FINISHED"] * 2
    assert run.points["test_loss"] == [(1, pytest.approx(loss))]
    assert run.points["test_accuracy"] == [(1, pytest.approx(accuracy))]


def test_an_evaluation_of_another_model_has_a_run_of_its_own(spool: Path) -> None:
    first, second, callback = compiled(), compiled(), RuntideCallback()
    fit(first, callback)
    fit(second, callback, epochs=3)
    fitted = {run.run_id: len(run.points["loss"]) for run in spooled_runs(spool)}
    for model in (first, second, compiled()):
        model.evaluate(ROWS, LABELS, callbacks=[callback], verbose=0)
    tested = {run.run_id: [step for step, _ in run.points["test_loss"]] for run in spooled_runs(spool)}
    (of_no_fit,) = tested.keys() - fitted.keys()
    assert tested == {run_id: [epochs - 1] for run_id, epochs in fitted.items()} | {of_no_fit: [0]}


def test_an_exception_makes_its_own_run_failed(spool: Path) -> None:
    model, callback = compiled(), RuntideCallback()
    try:
        fit(model, callback, Boom())
    except ValueError:
        pass
    else:
        pytest.fail("the training's own exception must get through")
    assert runtide.active_run() is None, "known as soon as the exception is handled"
    fit(model, callback)
    assert [(run.status, run.reason) for run in spooled_runs(spool)] == [("FAILED", UNFINISHED), ("FINISHED", "")]


def test_early_stopping_is_an_end(spool: Path) -> None:
    fit(compiled(), RuntideCallback(), keras.callbacks.EarlyStopping("val_loss", min_delta=9.0), epochs=50)
    assert (only(spool).status, len(only(spool).points["loss"])) == ("FINISHED", 2)


def test_the_model_is_stored_when_asked_to(spool: Path) -> None:
    model = compiled()
    fit(model, RuntideCallback(log_model=True))
    assert only(spool).artifacts == ["model/model.keras"]
    (file,) = (spool.parent / "artifacts").rglob("model.keras")
    again = keras.models.load_model(file)
    assert np.allclose(again.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))


def test_a_learning_rate_that_changes_is_logged(spool: Path) -> None:
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 / 2**epoch)
    fit(compiled(), halved, RuntideCallback())
    assert only(spool).points["learning_rate"] == [(0, 0.5), (1, 0.25)]


def test_a_schedule_without_a_configuration_fails_no_training(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = compiled()
    model.compile(keras.optimizers.SGD(Warm()), "binary_crossentropy")
    fit(model, RuntideCallback())
    run = only(spool)
    assert (run.status, len(run.points["loss"])) == ("FINISHED", 2)
    assert (run.params["optimizer"], run.params["epochs"]) == ("SGD", "2")
    assert "reading the optimizer's configuration failed: NotImplementedError" in caplog.text
