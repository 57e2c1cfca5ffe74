"""XGBoost's and LightGBM's callbacks, with the real libraries."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost

import runtide
from runtide.integrations import lightgbm as for_lightgbm
from runtide.integrations import xgboost as for_xgboost
from runtide.integrations.training_run import UNFINISHED
from tests.spooled_runs import SpooledRun, spool, spooled_runs

__all__ = ["spool"]  # the fixture

ROWS = np.random.default_rng(0).random((200, 4))
NOISY = (ROWS[:, 0] + np.random.default_rng(1).normal(0, 0.3, 200) > 0.5).astype(int)
XGB = {"max_depth": 2, "eta": 0.3, "objective": "binary:logistic", "nthread": 1}
LGB = {"objective": "binary", "verbosity": -1, "num_leaves": 4, "num_threads": 1}


def xgb_train(callback: Any, rounds: int = 4, **more: Any) -> xgboost.Booster:
    train, valid = xgboost.DMatrix(ROWS[:150], NOISY[:150]), xgboost.DMatrix(ROWS[150:], NOISY[150:])
    params = {**XGB, **more.pop("params", {})}
    callbacks = [callback, *more.pop("callbacks", ())]
    evals = [(train, "train"), (valid, "valid")]
    return xgboost.train(params, train, rounds, evals=evals, callbacks=callbacks, verbose_eval=False, **more)


def lgb_train(callback: Any, rounds: int = 4, **more: Any) -> lightgbm.Booster:
    train = lightgbm.Dataset(ROWS[:150], NOISY[:150])
    valid = lightgbm.Dataset(ROWS[150:], NOISY[150:], reference=train)
    params = {**LGB, **more.pop("params", {})}
    callbacks = [callback, *more.pop("callbacks", ())]
    names: dict[str, Any] = {"valid_sets": [train, valid], "valid_names": ["train", "valid"]}
    return lightgbm.train(params, train, rounds, callbacks=callbacks, **names, **more)


TRAIN: dict[str, Callable[..., Any]] = {"xgboost": xgb_train, "lightgbm": lgb_train}
CALLBACK: dict[str, Callable[..., Any]] = {
    "xgboost": for_xgboost.RuntideCallback,
    "lightgbm": for_lightgbm.RuntideCallback,
}
BOTH = pytest.mark.parametrize("library", TRAIN)


class StopXgboost(xgboost.callback.TrainingCallback):
    """Raises in the third round."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch == 2:
            raise RuntimeError("out of memory")
        return False


def stop_lightgbm(env: lightgbm.callback.CallbackEnv) -> None:
    """Raises in the third round."""
    if env.iteration == 2:
        raise RuntimeError("out of memory")


FAILING: dict[str, Any] = {"xgboost": StopXgboost(), "lightgbm": stop_lightgbm}


def only(spool: Path) -> SpooledRun:
    (run,) = spooled_runs(spool)
    return run


@BOTH
def test_a_training_without_a_run_has_its_own(library: str, spool: Path) -> None:
    TRAIN[library](CALLBACK[library](name="mine"))
    assert runtide.active_run() is None
    run = only(spool)
    assert (run.name, run.statuses, run.artifacts) == ("mine", ["RUNNING", "FINISHED"], [])
    assert run.tags == {"runtide.framework": library}


@BOTH
def test_the_active_run_is_used_and_goes_on(library: str, spool: Path) -> None:
    with runtide.start_run("users") as active:
        TRAIN[library](CALLBACK[library]())
        assert not active.ended
        active.log_metric("after", 1.0)
    run = only(spool)
    assert (run.name, run.statuses) == ("users", ["RUNNING", "FINISHED"])
    assert run.points["after"] == [(0, 1.0)]


@BOTH
def test_an_exception_makes_its_own_run_failed_and_the_next_training_has_another(library: str, spool: Path) -> None:
    callback = CALLBACK[library]()
    try:
        TRAIN[library](callback, callbacks=[FAILING[library]])
    except RuntimeError:
        pass
    else:
        pytest.fail("the training's own exception must get through")
    assert runtide.active_run() is None, "known as soon as the exception is handled"
    TRAIN[library](callback)
    assert [(run.status, run.reason) for run in spooled_runs(spool)] == [("FAILED", UNFINISHED), ("FINISHED", "")]


