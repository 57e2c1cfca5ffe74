"""MLflow's logged models: kept by the run that made them, described in its tags, announced by ``ModelLogged``.

A model that is logged outside of any run gets a run of its own, which ends when the model is finalized: everything in the
log belongs to a run.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mlflow.entities import (
    LoggedModel,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
)

from runtide.artifacts.models import describe_directory
from runtide.mlflow_plugin.errors import not_found
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.memory import place
from runtide.mlflow_plugin.model_tags import MARK, model_key, model_tags, models_in
from runtide.mlflow_plugin.runs import Runs
from runtide.tracking.names import new_run_name
from runtide_schemas.events.runs import ModelLogged
from runtide_schemas.identity import new_model_id, now_ms

log = logging.getLogger("runtide")

_DIRECTORY = "models"
_MOST_REMEMBERED = 1_000
_PAGE = 1_000

StartRun = Callable[[str, str], str]
"""Starts a run for a model, given the experiment's id and a name; returns its id."""


class _Model:
    """A model of this process, and what became of it."""

    __slots__ = ("deleted", "model", "own_run", "stale")

    def __init__(self, model: LoggedModel, own_run: bool) -> None:
        self.model = model
        self.own_run = own_run
        self.deleted = False
        self.stale = False


class LoggedModels:
    """Logged models of this process, and of others through the gateway."""

    def __init__(self, runs: Runs, gateway: Gateway, start_run: StartRun) -> None:
        self._runs = runs
        self._gateway = gateway
        self._start_run = start_run
        self._lock = threading.RLock()
        self._models: OrderedDict[str, _Model] = OrderedDict()
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
        with self._lock:
            self._models[model_id] = kept = _Model(model, own_run=source_run_id is None)
            while len(self._models) > _MOST_REMEMBERED:
                self._models.popitem(last=False)
            self._publish(kept)
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
            found.model.status = status
            self._publish(found)
        if found.own_run and found.model.source_run_id:
            end = "FINISHED" if status == LoggedModelStatus.READY else "FAILED"
            self._runs.update(found.model.source_run_id, end, None, None)
        return found.model

    def set_tags(self, model_id: str, tags: Iterable[LoggedModelTag]) -> None:
        """Set tags of a model."""
        with self._lock:
            found = self._found(model_id)
            found.model.tags.update({tag.key: tag.value for tag in tags})
            self._publish(found)

    def delete_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a model."""
        with self._lock:
            found = self._found(model_id)
            if found.model.tags.pop(key, None) is None:
                raise not_found(f"No tag with key {key!r} found for model with ID {model_id!r}.")
            self._publish(found)

    def log_params(self, model_id: str, params: Iterable[LoggedModelParameter]) -> None:
        """Add params to a model."""
        with self._lock:
            found = self._found(model_id)
            found.model.params.update({param.key: param.value for param in params})
            self._publish(found)

    def delete(self, model_id: str) -> None:
        """Delete a model (softly): its files stay."""
        with self._lock:
            found = self._found(model_id)
            found.deleted = True
            self._publish(found)

    def note_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        """Remember the latest points that belong to models; they go to the log with the next change, or the run's end."""
        with self._lock:
            for metric in metrics:
                found = self._models.get(metric.model_id or "")
                if found is None:
                    continue
                metric._run_id = run_id
                latest = {_series(known): known for known in found.model.metrics or ()}
                known = latest.get(_series(metric))
                if known is None or place(metric) >= place(known):
                    latest[_series(metric)] = metric
                    found.model.metrics = list(latest.values())
                    found.stale = True
            memory = self._runs.remembers(run_id)
            if memory is not None and memory.end_time is not None:
                self.publish_metrics(run_id)

    def publish_metrics(self, run_id: str) -> None:
        """Put what ``note_metrics`` remembers of a run's models into the log."""
        with self._lock:
            for found in self._models.values():
                if found.stale and found.model.source_run_id == run_id:
                    self._publish(found)

    def stored(self, uri: str, directory: Path) -> None:
        """Announce the model of a directory that was stored at a model's place."""
        model_id = uri.rstrip("/").rpartition("/")[2]
        found = self._models.get(model_id)
        if found is None or found.model.artifact_location != uri or not found.model.source_run_id:
            return
        described = describe_directory(directory, uri=uri)
        self._runs.log(found.model.source_run_id).writer.publish(
            ModelLogged(
                run_id=found.model.source_run_id,
                model_id=model_id,
                name=found.model.name,
                artifact_path=f"{_DIRECTORY}/{model_id}",
                uri=uri,
                digest=described.digest,
                size=described.size,
                flavors=described.flavors,
                signature=described.signature,
                at=now_ms(),
            )
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
            page = self._gateway.get(
                "runs",
                experiment_ids=experiment_ids,
                filter=f"tags.`{MARK}` = 'true'",
                page_size=_PAGE,
                page_token=token,
            )
            for told in page["runs"]:
                info = told["info"]
                for model, deleted in models_in(told["tags"], info["run_id"], info["experiment_id"]):
                    if not deleted:
                        yield model
            if not (token := page["next_page_token"]):
                break

    def _asked(self, model_id: str) -> _Model | None:
        condition = f"tags.`{model_key(model_id)}` LIKE '%'"
        for told in self._gateway.get("runs", filter=condition, lifecycle="all", page_size=1)["runs"]:
            info = told["info"]
            for model, deleted in models_in(told["tags"], info["run_id"], info["experiment_id"]):
                if model.model_id == model_id:
                    found = _Model(model, own_run=False)
                    found.deleted = deleted
                    return found
        return None

    def _artifacts_of(self, run_id: str) -> str:
        memory = self._runs.remembers(run_id)
        known = memory.artifact_uri if memory is not None else ""
        return known or str(self._runs.get(run_id).info.artifact_uri)

    def _publish(self, found: _Model) -> None:
        found.model.last_updated_timestamp = now_ms()
        found.stale = False
        if found.model.source_run_id:
            self._runs.set_tags(found.model.source_run_id, model_tags(found.model, found.deleted))


def _series(metric: Metric) -> tuple[str, str | None, str | None]:
    return metric.key, metric.dataset_name, metric.dataset_digest
