"""Questions that the gateway answers: searches, and histories that this process does not have whole."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Experiment, LifecycleStage, LoggedModel, Metric, Run, ViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchLoggedModelsUtils, SearchUtils

from runtide.mlflow_plugin.answers import found_run_of
from runtide.mlflow_plugin.errors import invalid
from runtide.mlflow_plugin.experiments import Experiments, name_in
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.logged_models import LoggedModels
from runtide.mlflow_plugin.merging import merged_points
from runtide.mlflow_plugin.projections import SHOWN_WAIT_S, Projections
from runtide.mlflow_plugin.runs import Runs
from runtide_schemas.errors import NotFound, TransientError

log = logging.getLogger("runtide")

_LIFECYCLES = {ViewType.ACTIVE_ONLY: "active", ViewType.DELETED_ONLY: "deleted", ViewType.ALL: "all"}
_MOST_ON_A_PAGE = 1_000
_POLL_S = 0.2


class Searching:
    """Asks the gateway, in MLflow's terms."""

    def __init__(self, gateway: Gateway, experiments: Experiments, runs: Runs, models: LoggedModels) -> None:
        self._gateway = gateway
        self._experiments = experiments
        self._runs = runs
        self._models = models
        self._projections = Projections(gateway)

    def experiments(
        self,
        view_type: int,
        max_results: int,
        filter_string: str | None,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> PagedList[Experiment]:
        """Return a page of experiments; the filter's grammar is MLflow's, applied here."""
        _check_page(max_results)
        every = self._experiments.every(with_tags="tag" in (filter_string or ""))
        found = [one for one in every if LifecycleStage.matches_view_type(view_type, one.lifecycle_stage)]
        found = SearchExperimentsUtils.filter(found, filter_string)
        found = SearchExperimentsUtils.sort(found, order_by or ["creation_time DESC", "experiment_id ASC"])
        return PagedList(*SearchUtils.paginate(found, page_token, max_results))

    def runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        view_type: int,
        max_results: int,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        """Return a page of runs and the token of the next one; the filter's grammar is MLflow's, applied by the gateway.

        The first page waits until projections have what this process wrote; a warning says so when they do not get it.
        """
        _check_page(max_results)
        if self._gateway.known and not page_token:
            self._wait_for_own_writes()
        found: list[Run] = []
        token = page_token or ""
        wanted = self._numbers(experiment_ids)
        while wanted and len(found) < max_results:
            page = self._gateway.get(
                "runs",
                experiment_ids=wanted,
                filter=filter_string or "",
                order_by=tuple(order_by or ()),
                lifecycle=_LIFECYCLES[view_type],
                models=True,
                page_size=min(_MOST_ON_A_PAGE, max_results - len(found)),
                page_token=token,
            )
            found += [found_run_of(told) for told in page["runs"]]
            if not (token := page["next_page_token"]):
                break
        return found, token or None

    def history(self, run_id: str, key: str, max_results: int | None, page_token: str | None) -> PagedList[Metric]:
        """Return a page of a metric's points, by time, step and value; all of them when ``max_results`` is None."""
        points = sorted(self._points(run_id, key), key=lambda point: (point.timestamp, point.step, point.value))
        if max_results is None:
            return PagedList(points[SearchUtils.parse_start_offset_from_page_token(page_token) :], None)
        return PagedList(*SearchUtils.paginate(points, page_token, max_results))

    def models(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        datasets: list[dict[str, Any]] | None,
        max_results: int | None,
        order_by: list[dict[str, Any]] | None,
        page_token: str | None,
    ) -> PagedList[LoggedModel]:
        """Return a page of logged models; the filter's grammar is MLflow's, applied here."""
        if datasets and not all(dataset.get("dataset_name") for dataset in datasets):
            raise invalid("`dataset_name` in the `datasets` clause must be specified.")
        wanted = self._numbers(experiment_ids) if self._gateway.known else []
        found = self._models.every({*wanted, *map(str, experiment_ids)})
        found = SearchLoggedModelsUtils.filter_logged_models(found, filter_string, datasets)
        found = SearchLoggedModelsUtils.sort(found, order_by)
        most = max_results or SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
        return PagedList(*SearchLoggedModelsUtils.paginate(found, page_token, most))

    def _numbers(self, experiment_ids: Sequence[str]) -> list[str]:
        """Return ids that the gateway knows; names that nobody has resolved yet have none, and no run that it knows."""
        found = []
        for experiment_id in experiment_ids:
            name = name_in(str(experiment_id))
            if name is None:
                found.append(str(experiment_id))
                continue
            try:
                rows = self._gateway.get("experiments", name=name)["experiments"]
            except NotFound:
                continue
            found += [row["experiment_id"] for row in rows]
        return found

    def _wait_for_own_writes(self) -> None:
        runs, events, why = self._runs.not_shown(SHOWN_WAIT_S)
        if runs:
            log.warning(
                "this search may lack what this process logged last: %d events or more of %d runs are not known to be in the "
                "projections (%s). Nothing is lost; search again in a moment, or look at the lag with `runtide status`",
                events,
                runs,
                why or f"after {SHOWN_WAIT_S:g} s",
            )

    def _points(self, run_id: str, key: str) -> list[Metric]:
        """Return a metric's points, with all that this process logged, or a warning that says how many are not there."""
        memory = self._runs.remembers(run_id)
        own, written = memory.points(key) if memory is not None else ([], Counter())
        whole = memory is not None and memory.whole
        remembered = len(own) == written.total()
        waited = 0.0
        try:
            if not remembered:
                waited = self._wait_for_points(run_id, key, written)
            ask = self._gateway.soon if whole and remembered else self._gateway.get
            told = ask("runs", run_id, "metrics", key)["points"]
        except (NotFound, TransientError) as error:
            if not whole and isinstance(error, TransientError):
                raise
            told = []
            if isinstance(error, TransientError) and self._gateway.known and remembered:
                log.warning("points of %r of run %s are those of this process only: %s", key, run_id, error)
        points, missing = merged_points(told, own, written, key, run_id)
        if missing:
            self._say_partial(run_id, key, missing, written.total(), waited)
        return points

    def _wait_for_points(self, run_id: str, key: str, written: Counter[str]) -> float:
        """Wait, within bounds, until the gateway has every point that is not remembered here; return for how long."""
        began = time.monotonic()
        while written - Counter(self._projections.points(run_id, key)):
            if self._runs.trouble(run_id) or time.monotonic() - began > SHOWN_WAIT_S:
                break
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def _say_partial(self, run_id: str, key: str, missing: int, written: int, waited: float) -> None:
        if not self._gateway.known:
            why, then = "no gateway is known", "set RUNTIDE_GATEWAY, or use a tracking URI with ?gateway=URL"
        elif why := self._runs.trouble(run_id):
            then = "ask again when the broker is back"
        else:
            why, then = f"the projections do not have them after {waited:.0f} s", "ask again in a moment"
        log.warning(
            "%d of the %d points of %r that this process logged to run %s are not in this answer: %s. All are kept; %s",
            missing,
            written,
            key,
            run_id,
            why,
            then,
        )


def _check_page(max_results: int) -> None:
    if not isinstance(max_results, int) or not 1 <= max_results <= SEARCH_MAX_RESULTS_THRESHOLD:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a positive integer of at most "
            f"{SEARCH_MAX_RESULTS_THRESHOLD}"
        )