@BOTH
def test_an_exception_in_the_users_run_is_that_ones_reason(library: str, spool: Path) -> None:
    with pytest.raises(RuntimeError), runtide.start_run():
        TRAIN[library](CALLBACK[library](), callbacks=[FAILING[library]])
    assert (only(spool).status, only(spool).reason) == ("FAILED", "RuntimeError: out of memory")


@BOTH
def test_the_model_is_stored_only_when_asked_to(library: str, spool: Path) -> None:
    model = TRAIN[library](CALLBACK[library](log_model=True))
    (path,) = only(spool).artifacts
    (file,) = (spool.parent / "artifacts").rglob(Path(path).name)
    stored = xgboost.Booster(model_file=file) if library == "xgboost" else lightgbm.Booster(model_file=file)
    data = xgboost.DMatrix(ROWS) if library == "xgboost" else ROWS
    assert np.array_equal(stored.predict(data), model.predict(data))


def test_xgboost_logs_what_it_reports(spool: Path) -> None:
    reported: dict[str, dict[str, list[float]]] = {}
    params = {"eval_metric": ["logloss", "ndcg@5"], "eta": 0.1}
    xgb_train(for_xgboost.RuntideCallback(), params=params, evals_result=reported)
    run = only(spool)
    assert run.points == {
        f"{data}-{metric.replace('@', '_at_')}": list(enumerate(values))
        for data, metrics in reported.items()
        for metric, values in metrics.items()
    }
    assert len(run.points["valid-ndcg_at_5"]) == 4
    asked = {"max_depth": "2", "eta": "0.1", "learning_rate": "0.1", "objective": "binary:logistic", "device": "cpu"}
    assert asked.items() <= run.params.items()


def test_lightgbm_logs_what_it_reports(spool: Path) -> None:
    reported: dict[str, dict[str, list[float]]] = {}
    recorded = lightgbm.record_evaluation(reported)
    lgb_train(for_lightgbm.RuntideCallback(), params={"metric": ["auc", "map@3"]}, callbacks=[recorded])
    run = only(spool)
    assert run.points == {
        f"{data}-{metric.replace('@', '_at_')}": list(enumerate(values))
        for data, metrics in reported.items()
        for metric, values in metrics.items()
    }
    assert len(run.points["valid-auc"]) == 4
    assert {"objective": "binary", "num_leaves": "4", "num_iterations": "4"}.items() <= run.params.items()


def test_early_stopping_of_xgboost_goes_on_working(spool: Path) -> None:
    model = xgb_train(for_xgboost.RuntideCallback(), rounds=200, early_stopping_rounds=3)
    run = only(spool)
    best, stopped = model.best_iteration, model.num_boosted_rounds() - 1
    assert stopped < 199
    assert run.status == "FINISHED"
    assert len(run.points["valid-logloss"]) == stopped + 1
    assert run.points["best_iteration"] == [(best, best)]
    assert run.points["stopped_iteration"] == [(best, stopped)]
    assert run.points["best_score"] == [(best, pytest.approx(run.points["valid-logloss"][best][1]))]


@pytest.mark.parametrize("keep", [False, True])
def test_early_stopping_of_lightgbm_goes_on_working_and_ends_the_run(spool: Path, keep: bool) -> None:
    stop = lightgbm.early_stopping(3, verbose=False)
    model = lgb_train(for_lightgbm.RuntideCallback(), rounds=500, callbacks=[stop], keep_training_booster=keep)
    assert runtide.active_run() is None
    run = only(spool)
    assert run.status == "FINISHED"
    best, stopped = model.best_iteration - 1, len(run.points["valid-binary_logloss"]) - 1
    assert stopped == best + 3 < 499
    assert run.points["best_iteration"] == [(best, best)]
    assert run.points["stopped_iteration"] == [(best, stopped)]


