"""scikit-learn's searches: what each candidate was and how it did."""

import sys
from collections.abc import Mapping
from typing import Any

from runtide.integrations.frameworks import missing
from runtide.integrations.metric_names import legal_name
from runtide.integrations.own_run import OwnRun
from runtide.integrations.training_run import FRAMEWORK_TAG, TrainingRun
from runtide.tracking.configuration import current
from runtide.tracking.plan import plan_run
from runtide.tracking.run import Run
from runtide_schemas.errors import InvalidRequest

try:
    import numpy as np
    import sklearn  # noqa: F401 - searches are known by what they have; here, that there are any
except ImportError as error:
    raise missing("scikit-learn", "sklearn", error) from error

TABLE = "cv_results.json"
CANDIDATE_TAG = "runtide.candidate"
_BEST = {"best_score_": "best_cv_score", "best_index_": "best_index", "refit_time_": "refit_time"}


class RuntideCallback:
    """For ``search.set_callbacks(RuntideCallback())``, of scikit-learn 1.9 or newer; ``log_search`` does it in older ones.

    Logs the search's params when ``fit`` begins and its results when it ends (see ``log_search``), for any ``n_jobs``: the
    workers only fit. An exception makes a run of its own FAILED with its text, Ctrl-C KILLED.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        children: int | None = 5,
    ) -> None:
        """Make a callback; it may serve any number of searches, one after another.

        Args:
            run: the run to log to. None: the active one, else one of the search's own; see ``training_run.py``.
            name: of a run of its own.
            experiment: of a run of its own.
            tags: of a run of its own.
            children: so many of the best candidates become child runs; None: all.
        """
        self._training = TrainingRun("sklearn", run, name=name, experiment=experiment, tags=tags, searches=True)
        self._children = children
        self._searching: Any = None
        self._handled: BaseException | None = None

    def setup(self, estimator: Any, context: Any) -> None:  # noqa: ARG002 - scikit-learn's signature
        """``fit`` begins: choose the run, and log the search's params."""
        self._searching, self._handled = estimator, sys.exception()
        self._training.begin()
        with self._training.undisturbed("reading the search's params"):
            self._training.log_params(search_params(estimator))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing; scikit-learn asks for it."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Nothing; scikit-learn asks for it."""

    def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002 - scikit-learn's signature
        """``fit`` ended, well or not: log the results, and end a run of its own."""
        error = sys.exception()
        failed = None if error is self._handled else error  # `fit` may be called where an exception is being handled
        self._searching = self._handled = None
        with self._training.undisturbed("logging the results"):
            if failed is None:
                _log_results(self._training, estimator, self._children)
        self._training.end(failed)

    def __getstate__(self) -> dict[str, Any]:
        """A copy in a worker, or beside a fitted search that is pickled."""
        return {**self.__dict__, "_searching": None, "_handled": None}


def log_search(
    search: Any,
    run: Run | None = None,
    *,
    name: str | None = None,
    experiment: str | None = None,
    tags: Mapping[str, object] | None = None,
    children: int | None = 5,
) -> str | None:
    """Log a search that is fitted: its params, each candidate's results, and the best of them.

    Each candidate is a step of the metrics ``mean_test_score``, ``split0_test_score``, ``mean_fit_time`` and so on, as
    ``cv_results_`` names them, and a row of the table ``cv_results.json``, with its params. The best ones are child runs,
    as MLflow makes them, each with its params and metrics. Of the best candidate the run has the params ``best_<param>``
    and the metric ``best_cv_score``.

    Args:
        search: a fitted ``GridSearchCV``, ``RandomizedSearchCV``, ``HalvingGridSearchCV`` or alike.
        run: the run to log to. None: the active one, else one of its own; see ``training_run.py``.
        name: of a run of its own.
        experiment: of a run of its own.
        tags: of a run of its own.
        children: so many of the best candidates become child runs; None: all.

    Returns:
        The run's id; None when no run could be started.

    Raises:
        InvalidRequest: it is no search that is fitted.
    """
    if not hasattr(search, "cv_results_"):
        raise InvalidRequest(f"{type(search).__name__} has no cv_results_: give a search on which fit was called")
    training = TrainingRun("sklearn", run, name=name, experiment=experiment, tags=tags)
    training.begin()
    with training.undisturbed("reading the search's params"):
        training.log_params(search_params(search))
    run_id = training.run_id
    with training.undisturbed("logging the results"):
        _log_results(training, search, children)
    training.end()
    return run_id


def search_params(search: Any) -> dict[str, Any]:
    """Return what a search was asked: its own params, estimators as text."""
    kind = "search" if hasattr(search, "refit") else "estimator"
    return {kind: type(search).__name__, **search.get_params(deep=False)}


def _log_results(training: TrainingRun, search: Any, children: int | None) -> None:
    results = getattr(search, "cv_results_", None)
    if results is None or training.run is None:  # it is an estimator of another kind
        return
    numbers = {name: values for name, values in results.items() if _is_numbers(name, values)}
    for candidate in range(len(results["params"])):
        training.log_metrics({name: values[candidate] for name, values in numbers.items()}, candidate)
    training.log_params({f"best_{name}": value for name, value in getattr(search, "best_params_", {}).items()})
    best = {metric: getattr(search, name) for name, metric in _BEST.items() if hasattr(search, name)}
    training.log_metrics(best, int(best.get("best_index", 0)))
    with training.logging("the children of the search are not logged") as run:
        _log_children(training, run, results, numbers, _best_candidates(search, results, children))
    with training.logging("the table of candidates is not stored") as run:
        run.log_table(_table(results, numbers), TABLE)


def _is_numbers(name: str, values: Any) -> bool:
    return not name.startswith("param") and isinstance(values, np.ndarray) and values.dtype.kind in "iuf"


def _best_candidates(search: Any, results: Mapping[str, Any], count: int | None) -> list[int]:
    """The chosen candidate, then the others by rank: of several scores by the one that refit goes by, else by the first.

    Of a halving search those come first that got furthest: scores on few samples do not compare with scores on many.
    """
    ranks = [name for name in results if name.startswith("rank_test_")]
    refit = f"rank_test_{search.refit}" if isinstance(search.refit, str) else ""
    by = results[refit if refit in ranks else ranks[0]]
    candidates = range(len(by))
    chosen = getattr(search, "best_index_", None)
    rounds = results.get("iter", [0] * len(by))
    ordered = sorted(candidates, key=lambda one: (one != chosen, -rounds[one], by[one]))
    return ordered if count is None else ordered[:count]


def _log_children(
    training: TrainingRun, parent: Run, results: Mapping[str, Any], numbers: Mapping[str, Any], candidates: list[int]
) -> None:
    """A run for each candidate; like every run of a callback's own they do not wait for the broker."""
    for candidate in candidates:
        tags = {FRAMEWORK_TAG: "sklearn", CANDIDATE_TAG: candidate}
        plan = plan_run(current(), name=f"candidate-{candidate}", parent_run_id=parent.run_id, nested=True, tags=tags)
        child = OwnRun(plan)
        try:
            child.log_params(training.params_text(results["params"][candidate]))
            child.log_metrics({legal_name(name): values[candidate] for name, values in numbers.items()})
        finally:
            child.finish("FINISHED")


def _table(results: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for params in results["params"] for name in params)
    columns = {f"param_{name}": [_cell(params.get(name)) for params in results["params"]] for name in names}
    return {**columns, **{name: values.tolist() for name, values in numbers.items()}}


def _cell(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if plain is None or isinstance(plain, str | int | float) else str(plain)
