"""Folds of runtide.catalog: one plain function per fact of the registrar. The topic is one order.

Facts that change many rows of a model at once (``ALONE``) are not folded in memory: each stands for statements of
``sql/models.sql`` and divides a batch.
"""

from collections.abc import Mapping
from typing import Any

from runtide_consumers.postgres.fold_runs import canonical_json
from runtide_consumers.postgres.rows import Workspace
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

ALONE: Mapping[type, tuple[str, ...]] = {
    RegisteredModelRenamed: (
        "rename_drop_deleted_model",
        "rename_model",
        "rename_model_tags",
        "rename_versions",
        "rename_version_tags",
        "rename_aliases",
        "rename_in_endpoints",
    ),
    RegisteredModelDeleted: ("delete_model", "delete_model_tags", "delete_aliases", "delete_versions"),
    ModelVersionDeleted: ("delete_version", "delete_aliases_of_version", "touch_model"),
}


def experiment_created(work: Workspace, event: Event) -> None:
    """It exists, and the request that asked for it is answered."""
    body: ExperimentCreated = event.body
    work.change(
        "experiments",
        body.experiment_id,
        name=body.name,
        artifact_location=body.artifact_location,
        lifecycle_stage="active",
        created_at=body.at,
        updated_at=body.at,
    )
    work.merge("experiment_requests", (body.answer.request_id,), body.experiment_id)
    _set_tags(work, "experiment_tags", (body.experiment_id,), body.tags)


def experiment_resolved(work: Workspace, event: Event) -> None:
    """The request that asked for it is answered."""
    body: ExperimentResolved = event.body
    work.merge("experiment_requests", (body.answer.request_id,), body.experiment_id)


def experiment_renamed(work: Workspace, event: Event) -> None:
    """A new name."""
    body: ExperimentRenamed = event.body
    work.change("experiments", body.experiment_id, name=body.name, updated_at=body.at)


def experiment_deleted(work: Workspace, event: Event) -> None:
    """Soft: its name stays taken, its runs stay."""
    body: ExperimentDeleted = event.body
    work.change("experiments", body.experiment_id, lifecycle_stage="deleted", updated_at=body.at)


def experiment_restored(work: Workspace, event: Event) -> None:
    """Undoes a deletion."""
    body: ExperimentRestored = event.body
    work.change("experiments", body.experiment_id, lifecycle_stage="active", updated_at=body.at)


def experiment_tags_set(work: Workspace, event: Event) -> None:
    """The last value wins."""
    body: ExperimentTagsSet = event.body
    _set_tags(work, "experiment_tags", (body.experiment_id,), body.tags)


def experiment_tags_deleted(work: Workspace, event: Event) -> None:
    """Gone until set again."""
    body: ExperimentTagsDeleted = event.body
    _set_tags(work, "experiment_tags", (body.experiment_id,), dict.fromkeys(body.keys))


def registered_model_created(work: Workspace, event: Event) -> None:
    """It exists, perhaps again under the name of a deleted one."""
    body: RegisteredModelCreated = event.body
    _create_model(work, body.name, body.description, body.at)
    _set_tags(work, "registered_model_tags", (body.name,), body.tags)


def registered_model_updated(work: Workspace, event: Event) -> None:
    """A new description."""
    body: RegisteredModelUpdated = event.body
    work.change("registered_models", body.name, description=body.description, updated_at=body.at)


def registered_model_tags_set(work: Workspace, event: Event) -> None:
    """The last value wins."""
    body: RegisteredModelTagsSet = event.body
    _set_tags(work, "registered_model_tags", (body.name,), body.tags)


def registered_model_tags_deleted(work: Workspace, event: Event) -> None:
    """Gone until set again."""
    body: RegisteredModelTagsDeleted = event.body
    _set_tags(work, "registered_model_tags", (body.name,), dict.fromkeys(body.keys))


def model_version_registered(work: Workspace, event: Event) -> None:
    """A version, and the model with it when it is the first."""
    body: ModelVersionRegistered = event.body
    if body.model_created:
        _create_model(work, body.name, "", body.at)
    work.change("registered_models", body.name, updated_at=body.at)
    work.change(
        "model_versions",
        body.name,
        body.version,
        source=body.source,
        run_id=body.run_id,
        model_id=body.model_id,
        digest=body.digest,
        flavors=canonical_json(body.flavors),
        description=body.description,
        stage="None",
        created_at=body.at,
        updated_at=body.at,
        deleted=False,
        run_link=body.run_link,
        location=body.location,
    )
    _set_tags(work, "model_version_tags", (body.name, body.version), body.tags)
    for alias in body.aliases:
        work.merge("model_aliases", (body.name, alias), body.version)


