"""Folds of what is said of logged models.

A row of ``logged_models`` is what one run says of a model. All of that stands in one partition, so its order is the log's;
what two runs say of one and the same model id is in no order, and kept apart. Who reads takes the lesser run id's.
"""

from runtide_consumers.postgres.fold_runs import canonical_json
from runtide_consumers.postgres.rows import Workspace
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


def model_logged(work: Workspace, event: Event) -> None:
    """A model with its files; logged again it is replaced."""
    body: ModelLogged = event.body
    work.change(
        "logged_models",
        body.run_id,
        body.model_id,
        source_run_id=body.run_id,
        name=body.name,
        status="READY",
        status_message="",
        artifact_path=body.artifact_path,
        uri=body.uri,
        digest=body.digest,
        size=body.size,
        flavors=canonical_json(body.flavors),
        signature=body.signature,
        created_at=body.at,
        updated_at=body.at,
        announced=True,
    )


def created(work: Workspace, event: Event) -> None:
    """The first one says what the model is; what became of its files may have come before, from another writer."""
    body: LoggedModelCreated = event.body
    known = work.row("logged_models", body.run_id, body.model_id)
    if known["announced"]:
        return
    work.change(
        "logged_models",
        body.run_id,
        body.model_id,
        source_run_id=body.source_run_id or (body.run_id if belongs_to_run(body) else ""),
        experiment_id=body.experiment_id,
        name=body.name,
        model_type=body.model_type,
        uri=body.artifact_uri,
        created_at=body.at,
        updated_at=max(known["updated_at"], body.at),
        announced=True,
    )
    _log_params(work, body)
    for key, value in body.tags.items():
        work.merge("logged_model_tags", (body.run_id, body.model_id, key), value)


def finalized(work: Workspace, event: Event) -> None:
    """The last word on its files stands."""
    body: LoggedModelFinalized = event.body
    about = {"status": body.status, "status_message": body.status_message, "updated_at": body.at}
    work.change("logged_models", body.run_id, body.model_id, **about)


def deleted(work: Workspace, event: Event) -> None:
    """Soft: everything stays."""
    body: LoggedModelDeleted = event.body
    work.change("logged_models", body.run_id, body.model_id, deleted=True, updated_at=body.at)


def tags_set(work: Workspace, event: Event) -> None:
    """The last value wins."""
    body: LoggedModelTagsSet = event.body
    for key, value in body.tags.items():
        work.merge("logged_model_tags", (body.run_id, body.model_id, key), value)


def tags_deleted(work: Workspace, event: Event) -> None:
    """Gone until set again."""
    body: LoggedModelTagsDeleted = event.body
    for key in body.keys:
        work.merge("logged_model_tags", (body.run_id, body.model_id, key), None)


def params_logged(work: Workspace, event: Event) -> None:
    """The first value of a key wins."""
    _log_params(work, event.body)


def _log_params(work: Workspace, body: LoggedModelCreated | LoggedModelParamsLogged) -> None:
    for key, value in body.params.items():
        work.merge_first("logged_model_params", (body.run_id, body.model_id, key), value)


def metrics_logged(work: Workspace, event: Event) -> None:
    """Every distinct point once; its value as text, which tells NaN from NaN in no way and reads back the same."""
    body: ModelMetricsLogged = event.body
    for point in body.model_points:
        about = (point.key, point.dataset_name, point.dataset_digest, point.step, point.timestamp, repr(point.value))
        work.merge_first("logged_model_metrics", (point.model_id, body.run_id, *about))


def models_linked(work: Workspace, event: Event) -> None:
    """The step that was said last stands (MLflow's runs/outputs)."""
    body: RunModelsLinked = event.body
    for link in body.links:
        work.merge("run_models", (body.run_id, link.model_id, link.role), link.step)


HANDLERS = {
    ModelLogged: model_logged,
    LoggedModelCreated: created,
    LoggedModelFinalized: finalized,
    LoggedModelDeleted: deleted,
    LoggedModelTagsSet: tags_set,
    LoggedModelTagsDeleted: tags_deleted,
    LoggedModelParamsLogged: params_logged,
    ModelMetricsLogged: metrics_logged,
    RunModelsLinked: models_linked,
}
