"""MLflow's logged models: facts of the run that made them, so that the gateway shows them as it shows those of its own clients.

A model that is logged outside of any run gets a run of its own, which ends when the model is finalized: what a process
writes belongs to a run.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelStatus, Metric

from runtide.artifacts.models import describe_directory
from runtide.mlflow_plugin.answers import logged_model_of
from runtide.mlflow_plugin.errors import invalid, not_found
from runtide.mlflow_plugin.experiments import name_in
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.memory import place
from runtide.mlflow_plugin.projections import SHOWN_WAIT_S
from runtide.mlflow_plugin.runs import Runs
from runtide.tracking.names import new_run_name
from runtide_schemas.errors import NotFound
from runtide_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelMetricsLogged,
    ModelPoint,
    run_in_place_of,
)
from runtide_schemas.events.runs import ModelLogged
from runtide_schemas.identity import new_model_id, now_ms

log = logging.getLogger("runtide")

_DIRECTORY = "models"
_MOST_REMEMBERED = 1_000
_PAGE = 1_000

StartRun = Callable[[str, str], str]
"""Starts a run for a model, given the experiment's id and a name; returns its id."""


class _Model:
    """A model, the run that its facts belong to, and what became of it."""

    __slots__ = ("deleted", "model", "own_run", "run_id")

    def __init__(self, model: LoggedModel, run_id: str, *, own_run: bool = False, deleted: bool = False) -> None:
        self.model = model
        self.run_id = run_id
        self.own_run = own_run
        self.deleted = deleted


