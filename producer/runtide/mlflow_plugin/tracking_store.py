"""MLflow's tracking store: writes go into the spool of this process, reads come from its memory or the gateway."""

import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import (
    DatasetInput,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunInfo,
    RunStatus,
    RunTag,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_dataset_inputs,
    _validate_metric,
    _validate_param,
    _validate_param_keys_unique,
    _validate_run_id,
    _validate_tag,
    _validate_tag_name,
)

from runtide.mlflow_plugin.address import read_address
from runtide.mlflow_plugin.artifact_facts import announce_artifacts_to, reach_gateways
from runtide.mlflow_plugin.asking import Asking
from runtide.mlflow_plugin.beginning import run_plan
from runtide.mlflow_plugin.errors import in_mlflows_terms
from runtide.mlflow_plugin.experiment_calls import ExperimentCalls
from runtide.mlflow_plugin.experiments import Experiments
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.logged_models import LoggedModels
from runtide.mlflow_plugin.memory import INPUT, OUTPUT
from runtide.mlflow_plugin.model_calls import ModelCalls
from runtide.mlflow_plugin.runs import Runs
from runtide.mlflow_plugin.searching import Searching
from runtide.mlflow_plugin.unsupported import USED_AS_THEY_ARE, refusal, refuse_the_rest
from runtide.tracking.datasets import dataset_input
from runtide_schemas.events.runs import ArtifactLogged
from runtide_schemas.events.runs import DatasetInput as LoggedInput

log = logging.getLogger("runtide")

_stores: "weakref.WeakSet[RuntideTrackingStore]" = weakref.WeakSet()