def model_version_updated(work: Workspace, event: Event) -> None:
    """A new description."""
    body: ModelVersionUpdated = event.body
    work.change("model_versions", body.name, body.version, description=body.description, updated_at=body.at)


def model_version_tags_set(work: Workspace, event: Event) -> None:
    """The last value wins."""
    body: ModelVersionTagsSet = event.body
    _set_tags(work, "model_version_tags", (body.name, body.version), body.tags)


def model_version_tags_deleted(work: Workspace, event: Event) -> None:
    """Gone until set again."""
    body: ModelVersionTagsDeleted = event.body
    _set_tags(work, "model_version_tags", (body.name, body.version), dict.fromkeys(body.keys))


def stage_transitioned(work: Workspace, event: Event) -> None:
    """One version into its stage, others into the archive by the same decision."""
    body: StageTransitioned = event.body
    work.change("model_versions", body.name, body.version, stage=body.stage, updated_at=body.at)
    for version in body.archived_versions:
        work.change("model_versions", body.name, version, stage="Archived", updated_at=body.at)
    work.change("registered_models", body.name, updated_at=body.at)


def alias_moved(work: Workspace, event: Event) -> None:
    """It points at a version."""
    body: AliasMoved = event.body
    work.merge("model_aliases", (body.name, body.alias), body.version)


def alias_deleted(work: Workspace, event: Event) -> None:
    """It points nowhere."""
    body: AliasDeleted = event.body
    work.merge("model_aliases", (body.name, body.alias), None)


def deployment_requested(work: Workspace, event: Event) -> None:
    """What an endpoint is to serve."""
    body: DeploymentRequested = event.body
    work.change(
        "endpoints",
        body.endpoint,
        model=body.model,
        follow=body.follow,
        alias=body.alias,
        version=body.version,
        target=body.target,
        config=canonical_json(body.config),
        generation=body.generation,
        requested_at=body.at,
        removed=False,
    )


def deployment_removed(work: Workspace, event: Event) -> None:
    """The endpoint is to go away; its row stays for what was."""
    body: DeploymentRemoved = event.body
    work.change("endpoints", body.endpoint, removed=True, requested_at=body.at)


def webhook_stated(work: Workspace, event: Event) -> None:
    """It is what the fact says; a new one is from then on."""
    body: WebhookCreated | WebhookUpdated = event.body
    made = {"created_at": body.at, "deleted": False} if isinstance(body, WebhookCreated) else {}
    work.change(
        "webhooks",
        body.webhook_id,
        name=body.name,
        url=body.url,
        events=canonical_json(body.events),
        description=body.description,
        secret=body.secret,
        status=body.status,
        updated_at=body.at,
        **made,
    )


def webhook_deleted(work: Workspace, event: Event) -> None:
    """It is hidden, and its secret is gone."""
    body: WebhookDeleted = event.body
    work.change("webhooks", body.webhook_id, deleted=True, secret="", updated_at=body.at)


def request_rejected(work: Workspace, event: Event) -> None:
    """Nothing changed; whoever asked can read why."""
    body: RequestRejected = event.body
    work.merge_first(
        "rejected_requests", (body.answer.request_id,), body.request_type, body.code, body.message, body.at
    )


def _create_model(work: Workspace, name: str, description: str, at: int) -> None:
    work.change("registered_models", name, description=description, created_at=at, updated_at=at, deleted=False)


def _set_tags(work: Workspace, statement: str, entity: tuple[Any, ...], tags: Mapping[str, str | None]) -> None:
    for key, value in tags.items():
        work.merge(statement, (*entity, key), value)


HANDLERS = {
    ExperimentCreated: experiment_created,
    ExperimentResolved: experiment_resolved,
    ExperimentRenamed: experiment_renamed,
    ExperimentDeleted: experiment_deleted,
    ExperimentRestored: experiment_restored,
    ExperimentTagsSet: experiment_tags_set,
    ExperimentTagsDeleted: experiment_tags_deleted,
    RegisteredModelCreated: registered_model_created,
    RegisteredModelUpdated: registered_model_updated,
    RegisteredModelTagsSet: registered_model_tags_set,
    RegisteredModelTagsDeleted: registered_model_tags_deleted,
    ModelVersionRegistered: model_version_registered,
    ModelVersionUpdated: model_version_updated,
    ModelVersionTagsSet: model_version_tags_set,
    ModelVersionTagsDeleted: model_version_tags_deleted,
    StageTransitioned: stage_transitioned,
    AliasMoved: alias_moved,
    AliasDeleted: alias_deleted,
    DeploymentRequested: deployment_requested,
    DeploymentRemoved: deployment_removed,
    WebhookCreated: webhook_stated,
    WebhookUpdated: webhook_stated,
    WebhookDeleted: webhook_deleted,
    RequestRejected: request_rejected,
}
