"""scikit-learn's searches: results, children, table, status; with workers and without."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import xgboost
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the halving searches importable
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import runtide
from runtide.integrations.sklearn import TABLE, RuntideCallback, log_search
from runtide.integrations.xgboost import RuntideCallback as ForXgboost
from tests.spooled_runs import SpooledRun, spool, spooled_runs

__all__ = ["spool"]  # the fixture

ROWS = np.random.default_rng(0).random((120, 3))
NOISY = (ROWS[:, 0] + np.random.default_rng(1).normal(0, 0.3, 120) > 0.5).astype(int)
GRID = {"max_depth": [1, 2, 3], "min_samples_leaf": [1, 10]}
has_callbacks = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="scikit-learn before 1.9 has no callbacks"
)


def grid(**options: Any) -> Any:
    return GridSearchCV(DecisionTreeClassifier(random_state=0), GRID, cv=3, **options)


def split(spool: Path) -> tuple[SpooledRun, list[SpooledRun]]:
    """The search's run and its children, by candidate."""
    runs = spooled_runs(spool)
    (search,) = (run for run in runs if not run.parent_run_id)
    children = [run for run in runs if run is not search]
    assert {child.parent_run_id for child in children} <= {search.run_id}
    return search, sorted(children, key=lambda run: int(run.tags["runtide.candidate"]))


def table(spool: Path) -> dict[str, list[Any]]:
    (file,) = (spool.parent / "artifacts").rglob(TABLE)
    found = json.loads(file.read_bytes())
    return dict(zip(found["columns"], map(list, zip(*found["data"], strict=True)), strict=True))


@has_callbacks
@pytest.mark.parametrize("jobs", [None, 2])
def test_a_search_is_a_run_and_its_best_candidates_are_children(jobs: int | None, spool: Path) -> None:
    search = grid(n_jobs=jobs).set_callbacks(RuntideCallback(name="search", children=2)).fit(ROWS, NOISY)
    assert runtide.active_run() is None
    run, children = split(spool)
    results = search.cv_results_
    assert (run.name, run.statuses) == ("search", ["RUNNING", "FINISHED"])
    for key in ("mean_test_score", "split0_test_score", "split2_test_score", "std_test_score", "mean_fit_time"):
        assert run.points[key] == [(at, pytest.approx(value)) for at, value in enumerate(results[key])], key
    assert run.points["best_cv_score"] == [(search.best_index_, search.best_score_)]
    assert {"search": "GridSearchCV", "cv": "3", "estimator": "DecisionTreeClassifier(random_state=0)"}.items() <= (
        run.params.items()
    )
    best = search.best_params_
    assert run.params["best_max_depth"] == str(best["max_depth"])
    ranked = sorted(range(6), key=lambda one: (one != search.best_index_, results["rank_test_score"][one]))[:2]
    assert [int(child.tags["runtide.candidate"]) for child in children] == sorted(ranked)
    for child in children:
        at = int(child.tags["runtide.candidate"])
        assert child.params == {name: str(value) for name, value in results["params"][at].items()}
        assert child.points["mean_test_score"] == [(0, results["mean_test_score"][at])]
        assert child.status == "FINISHED"


@has_callbacks
def test_the_table_has_every_candidate(spool: Path) -> None:
    search = grid().set_callbacks(RuntideCallback(children=0)).fit(ROWS, NOISY)
    run, children = split(spool)
    assert (run.artifacts, children) == ([TABLE], [])
    found = table(spool)
    assert found["param_max_depth"] == [1, 1, 2, 2, 3, 3]
    assert found["mean_test_score"] == pytest.approx(search.cv_results_["mean_test_score"].tolist())


@has_callbacks
def test_several_scores_go_by_the_one_that_is_refitted(spool: Path) -> None:
    scores = {"accuracy": "accuracy", "auc": "roc_auc"}
    search = grid(scoring=scores, refit="auc").set_callbacks(RuntideCallback(children=1)).fit(ROWS, NOISY)
    run, (child,) = split(spool)
    assert int(child.tags["runtide.candidate"]) == search.best_index_
    assert len(run.points["mean_test_auc"]) == len(run.points["mean_test_accuracy"]) == 6
    assert run.points["best_cv_score"] == [(search.best_index_, search.best_score_)]


@has_callbacks
def test_without_refit_of_several_scores_there_is_no_best(spool: Path) -> None:
    grid(scoring=["accuracy", "roc_auc"], refit=False).set_callbacks(RuntideCallback()).fit(ROWS, NOISY)
    run, children = split(spool)
    assert (run.status, len(children)) == ("FINISHED", 5)
    assert not {"best_cv_score", "best_index"} & run.points.keys()
    assert not [name for name in run.params if name.startswith("best_")]