def test_early_stopping_of_lightgbm_by_a_parameter(spool: Path) -> None:
    model = lgb_train(for_lightgbm.RuntideCallback(), rounds=500, params={"early_stopping_round": 3})
    assert only(spool).status == "FINISHED"
    assert only(spool).points["best_iteration"] == [(model.best_iteration - 1, model.best_iteration - 1)]


def test_a_training_from_a_booster_that_stopped_early_has_not_stopped_itself(spool: Path) -> None:
    stopped = xgb_train(for_xgboost.RuntideCallback(), rounds=200, early_stopping_rounds=3)
    xgb_train(for_xgboost.RuntideCallback(name="on"), rounds=2, xgb_model=stopped)
    (on,) = (run for run in spooled_runs(spool) if run.name == "on")
    assert on.points
    assert not {"best_iteration", "best_score", "stopped_iteration"} & set(on.points)


def test_cross_validation_of_xgboost(spool: Path) -> None:
    data = xgboost.DMatrix(ROWS, NOISY)
    table: Any = xgboost.cv(XGB, data, 4, nfold=3, callbacks=[for_xgboost.RuntideCallback(log_model=True)])
    run = only(spool)
    assert run.status == "FINISHED"
    assert run.points == {column: list(enumerate(table[column])) for column in table.columns}
    assert run.params["max_depth"] == "2"


def test_cross_validation_of_lightgbm(spool: Path) -> None:
    callback, stop = for_lightgbm.RuntideCallback(log_model=True), lightgbm.early_stopping(3, verbose=False)
    data = lightgbm.Dataset(ROWS, NOISY)
    results: Any = lightgbm.cv({**LGB, "metric": "auc"}, data, 100, nfold=3, callbacks=[callback, stop])
    assert runtide.active_run() is None
    run = only(spool)
    assert (run.status, run.artifacts) == ("FINISHED", [])
    best = len(results["valid auc-mean"])
    for column in ("mean", "stdv"):
        assert run.points[f"valid-auc-{column}"][:best] == list(enumerate(results[f"valid auc-{column}"]))
    assert run.points["best_iteration"] == [(best - 1, best - 1)]


@BOTH
def test_a_training_that_goes_on_counts_on(library: str, spool: Path) -> None:
    callback = CALLBACK[library]()
    with runtide.start_run():
        model = TRAIN[library](callback, rounds=3)
        TRAIN[library](callback, rounds=2, **{"xgb_model" if library == "xgboost" else "init_model": model})
    steps = {name: [step for step, _ in points] for name, points in only(spool).points.items()}
    assert set(map(tuple, steps.values())) == {(0, 1, 2, 3, 4)}


@BOTH
def test_estimators_of_scikit_learn_take_it(library: str, spool: Path) -> None:
    callback = CALLBACK[library]()
    options: dict[str, Any] = {"n_estimators": 3, "n_jobs": 1}
    if library == "xgboost":
        xgboost.XGBClassifier(**options, callbacks=[callback]).fit(ROWS, NOISY, eval_set=[(ROWS, NOISY)], verbose=False)
    else:
        estimator = lightgbm.LGBMClassifier(**options, verbosity=-1)
        estimator.fit(ROWS, NOISY, eval_set=[(ROWS, NOISY)], callbacks=[callback])
    (points,) = only(spool).points.values()
    assert [step for step, _ in points] == [0, 1, 2]
    assert only(spool).status == "FINISHED"


@BOTH
def test_a_copy_of_a_callback_is_one_of_its_own(library: str, spool: Path) -> None:
    callback = CALLBACK[library]()
    TRAIN[library](callback)
    TRAIN[library](copy.deepcopy(callback))
    assert [run.status for run in spooled_runs(spool)] == ["FINISHED", "FINISHED"]


def test_lightgbm_that_does_not_show_its_callbacks_still_ends_a_run(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version may hold them otherwise: then the last round ends the run."""
    monkeypatch.setattr(for_lightgbm.RuntideCallback, "_held_by_the_call", lambda self: None)
    lgb_train(for_lightgbm.RuntideCallback())
    assert only(spool).status == "FINISHED"