class LoggedModels:
    """Logged models of this process, and of others through the gateway."""

    def __init__(self, runs: Runs, gateway: Gateway, start_run: StartRun) -> None:
        self._runs = runs
        self._gateway = gateway
        self._start_run = start_run
        self._lock = threading.RLock()
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._changed: OrderedDict[str, str] = OrderedDict()
        self._said_partial = False

    def create(
        self,
        experiment_id: str,
        name: str | None,
        source_run_id: str | None,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        model_type: str | None,
    ) -> LoggedModel:
        """Return a new model that is not stored yet (PENDING)."""
        name = name or new_run_name()
        run_id = source_run_id or self._start_run(experiment_id, name)
        model_id, now = new_model_id(), now_ms()
        model = LoggedModel(
            experiment_id=experiment_id,
            model_id=model_id,
            name=name,
            artifact_location=f"{self._artifacts_of(run_id)}/{_DIRECTORY}/{model_id}",
            creation_timestamp=now,
            last_updated_timestamp=now,
            model_type=model_type,
            source_run_id=run_id,
            status=LoggedModelStatus.PENDING,
            tags=dict(tags),
            params=dict(params),
            metrics=[],
        )
        created = LoggedModelCreated(
            run_id=run_id,
            model_id=model_id,
            name=name,
            source_run_id=run_id,
            experiment_id="" if name_in(experiment_id) is not None else experiment_id,  # else that of the run
            model_type=model_type or "",
            artifact_uri=str(model.artifact_location),
            params=params,
            tags=tags,
            at=now,
        )
        with self._lock:
            self._runs.publish(run_id, created)
            self._models[model_id] = _Model(model, run_id, own_run=source_run_id is None)
            _bound(self._models)
        return model

    def get(self, model_id: str, deleted_too: bool = False) -> LoggedModel:
        """Return a model.

        Raises:
            MlflowException: there is none.
            TransientError: only a gateway knows.
        """
        return self._found(model_id, deleted_too).model

    def finalize(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Set a model's status; the run that it has to itself, if so, ends with it."""
        with self._lock:
            found = self._found(model_id)
            told = LoggedModelFinalized(run_id=found.run_id, model_id=model_id, status=str(status), at=now_ms())
            self._publish(found, told)
            found.model.status = status
        if found.own_run:
            self._runs.update(found.run_id, "FINISHED" if status == LoggedModelStatus.READY else "FAILED", None, None)
        return found.model

    def set_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a model."""
        with self._lock:
            found = self._found(model_id)
            if tags:
                told = LoggedModelTagsSet(run_id=found.run_id, model_id=model_id, tags=tags, at=now_ms())
                self._publish(found, told)
                found.model.tags.update(tags)

    def delete_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a model."""
        with self._lock:
            found = self._found(model_id)
            if key not in found.model.tags:
                raise not_found(f"No tag with key {key!r} found for model with ID {model_id!r}.")
            self._publish(
                found, LoggedModelTagsDeleted(run_id=found.run_id, model_id=model_id, keys=(key,), at=now_ms())
            )
            del found.model.tags[key]

    def log_params(self, model_id: str, params: Mapping[str, str]) -> None:
        """Add params to a model; one that is known to have another value is refused."""
        with self._lock:
            found = self._found(model_id)
            for key, value in params.items():
                if (known := found.model.params.get(key, value)) != value:
                    raise invalid(
                        f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                        f"value='{known}' for model ID='{model_id}'. Attempted logging new value '{value}'."
                    )
            new = {key: value for key, value in params.items() if key not in found.model.params}
            if new:
                told = LoggedModelParamsLogged(run_id=found.run_id, model_id=model_id, params=new, at=now_ms())
                self._publish(found, told)
                found.model.params.update(new)

    def delete(self, model_id: str) -> None:
        """Delete a model (softly): its files stay."""
        with self._lock:
            found = self._found(model_id)
            self._publish(found, LoggedModelDeleted(run_id=found.run_id, model_id=model_id, at=now_ms()))
            found.deleted = True

    def log_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        """Log that points of a run tell of models, those that do; of the models of this process the latest are remembered."""
        telling = [metric for metric in metrics if metric.model_id]
        if not telling:
            return
        self._runs.publish(run_id, ModelMetricsLogged(run_id=run_id, model_points=tuple(map(_point, telling))))
        with self._lock:
            for metric in telling:
                if found := self._models.get(metric.model_id or ""):
                    _remember(found.model, metric, run_id)

    def stored(self, uri: str, directory: Path) -> None:
        """Announce the model of a directory that was stored at a model's place."""
        model_id = uri.rstrip("/").rpartition("/")[2]
        found = self._models.get(model_id)
        if found is None or found.model.artifact_location != uri:
            return
        described = describe_directory(directory, uri=uri)
        self._runs.publish(
            found.run_id,
            ModelLogged(
                run_id=found.run_id,
                model_id=model_id,
                name=found.model.name,
                artifact_path=f"{_DIRECTORY}/{model_id}",
                uri=uri,
                digest=described.digest,
                size=described.size,
                flavors=described.flavors,
                signature=described.signature,
                at=now_ms(),
            ),
        )

    def every(self, experiment_ids: Iterable[str]) -> list[LoggedModel]:
        """Return the models of experiments that are not deleted: the gateway's, and those of this process as it knows them.

        Without any gateway only the latter are there, which is said once: MLflow searches models to list a run's files.

        Raises:
            TransientError: the gateway does not answer.
        """
        wanted = list(experiment_ids)
        models: dict[str, LoggedModel] = {}
        if self._gateway.known:
            models = {model.model_id: model for model in self._asked_for(wanted)}
        elif not self._said_partial:
            self._said_partial = True
            log.warning("no gateway is known: searches for logged models find those of this process only")
        for model_id, own in list(self._models.items()):
            if own.model.experiment_id in wanted:
                models[model_id] = own.model
            if own.deleted:
                models.pop(model_id, None)
        return list(models.values())

    def became_child(self) -> None:
        """In a forked child: the lock may have been held."""
        self._lock = threading.RLock()

    def _found(self, model_id: str, deleted_too: bool = False) -> _Model:
        found = self._models.get(model_id) or self._asked(model_id)
        if found is None or (found.deleted and not deleted_too):
            raise not_found(f"Logged model with ID '{model_id}' not found.")
        return found

    def _asked_for(self, experiment_ids: list[str]) -> Iterator[LoggedModel]:
        token = ""
        while experiment_ids:
            page = self._gateway.get("logged-models", experiment_ids=experiment_ids, page_size=_PAGE, page_token=token)
            yield from map(logged_model_of, page["models"])
            if not (token := page["next_page_token"]):
                break

    def _asked(self, model_id: str) -> _Model | None:
        """Return a model of another process, with what was changed of it here as soon as that can be read."""
        if run_id := self._changed.get(model_id):
            self._runs.wait_shown(run_id, SHOWN_WAIT_S)
        try:
            told = self._gateway.get("logged-models", model_id, deleted=True)
        except NotFound:
            return None
        return _Model(logged_model_of(told), told["info"]["run_id"], deleted=told["info"]["deleted"])

    def _artifacts_of(self, run_id: str) -> str:
        memory = self._runs.remembers(run_id)
        known = memory.artifact_uri if memory is not None else ""
        return known or str(self._runs.get(run_id).info.artifact_uri)

    def _publish(self, found: _Model, fact: object) -> None:
        model_id = found.model.model_id
        if found.run_id == run_in_place_of(model_id):
            raise invalid(
                f"Logged model {model_id} was made outside of any run, through the gateway: it can be changed there only. "
                "Set the tracking URI to the gateway's http address for that"
            )
        self._runs.publish(found.run_id, fact)
        found.model.last_updated_timestamp = now_ms()
        if model_id not in self._models:
            self._changed[model_id] = found.run_id
            _bound(self._changed)


def _bound(remembered: "OrderedDict[str, Any]") -> None:
    while len(remembered) > _MOST_REMEMBERED:
        remembered.popitem(last=False)


def _point(metric: Metric) -> ModelPoint:
    return ModelPoint(
        model_id=str(metric.model_id),
        key=metric.key,
        step=metric.step,
        timestamp=metric.timestamp,
        value=metric.value,
        dataset_name=metric.dataset_name or "",
        dataset_digest=metric.dataset_digest or "",
    )


def _remember(model: LoggedModel, metric: Metric, run_id: str) -> None:
    metric._run_id = run_id
    latest = {_series(known): known for known in model.metrics or ()}
    known = latest.get(_series(metric))
    if known is None or place(metric) >= place(known):
        latest[_series(metric)] = metric
        model.metrics = list(latest.values())


def _series(metric: Metric) -> tuple[str, str | None, str | None]:
    return metric.key, metric.dataset_name, metric.dataset_digest