@has_callbacks
def test_of_a_halving_search_those_are_best_that_got_furthest(spool: Path) -> None:
    halving = HalvingGridSearchCV(DecisionTreeClassifier(random_state=0), GRID, cv=3, random_state=0)
    search = halving.set_callbacks(RuntideCallback(children=2)).fit(ROWS, NOISY)
    run, children = split(spool)
    rounds = search.cv_results_["iter"]
    assert max(rounds) > 0
    assert {int(rounds[int(child.tags["runtide.candidate"])]) for child in children} == {max(rounds)}
    assert str(search.best_index_) in {child.tags["runtide.candidate"] for child in children}
    assert [value for _, value in run.points["n_resources"]] == search.cv_results_["n_resources"].tolist()


@has_callbacks
@pytest.mark.parametrize("jobs", [None, 2])
def test_a_search_that_fails_is_failed_with_the_reason(jobs: int | None, spool: Path) -> None:
    failing = GridSearchCV(DecisionTreeClassifier(), {"max_depth": ["deep"]}, error_score="raise", n_jobs=jobs)
    with pytest.raises(ValueError, match="max_depth"):
        failing.set_callbacks(RuntideCallback()).fit(ROWS, NOISY)
    assert runtide.active_run() is None
    run, _ = split(spool)
    assert run.status == "FAILED"
    assert "The 'max_depth' parameter" in run.reason


@has_callbacks
def test_a_search_while_an_exception_is_handled_is_no_failure(spool: Path) -> None:
    try:
        raise KeyError("of something else")
    except KeyError:
        grid().set_callbacks(RuntideCallback()).fit(ROWS, NOISY)
    assert split(spool)[0].status == "FINISHED"


@has_callbacks
def test_the_active_run_is_used_and_a_fitted_search_can_be_pickled(spool: Path) -> None:
    with runtide.start_run("users") as active:
        search = grid().set_callbacks(RuntideCallback(children=1)).fit(ROWS, NOISY)
        assert not active.ended
        again = pickle.loads(pickle.dumps(search))
    assert again.best_params_ == search.best_params_
    run, children = split(spool)
    assert (run.name, len(children)) == ("users", 1)


@has_callbacks
def test_another_estimator_logs_its_params(spool: Path) -> None:
    make_pipeline(StandardScaler(), DecisionTreeClassifier()).set_callbacks(RuntideCallback()).fit(ROWS, NOISY)
    run, children = split(spool)
    assert (run.status, run.artifacts, children) == ("FINISHED", [], [])
    assert run.params["estimator"] == "Pipeline"


@has_callbacks
@pytest.mark.parametrize("jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_trainings_of_a_search_that_have_callbacks_are_its_children(jobs: int | None, spool: Path) -> None:
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1, callbacks=[ForXgboost()])
    search = GridSearchCV(model, {"max_depth": [1, 2]}, cv=2, n_jobs=jobs, refit=False)
    search.set_callbacks(RuntideCallback(children=0)).fit(ROWS, NOISY)
    runs = spooled_runs(spool)
    (parent,) = (run for run in runs if run.tags["runtide.framework"] == "sklearn")
    trainings = [run for run in runs if run is not parent]
    assert [run.parent_run_id for run in trainings] == [parent.run_id] * 4
    assert sorted(run.params["max_depth"] for run in trainings) == ["1", "1", "2", "2"]
    assert {run.status for run in runs} == {"FINISHED"}


def test_a_fitted_search_is_logged_afterwards(spool: Path) -> None:
    search = RandomizedSearchCV(DecisionTreeClassifier(random_state=0), GRID, n_iter=3, cv=2, random_state=0)
    with pytest.raises(runtide.InvalidRequest, match="RandomizedSearchCV has no cv_results_"):
        log_search(search)
    run_id = log_search(search.fit(ROWS, NOISY), name="afterwards", children=None)
    run, children = split(spool)
    assert (run.run_id, run.name, run.status, len(children)) == (run_id, "afterwards", "FINISHED", 3)
    assert run.params["n_iter"] == "3"


def test_a_store_that_is_away_costs_the_table_only(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    (spool.parent / "artifacts").write_text("a file where the folder of the artifacts should be")
    log_search(grid().fit(ROWS, NOISY), children=1)
    run, children = split(spool)
    assert (run.status, run.artifacts, len(children)) == ("FINISHED", [], 1)
    assert "the table of candidates is not stored" in caplog.text
