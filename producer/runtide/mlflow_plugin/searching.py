"""Questions that the gateway answers: searches, and histories that this process does not have whole."""

import logging
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Experiment, LifecycleStage, LoggedModel, Metric, Run, ViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchLoggedModelsUtils, SearchUtils

from runtide.mlflow_plugin.answers import point_of, run_of
from runtide.mlflow_plugin.errors import invalid
from runtide.mlflow_plugin.experiments import Experiments, name_in
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.logged_models import LoggedModels
from runtide.mlflow_plugin.runs import Runs
from runtide_schemas.errors import NotFound, TransientError

log = logging.getLogger("runtide")

_LIFECYCLES = {ViewType.ACTIVE_ONLY: "active", ViewType.DELETED_ONLY: "deleted", ViewType.ALL: "all"}
_MOST_ON_A_PAGE = 1_000


class Searching:
    """Asks the gateway, in MLflow's terms."""

    def __init__(self, gateway: Gateway, experiments: Experiments, runs: Runs, models: LoggedModels) -> None:
        self._gateway = gateway
        self._experiments = experiments
        self._runs = runs
        self._models = models
        self._partial: set[tuple[str, str]] = set()

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
        """Return a page of runs and the token of the next one; the filter's grammar is MLflow's, applied by the gateway."""
        _check_page(max_results)
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
                page_size=min(_MOST_ON_A_PAGE, max_results - len(found)),
                page_token=token,
            )
            found += [run_of(told) for told in page["runs"]]
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

    def _points(self, run_id: str, key: str) -> list[Metric]:
        memory = self._runs.remembers(run_id)
        own = memory.points(key) if memory is not None and memory.whole else []
        written = memory.counts.get(key, 0) if memory is not None and memory.whole else 0
        all_here = len(own) == written
        if memory is not None and memory.whole and all_here and memory.end_time is None:
            return own
        try:
            told = self._gateway.get("runs", run_id, "metrics", key)["points"]
        except (NotFound, TransientError) as error:
            if memory is None or not memory.whole:
                if isinstance(error, NotFound):
                    return []
                raise
            self._say_partial(run_id, key, len(own), written)
            return own
        if len(told) < written and all_here:
            return own  # the projection is behind
        return [point_of(point, key, run_id) for point in told]

    def _say_partial(self, run_id: str, key: str, there: int, written: int) -> None:
        if there < written and (run_id, key) not in self._partial:
            self._partial.add((run_id, key))
            log.warning(
                "only the newest %d of %d points of %r are remembered here, and no gateway has the others; all are kept",
                there,
                written,
                key,
            )


def _check_page(max_results: int) -> None:
    if not isinstance(max_results, int) or not 1 <= max_results <= SEARCH_MAX_RESULTS_THRESHOLD:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a positive integer of at most "
            f"{SEARCH_MAX_RESULTS_THRESHOLD}"
        )
