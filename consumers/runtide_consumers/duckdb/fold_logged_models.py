"""Folds of what is said of logged models, by the rules of PostgreSQL's: a row is what one run says of a model.

All of that stands in one partition, so its order is the log's; what two runs say of one and the same model id is in no
order, and kept apart.
"""

from collections.abc import Mapping
from typing import Any

from runtide_consumers.duckdb.fold_runs import Fold
from runtide_consumers.duckdb.rows import EntityRows, Row
from runtide_consumers.projection import Event
from runtide_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelMetricsLogged,
    RunModelsLinked,
    belongs_to_run,
)
from runtide_schemas.events.runs import ModelLogged

CHANGING = frozenset({ModelLogged, LoggedModelCreated, LoggedModelFinalized, LoggedModelDeleted})
"""Events whose folds have to know the model's row."""


def _known(rows: EntityRows, body: Any) -> Row:
    return rows["claimed_models"].get(body.run_id, body.model_id) or {
        "run_id": body.run_id,
        "model_id": body.model_id,
        "source_run_id": "",
        "experiment_id": "",
        "name": "",
        "model_type": "",
        "status": "PENDING",
        "status_message": "",
        "artifact_path": "",
        "uri": "",
        "digest": "",
        "size": 0,
        "flavors": [],
        "signature": "",
        "created_at": 0,
        "updated_at": 0,
        "deleted": False,
        "announced": False,
    }


def _model_logged(rows: EntityRows, event: Event) -> None:
    """A model with its files; logged again it is replaced."""
    body: ModelLogged = event.body
    said = {
        "source_run_id": body.run_id,
        "name": body.name,
        "status": "READY",
        "status_message": "",
        "artifact_path": body.artifact_path,
        "uri": body.uri,
        "digest": body.digest,
        "size": body.size,
        "flavors": list(body.flavors),
        "signature": body.signature,
        "created_at": body.at,
        "updated_at": body.at,
        "announced": True,
    }
    rows["claimed_models"].put(_known(rows, body) | said)


def _created(rows: EntityRows, event: Event) -> None:
    """The first one says what the model is; what became of its files may have come before, from another writer."""
    body: LoggedModelCreated = event.body
    known = _known(rows, body)
    if known["announced"]:
        return
    said = {
        "source_run_id": body.source_run_id or (body.run_id if belongs_to_run(body) else ""),
        "experiment_id": body.experiment_id,
        "name": body.name,
        "model_type": body.model_type,
        "uri": body.artifact_uri,
        "created_at": body.at,
        "updated_at": max(known["updated_at"], body.at),
        "announced": True,
    }
    rows["claimed_models"].put(known | said)
    _log_params(rows, body)
    _set_tags(rows, body, body.tags)


def _finalized(rows: EntityRows, event: Event) -> None:
    """The last word on its files stands."""
    body: LoggedModelFinalized = event.body
    said = {"status": body.status, "status_message": body.status_message, "updated_at": body.at}
    rows["claimed_models"].put(_known(rows, body) | said)


def _deleted(rows: EntityRows, event: Event) -> None:
    """Soft: everything stays."""
    body: LoggedModelDeleted = event.body
    rows["claimed_models"].put(_known(rows, body) | {"deleted": True, "updated_at": body.at})


def _tags_set(rows: EntityRows, event: Event) -> None:
    _set_tags(rows, event.body, event.body.tags)


def _set_tags(rows: EntityRows, body: LoggedModelCreated | LoggedModelTagsSet, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        rows["claimed_model_tags"].put({"run_id": body.run_id, "model_id": body.model_id, "key": key, "value": value})


def _tags_deleted(rows: EntityRows, event: Event) -> None:
    body: LoggedModelTagsDeleted = event.body
    for key in body.keys:
        rows["claimed_model_tags"].remove(body.run_id, body.model_id, key)


def _params_logged(rows: EntityRows, event: Event) -> None:
    _log_params(rows, event.body)


def _log_params(rows: EntityRows, body: LoggedModelCreated | LoggedModelParamsLogged) -> None:
    params = rows["claimed_model_params"]
    for key, value in body.params.items():
        if params.get(body.run_id, body.model_id, key) is None:
            params.put({"run_id": body.run_id, "model_id": body.model_id, "key": key, "value": value})


def _models_linked(rows: EntityRows, event: Event) -> None:
    """The step that was said last stands."""
    body: RunModelsLinked = event.body
    for link in body.links:
        rows["run_models"].put({"run_id": body.run_id, "model_id": link.model_id, "role": link.role, "step": link.step})


def _points_of_the_batch(rows: EntityRows, event: Event) -> None:
    """They are no rows to be changed: the batch's are appended together (``model_points.py``)."""


FOLDS: dict[type[Any], Fold] = {
    ModelLogged: _model_logged,
    LoggedModelCreated: _created,
    LoggedModelFinalized: _finalized,
    LoggedModelDeleted: _deleted,
    LoggedModelTagsSet: _tags_set,
    LoggedModelTagsDeleted: _tags_deleted,
    LoggedModelParamsLogged: _params_logged,
    RunModelsLinked: _models_linked,
    ModelMetricsLogged: _points_of_the_batch,
}