@refuse_the_rest(USED_AS_THEY_ARE)
class RuntideTrackingStore(ExperimentCalls, ModelCalls, AbstractStore):
    """The store of ``runtide:`` tracking URIs; see ``address.py`` for their forms.

    Every method raises ``MlflowException`` with MLflow's codes, and only that. What each does is MLflow's to say, in
    ``AbstractStore``; what differs here stands at the method.
    """

    @in_mlflows_terms
    def __init__(self, store_uri: str | None = None, artifact_uri: str | None = None) -> None:
        """Use the log at a URI; nothing is opened before it is needed."""
        super().__init__()  # type: ignore[no-untyped-call]  # MLflow does not say its types
        self._configuration = read_address(store_uri or "runtide://", artifact_uri)
        connection = self._configuration.connection
        self.gateway = connection.gateway
        gateway = Gateway(connection.gateway)
        self._experiments = Experiments(Asking(self._configuration), gateway, connection.artifacts)
        self._runs = Runs(self._configuration, gateway)
        self._models = LoggedModels(self._runs, gateway, self._start_run_of_model)
        self._searching = Searching(gateway, self._experiments, self._runs, self._models)
        _stores.add(self)
        announce_artifacts_to(self)

    @in_mlflows_terms
    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Sequence[RunTag], run_name: str | None
    ) -> Run:
        """Start a run; whether the experiment exists is not checked."""
        tags = [_validate_tag(tag.key, tag.value) for tag in tags or ()]
        chosen = experiment_id if experiment_id is not None else "0"
        location = self._experiments.location(chosen)
        plan, further = run_plan(self._configuration, chosen, location, user_id, start_time, tags, run_name)
        run = self._runs.start(plan, chosen)
        if not further:
            return run
        self._runs.set_tags(plan.run_id, further)
        return self._runs.get(plan.run_id)

    @in_mlflows_terms
    def get_run(self, run_id: str) -> Run:
        """Return a run: one that is open here from memory, others from the gateway."""
        _validate_run_id(run_id)
        return self._runs.get(run_id)

    @in_mlflows_terms
    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        """Change status or name. An end is in the spool when this returns, and is delivered in the background."""
        _validate_run_id(run_id)
        status = None if run_status is None else RunStatus.to_string(run_status)
        return self._runs.update(run_id, status, end_time, run_name)

    @in_mlflows_terms
    def delete_run(self, run_id: str) -> None:
        """Delete a run, softly."""
        _validate_run_id(run_id)
        self._runs.delete(run_id)

    @in_mlflows_terms
    def restore_run(self, run_id: str) -> None:
        """Undo a deletion."""
        _validate_run_id(run_id)
        self._runs.restore(run_id)

    @in_mlflows_terms
    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log a point; infinities stay infinities."""
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        self._runs.log_points(run_id, (metric,))
        self._models.log_metrics(run_id, (metric,))

    @in_mlflows_terms
    def log_param(self, run_id: str, param: Param) -> None:
        """Log a param. Another value than this process knows is an error, and recorded in the log as a conflict."""
        checked = _validate_param(param.key, param.value)
        self._runs.log_params(run_id, {checked.key: checked.value or ""})

    @in_mlflows_terms
    def set_tag(self, run_id: str, tag: RunTag) -> None:
        """Set a tag."""
        checked = _validate_tag(tag.key, tag.value)
        self._runs.set_tags(run_id, {checked.key: checked.value or ""})

    @in_mlflows_terms
    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag; one that is not known to be there is an error only for a run that this process started."""
        _validate_run_id(run_id)
        _validate_tag_name(key)
        self._runs.delete_tag(run_id, key)

    @in_mlflows_terms
    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        """Log points, params and tags; when one of them is not allowed, none is logged."""
        _validate_run_id(run_id)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        if params:
            self._runs.log_params(run_id, {param.key: param.value or "" for param in params})
        if metrics:
            self._runs.log_points(run_id, metrics)
            self._models.log_metrics(run_id, metrics)
        if tags:
            self._runs.set_tags(run_id, {tag.key: tag.value or "" for tag in tags})

    @in_mlflows_terms
    def log_inputs(
        self,
        run_id: str,
        datasets: Sequence[DatasetInput] | None = None,
        models: Sequence[LoggedModelInput] | None = None,
    ) -> None:
        """Log datasets and models that a run uses."""
        _validate_run_id(run_id)
        _validate_dataset_inputs(list(datasets or ()))
        logged = [_as_logged(given) for given in datasets or ()]
        if logged:
            self._runs.log_datasets(run_id, list(datasets or ()), logged)
        if models:
            self._runs.link_models(run_id, {(INPUT, model.model_id): 0 for model in models})

    @in_mlflows_terms
    def log_outputs(self, run_id: str, models: Sequence[LoggedModelOutput]) -> None:
        """Log models that a run made."""
        _validate_run_id(run_id)
        if models:
            self._runs.link_models(run_id, {(OUTPUT, model.model_id): model.step for model in models})

    @in_mlflows_terms
    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList[Metric]:
        """Return every point of a metric; of a run that is open here, the newest thousand when no gateway knows more."""
        _validate_run_id(run_id)
        return self._searching.history(run_id, metric_key, max_results, page_token)

    @in_mlflows_terms
    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        """Search runs; needs the gateway, whose projection may be a moment behind. Datasets are left out."""
        return self._searching.runs(experiment_ids, filter_string, run_view_type, max_results, order_by, page_token)

    link_traces_to_run = refusal("link_traces_to_run")  # abstract in MLflow's store, so it has to stand here

    # Artifacts; see ``artifact_facts.Owner``

    def root_of(self, uri: str) -> tuple[str, str] | None:
        """Return the run whose artifacts lie at or above a URI, and the URI of their root."""
        return self._runs.root_of(uri)

    def announce(self, fact: ArtifactLogged) -> None:
        """Publish that a file is there."""
        self._runs.log(fact.run_id).writer.publish(fact)

    def model_stored(self, uri: str, directory: Path) -> None:
        """Publish that a model is there."""
        self._models.stored(uri, directory)

    def _became_child(self) -> None:
        self._runs.became_child()
        self._models.became_child()

    def _start_run_of_model(self, experiment_id: str, name: str) -> str:
        location = self._experiments.location(experiment_id)
        plan, _ = run_plan(self._configuration, experiment_id, location, "", None, [], name)
        self._runs.start(plan, experiment_id)
        return plan.run_id


def _as_logged(given: DatasetInput) -> LoggedInput:
    """Return a dataset as the log has it; our limits of schema and profile are lower than MLflow's."""
    dataset = given.dataset
    told = {
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.schema or "",
        "profile": dataset.profile or "",
    }
    return dataset_input(dataset.name, None, told, "", {tag.key: tag.value for tag in given.tags})


def _in_child() -> None:
    for store in list(_stores):
        store._became_child()


os.register_at_fork(after_in_child=_in_child)
reach_gateways()
