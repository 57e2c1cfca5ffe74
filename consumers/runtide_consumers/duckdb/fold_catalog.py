"""Folds of runtide.catalog: experiments and the model registry. One plain function per fact.

What else the catalogue holds (tags, descriptions' history, wishes for endpoints) is state and lies in PostgreSQL.
"""

from typing import Any

from runtide_consumers.duckdb.fold_runs import Fold
from runtide_consumers.duckdb.rows import EntityRows
from runtide_consumers.projection import Event
from runtide_schemas.events.catalog import (
    AliasDeleted,
    AliasMoved,
    DeploymentRemoved,
    DeploymentRequested,
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentResolved,
    ExperimentRestored,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
    ModelVersionDeleted,
    ModelVersionRegistered,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    ModelVersionUpdated,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelRenamed,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
    RegisteredModelUpdated,
    RequestRejected,
    StageTransitioned,
    WebhookCreated,
    WebhookDeleted,
    WebhookUpdated,
)

_MODEL_TABLES = ("model_versions", "model_aliases")


def _experiment_created(rows: EntityRows, event: Event) -> None:
    body: ExperimentCreated = event.body
    rows["experiments"].put(
        {
            "experiment_id": body.experiment_id,
            "name": body.name,
            "artifact_location": body.artifact_location,
            "lifecycle_stage": "active",
            "created_at": body.at,
            "updated_at": body.at,
        }
    )
    _experiment_resolved(rows, event)


def _experiment_resolved(rows: EntityRows, event: Event) -> None:
    body: ExperimentCreated | ExperimentResolved = event.body
    rows["experiment_requests"].put({"request_id": body.answer.request_id, "experiment_id": body.experiment_id})


def _experiment_renamed(rows: EntityRows, event: Event) -> None:
    body: ExperimentRenamed = event.body
    rows["experiments"].change(body.experiment_id, name=body.name, updated_at=body.at)


def _experiment_deleted(rows: EntityRows, event: Event) -> None:
    rows["experiments"].change(event.body.experiment_id, lifecycle_stage="deleted", updated_at=event.body.at)


def _experiment_restored(rows: EntityRows, event: Event) -> None:
    rows["experiments"].change(event.body.experiment_id, lifecycle_stage="active", updated_at=event.body.at)


def _create_model(rows: EntityRows, name: str, description: str, at: int) -> None:
    rows["registered_models"].put(
        {"name": name, "description": description, "created_at": at, "updated_at": at, "deleted": False}
    )


def _model_created(rows: EntityRows, event: Event) -> None:
    body: RegisteredModelCreated = event.body
    _create_model(rows, body.name, body.description, body.at)


def _model_updated(rows: EntityRows, event: Event) -> None:
    body: RegisteredModelUpdated = event.body
    rows["registered_models"].change(body.name, description=body.description, updated_at=body.at)


def _model_renamed(rows: EntityRows, event: Event) -> None:
    body: RegisteredModelRenamed = event.body
    model = rows["registered_models"].get(body.previous_name)
    if model is None:
        return
    rows["registered_models"].remove(body.previous_name)
    rows["registered_models"].put(model | {"name": body.name, "updated_at": body.at})
    for table in _MODEL_TABLES:
        for row in rows[table].where(name=body.previous_name):
            rows[table].remove(body.previous_name, row["version" if table == "model_versions" else "alias"])
            touched = {"updated_at": body.at} if table == "model_versions" else {}
            rows[table].put(row | {"name": body.name} | touched)


def _model_deleted(rows: EntityRows, event: Event) -> None:
    body: RegisteredModelDeleted = event.body
    rows["registered_models"].change(body.name, deleted=True, updated_at=body.at)
    for row in rows["model_versions"].where(name=body.name, deleted=False):
        rows["model_versions"].put(row | {"deleted": True, "updated_at": body.at})
    for row in rows["model_aliases"].where(name=body.name):
        rows["model_aliases"].remove(body.name, row["alias"])


def _version_registered(rows: EntityRows, event: Event) -> None:
    body: ModelVersionRegistered = event.body
    if body.model_created:
        _create_model(rows, body.name, "", body.at)
    else:
        rows["registered_models"].change(body.name, updated_at=body.at)
    rows["model_versions"].put(
        {
            "name": body.name,
            "version": body.version,
            "source": body.source,
            "run_id": body.run_id,
            "model_id": body.model_id,
            "digest": body.digest,
            "flavors": list(body.flavors),
            "description": body.description,
            "stage": "None",
            "created_at": body.at,
            "updated_at": body.at,
            "deleted": False,
        }
    )
    for alias in body.aliases:
        rows["model_aliases"].put({"name": body.name, "alias": alias, "version": body.version})


def _version_updated(rows: EntityRows, event: Event) -> None:
    body: ModelVersionUpdated = event.body
    rows["model_versions"].change(body.name, body.version, description=body.description, updated_at=body.at)


def _version_deleted(rows: EntityRows, event: Event) -> None:
    body: ModelVersionDeleted = event.body
    rows["model_versions"].change(body.name, body.version, deleted=True, updated_at=body.at)
    for row in rows["model_aliases"].where(name=body.name, version=body.version):
        rows["model_aliases"].remove(body.name, row["alias"])
    rows["registered_models"].change(body.name, updated_at=body.at)


def _alias_moved(rows: EntityRows, event: Event) -> None:
    body: AliasMoved = event.body
    rows["model_aliases"].put({"name": body.name, "alias": body.alias, "version": body.version})


def _alias_deleted(rows: EntityRows, event: Event) -> None:
    rows["model_aliases"].remove(event.body.name, event.body.alias)


def _stage_transitioned(rows: EntityRows, event: Event) -> None:
    body: StageTransitioned = event.body
    rows["model_versions"].change(body.name, body.version, stage=body.stage, updated_at=body.at)
    for version in body.archived_versions:
        rows["model_versions"].change(body.name, version, stage="Archived", updated_at=body.at)
    rows["registered_models"].change(body.name, updated_at=body.at)


def _not_kept(rows: EntityRows, event: Event) -> None:
    """State that PostgreSQL keeps."""


FOLDS: dict[type[Any], Fold] = {
    ExperimentCreated: _experiment_created,
    ExperimentResolved: _experiment_resolved,
    ExperimentRenamed: _experiment_renamed,
    ExperimentTagsSet: _not_kept,
    ExperimentTagsDeleted: _not_kept,
    ExperimentDeleted: _experiment_deleted,
    ExperimentRestored: _experiment_restored,
    RegisteredModelCreated: _model_created,
    RegisteredModelUpdated: _model_updated,
    RegisteredModelRenamed: _model_renamed,
    RegisteredModelDeleted: _model_deleted,
    RegisteredModelTagsSet: _not_kept,
    RegisteredModelTagsDeleted: _not_kept,
    ModelVersionRegistered: _version_registered,
    ModelVersionUpdated: _version_updated,
    ModelVersionDeleted: _version_deleted,
    ModelVersionTagsSet: _not_kept,
    ModelVersionTagsDeleted: _not_kept,
    AliasMoved: _alias_moved,
    AliasDeleted: _alias_deleted,
    StageTransitioned: _stage_transitioned,
    DeploymentRequested: _not_kept,
    DeploymentRemoved: _not_kept,
    WebhookCreated: _not_kept,
    WebhookUpdated: _not_kept,
    WebhookDeleted: _not_kept,
    RequestRejected: _not_kept,
}
