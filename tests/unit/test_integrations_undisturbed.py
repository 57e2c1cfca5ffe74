"""What frameworks hand over may raise when it is read: no training fails for it, and the rest is logged."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from runtide.integrations import xgboost as xgboost_integration
from runtide.integrations.sklearn import RuntideCallback, log_search
from runtide.integrations.training_run import TrainingRun
from tests.spooled_runs import spool, spooled_runs

__all__ = ["spool"]  # the fixture

ROWS = np.random.default_rng(0).random((30, 2))
LABELS = np.arange(30) % 2


class Wordless:
    """Has neither text nor number."""

    def __str__(self) -> str:
        raise AttributeError("no attribute _x")

    def __float__(self) -> float:
        raise AttributeError("not computed yet")


class Unprintable(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose repr raises, as one with a bug does."""

    def __init__(self, a: int = 1) -> None:
        self.a = a

    def fit(self, rows: Any, labels: Any) -> "Unprintable":
        self.classes_ = np.unique(labels)
        return self

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows), int)

    def __repr__(self) -> str:
        raise AttributeError("no attribute _x")


class MuteError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


def test_params_and_metrics_that_raise_are_said_once_and_the_rest_is_logged(
    spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = TrainingRun("loops")
    training.begin()
    with caplog.at_level(logging.WARNING, "runtide"):
        for step in range(3):
            training.log_params({"bad": Wordless(), "good": 1})
            training.log_metrics({"bad": Wordless(), "loss": 0.5}, step)
    training.end()
    (run,) = spooled_runs(spool)
    assert (run.params, run.points) == ({"good": "1"}, {"loss": [(0, 0.5), (1, 0.5), (2, 0.5)]})
    assert [record.getMessage() for record in caplog.records] == [
        "loops callback: the param 'bad' has no text, so it is not logged: AttributeError: no attribute _x",
        "loops callback: the metric 'bad' is not logged: AttributeError: not computed yet",
    ]


def test_a_hook_lets_out_what_ends_a_process_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    training = TrainingRun("loops")
    reached = []
    for error in (MuteError, KeyboardInterrupt, SystemExit):
        try:
            with training.undisturbed("on_end"):
                raise error
        except BaseException as let_out:  # noqa: BLE001 - which ones come here is what is tested
            reached.append(type(let_out))
    assert reached == [KeyboardInterrupt, SystemExit]
    assert "on_end failed: MuteError: (its words cannot be had: ValueError)" in caplog.text


def test_a_search_of_what_has_no_repr_is_logged(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    search = GridSearchCV(Unprintable(), {"a": [1, 2]})
    search.set_callbacks(RuntideCallback()).fit(ROWS, LABELS)
    log_search(search)
    assert "the param 'estimator' has no text, so it is not logged: AttributeError: no attribute _x" in caplog.text
    searches = [run for run in spooled_runs(spool) if not run.parent_run_id]
    assert [(run.status, run.params["best_a"]) for run in searches] == [("FINISHED", "1")] * 2
    assert len(spooled_runs(spool)) == 2 * (1 + 2)


def test_a_configuration_that_cannot_be_read_fails_no_training(
    spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(xgboost_integration, "_PARAMS_OF", ("of_another_version",))
    data = xgboost.DMatrix(ROWS, LABELS)
    callback = xgboost_integration.RuntideCallback()
    xgboost.train({"nthread": 1}, data, 3, evals=[(data, "train")], callbacks=[callback], verbose_eval=False)
    (run,) = spooled_runs(spool)
    assert (run.status, len(run.points["train-rmse"]), run.params) == ("FINISHED", 3, {})
    assert "before_training failed: KeyError: 'of_another_version'" in caplog.text
