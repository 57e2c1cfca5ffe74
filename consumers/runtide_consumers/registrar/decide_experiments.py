"""Decisions about experiments (MLflow: ``store/tracking/sqlalchemy_store.py``, ``utils/validation.py``)."""

from typing import Any

from runtide_consumers.registrar.state import Catalogue, Decision, Experiment
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.catalog import (
    Answer,
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentResolved,
    ExperimentRestored,
    ExperimentTagsDeleted,
    ExperimentTagsSet,
)
from runtide_schemas.events.requests import (
    CreateExperiment,
    DeleteExperiment,
    DeleteExperimentTags,
    RenameExperiment,
    RestoreExperiment,
    SetExperimentTags,
)
from runtide_schemas.limits import (
    MAX_EXPERIMENT_TAG_VALUE_LENGTH,
    check_experiment_name,
    check_key,
    check_tags,
    check_text,
)

MAX_ARTIFACT_LOCATION_LENGTH = 2_048


def create_experiment(state: Catalogue, request: CreateExperiment, answer: Answer, at: int) -> Any:
    """Created, or found when the request takes what there is; a deleted one keeps its name."""
    name = check_experiment_name(request.name)
    if request.if_exists not in ("reject", "resolve"):
        raise InvalidRequest(f"if_exists must be 'reject' or 'resolve', got {request.if_exists[:80]!r}")
    existing = state.experiment_ids.get(name)
    if existing is not None and request.if_exists == "resolve":
        return ExperimentResolved(answer=answer, experiment_id=existing, name=name, at=at)
    if existing is not None:
        raise InvalidRequest(_taken(state, name), "RESOURCE_ALREADY_EXISTS")
    return ExperimentCreated(
        answer=answer,
        experiment_id=state.next_experiment_id(),
        name=name,
        artifact_location=_check_location(request.artifact_location),
        tags=check_tags(request.tags, MAX_EXPERIMENT_TAG_VALUE_LENGTH),
        at=at,
    )


def rename_experiment(state: Catalogue, request: RenameExperiment, answer: Answer, at: int) -> ExperimentRenamed:
    """Only an active one, only to a free name."""
    name = check_experiment_name(request.name)
    experiment = state.experiment(request.experiment_id)
    if not experiment.active:
        raise InvalidRequest("Cannot rename a non-active experiment.", "INVALID_STATE")
    if state.experiment_ids.get(name, experiment.experiment_id) != experiment.experiment_id:
        raise InvalidRequest(_taken(state, name), "BAD_REQUEST")
    return ExperimentRenamed(
        answer=answer, experiment_id=experiment.experiment_id, name=name, previous_name=experiment.name, at=at
    )


def delete_experiment(state: Catalogue, request: DeleteExperiment, answer: Answer, at: int) -> ExperimentDeleted:
    """Soft; a second time there is nothing to delete."""
    experiment = state.experiment(request.experiment_id)
    if not experiment.active:
        raise NotFound(f"No Experiment with id={experiment.experiment_id} exists")
    return ExperimentDeleted(answer=answer, experiment_id=experiment.experiment_id, at=at)


def restore_experiment(state: Catalogue, request: RestoreExperiment, answer: Answer, at: int) -> ExperimentRestored:
    """Only a deleted one."""
    experiment = state.experiment(request.experiment_id)
    if experiment.active:
        raise NotFound(f"No deleted Experiment with id={experiment.experiment_id} exists")
    return ExperimentRestored(answer=answer, experiment_id=experiment.experiment_id, at=at)


def set_experiment_tags(state: Catalogue, request: SetExperimentTags, answer: Answer, at: int) -> ExperimentTagsSet:
    """On an active one."""
    experiment = _active(state, request.experiment_id)
    tags = check_tags(request.tags, MAX_EXPERIMENT_TAG_VALUE_LENGTH)
    return ExperimentTagsSet(answer=answer, experiment_id=experiment.experiment_id, tags=tags, at=at)


def delete_experiment_tags(
    state: Catalogue, request: DeleteExperimentTags, answer: Answer, at: int
) -> ExperimentTagsDeleted:
    """On an active one; each of them must be there."""
    experiment = _active(state, request.experiment_id)
    for key in request.keys:
        check_key(key, "Tag")
        if key not in experiment.tag_keys:
            raise NotFound(f"No tag with name: {key} in experiment with id {experiment.experiment_id}")
    return ExperimentTagsDeleted(answer=answer, experiment_id=experiment.experiment_id, keys=request.keys, at=at)


def _active(state: Catalogue, experiment_id: str) -> Experiment:
    experiment = state.experiment(experiment_id)
    if not experiment.active:
        raise InvalidRequest(
            f"The experiment {experiment_id} must be in the 'active' state. Current state is {experiment.stage}."
        )
    return experiment


def _taken(state: Catalogue, name: str) -> str:
    experiment = state.experiments[state.experiment_ids[name]]
    hint = "" if experiment.active else " It is deleted: restore it, or choose another name."
    return f"Experiment(name={name}) already exists.{hint}"


def _check_location(location: str) -> str:
    check_text(location, "Artifact location", MAX_ARTIFACT_LOCATION_LENGTH)
    if location.startswith("runs:"):
        raise InvalidRequest(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")
    if "#" in location or "?" in location:
        raise InvalidRequest(f"Artifact location cannot have a fragment or parameters. Given: '{location}'")
    return location


DECISIONS: dict[type, Decision] = {
    CreateExperiment: create_experiment,
    RenameExperiment: rename_experiment,
    DeleteExperiment: delete_experiment,
    RestoreExperiment: restore_experiment,
    SetExperimentTags: set_experiment_tags,
    DeleteExperimentTags: delete_experiment_tags,
}
