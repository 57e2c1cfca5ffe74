"""Decisions about registered models, versions, aliases and stages (MLflow: ``store/model_registry/sqlalchemy_store.py``).

Stricter than MLflow in one point: a version number is never used twice under a name, not even after the model was
deleted or renamed, so that ``models:/name/3`` never comes to mean another model.
"""

from typing import Any
from urllib.parse import unquote

from runtide_consumers.registrar.state import Catalogue, Decision, is_prompt
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.catalog import (
    AliasDeleted,
    AliasMoved,
    Answer,
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
    StageTransitioned,
)
from runtide_schemas.events.requests import (
    CreateRegisteredModel,
    DeleteAlias,
    DeleteModelVersion,
    DeleteModelVersionTags,
    DeleteRegisteredModel,
    DeleteRegisteredModelTags,
    RegisterModelVersion,
    RenameRegisteredModel,
    SetAlias,
    SetModelVersionTags,
    SetRegisteredModelTags,
    TransitionStage,
    UpdateModelVersion,
    UpdateRegisteredModel,
)
from runtide_schemas.limits import (
    MAX_ENTITY_TAG_VALUE_LENGTH,
    check_alias,
    check_alias_name,
    check_key,
    check_model_name,
    check_run_id,
    check_tags,
    check_text,
)

STAGES = ("None", "Staging", "Production", "Archived")
_ACTIVE_STAGES = ("Staging", "Production")
_MAX_DESCRIPTION_LENGTH = 100_000
_MAX_SOURCE_LENGTH = 2_048
_MAX_NAME_LENGTH = 500


def create_registered_model(state: Catalogue, request: CreateRegisteredModel, answer: Answer, at: int) -> Any:
    """Only under a free name."""
    name = check_model_name(request.name)
    if (taken := state.models.get(name)) is not None:
        raise _already_exists(name, prompt=is_prompt(request.tags), taken_by_prompt=taken.prompt)
    return RegisteredModelCreated(
        answer=answer,
        name=name,
        description=_check_description(request.description),
        tags=check_tags(request.tags, MAX_ENTITY_TAG_VALUE_LENGTH),
        at=at,
    )


def update_registered_model(state: Catalogue, request: UpdateRegisteredModel, answer: Answer, at: int) -> Any:
    """A new description."""
    state.model(request.name)
    description = _check_description(request.description)
    return RegisteredModelUpdated(answer=answer, name=request.name, description=description, at=at)


def rename_registered_model(state: Catalogue, request: RenameRegisteredModel, answer: Answer, at: int) -> Any:
    """Only to a free name under which none of its version numbers has meant another model."""
    new_name = check_model_name(request.new_name)
    model = state.model(request.name)
    if new_name in state.models and new_name != request.name:
        raise InvalidRequest(f"Registered Model (name={new_name}) already exists.", "RESOURCE_ALREADY_EXISTS")
    issued = state.issued.get(new_name, {})
    if clash := sorted(version for version in model.issued if issued.get(version, model.number) != model.number):
        raise InvalidRequest(
            f"Registered Model (name={new_name}) already exists: a deleted or renamed model had versions "
            f"{', '.join(map(str, clash[:10]))} under that name, and version numbers are never used twice. "
            "Choose another name.",
            "RESOURCE_ALREADY_EXISTS",
        )
    return RegisteredModelRenamed(answer=answer, name=new_name, previous_name=request.name, at=at)


def delete_registered_model(state: Catalogue, request: DeleteRegisteredModel, answer: Answer, at: int) -> Any:
    """With all its versions and aliases."""
    state.model(request.name)
    return RegisteredModelDeleted(answer=answer, name=request.name, at=at)


def set_registered_model_tags(state: Catalogue, request: SetRegisteredModelTags, answer: Answer, at: int) -> Any:
    """The last value wins."""
    state.model(request.name)
    tags = check_tags(request.tags, MAX_ENTITY_TAG_VALUE_LENGTH)
    return RegisteredModelTagsSet(answer=answer, name=request.name, tags=tags, at=at)


def delete_registered_model_tags(state: Catalogue, request: DeleteRegisteredModelTags, answer: Answer, at: int) -> Any:
    """A tag that is not there is no error."""
    state.model(request.name)
    return RegisteredModelTagsDeleted(answer=answer, name=request.name, keys=_check_keys(request.keys), at=at)


def register_model_version(state: Catalogue, request: RegisterModelVersion, answer: Answer, at: int) -> Any:
    """The next number; the model is made when it is missing and the request allows it."""
    name = check_model_name(request.name)
    if name not in state.models and not request.create_model:
        state.model(name)
    return ModelVersionRegistered(
        answer=answer,
        name=name,
        version=state.next_version(name),
        source=_check_source(request.source),
        run_id=check_run_id(request.run_id) if request.run_id else "",
        model_id=check_text(request.model_id, "Model id", _MAX_NAME_LENGTH),
        digest=check_text(request.digest, "Digest", _MAX_NAME_LENGTH),
        flavors=tuple(check_text(flavor, "Flavor", _MAX_NAME_LENGTH) for flavor in request.flavors),
        description=_check_description(request.description),
        tags=check_tags(request.tags, MAX_ENTITY_TAG_VALUE_LENGTH),
        aliases=tuple(dict.fromkeys(check_alias(alias) for alias in request.aliases)),
        model_created=name not in state.models,
        run_link=check_text(request.run_link, "Run link", _MAX_SOURCE_LENGTH),
        location=_check_location(request.location),
        at=at,
    )


def update_model_version(state: Catalogue, request: UpdateModelVersion, answer: Answer, at: int) -> Any:
    """A new description."""
    state.version(request.name, request.version)
    description = _check_description(request.description)
    return ModelVersionUpdated(
        answer=answer, name=request.name, version=request.version, description=description, at=at
    )


def delete_model_version(state: Catalogue, request: DeleteModelVersion, answer: Answer, at: int) -> Any:
    """Its aliases go with it; its number is never used again."""
    state.version(request.name, request.version)
    return ModelVersionDeleted(answer=answer, name=request.name, version=request.version, at=at)


def set_model_version_tags(state: Catalogue, request: SetModelVersionTags, answer: Answer, at: int) -> Any:
    """The last value wins."""
    state.version(request.name, request.version)
    tags = check_tags(request.tags, MAX_ENTITY_TAG_VALUE_LENGTH)
    return ModelVersionTagsSet(answer=answer, name=request.name, version=request.version, tags=tags, at=at)


def delete_model_version_tags(state: Catalogue, request: DeleteModelVersionTags, answer: Answer, at: int) -> Any:
    """A tag that is not there is no error."""
    state.version(request.name, request.version)
    keys = _check_keys(request.keys)
    return ModelVersionTagsDeleted(answer=answer, name=request.name, version=request.version, keys=keys, at=at)


def set_alias(state: Catalogue, request: SetAlias, answer: Answer, at: int) -> Any:
    """Moves it; with ``expected_version`` only when it points where the caller thinks (0: nowhere)."""
    alias = check_alias(request.alias)
    state.version(request.name, request.version)
    current = state.model(request.name).aliases.get(alias)
    if request.expected_version is not None and request.expected_version != (current or 0):
        found = f"points at version {current}" if current else "is not set"
        raise InvalidRequest(
            f"Alias {alias} of {request.name} {found}, expected version {request.expected_version}. "
            "Somebody else has moved it: look again",
            "RESOURCE_CONFLICT",
        )
    return AliasMoved(
        answer=answer, name=request.name, alias=alias, version=request.version, previous_version=current, at=at
    )


def delete_alias(state: Catalogue, request: DeleteAlias, answer: Answer, at: int) -> Any:
    """An alias that is not there is no error."""
    state.model(request.name)
    return AliasDeleted(answer=answer, name=request.name, alias=check_alias_name(request.alias), at=at)


def transition_stage(state: Catalogue, request: TransitionStage, answer: Answer, at: int) -> Any:
    """Any case in, canonical out; archiving the others is for Staging and Production only."""
    stage = {known.lower(): known for known in STAGES}.get(request.stage.lower())
    if stage is None:
        raise InvalidRequest(
            f"Invalid Model Version stage: {request.stage[:80]}. Value must be one of {', '.join(STAGES)}."
        )
    if request.archive_existing and stage not in _ACTIVE_STAGES:
        raise InvalidRequest(
            f"Model version transition cannot archive existing model versions because '{request.stage}' "
            f"is not an Active stage. Valid stages are {list(_ACTIVE_STAGES)}"
        )
    version = state.version(request.name, request.version)
    others = state.model(request.name).versions.items() if request.archive_existing else ()
    archived = sorted(number for number, other in others if other.stage == stage and number != request.version)
    return StageTransitioned(
        answer=answer,
        name=request.name,
        version=request.version,
        stage=stage,
        previous_stage=version.stage,
        archived_versions=tuple(archived),
        at=at,
    )


def _check_description(description: str) -> str:
    return check_text(description, "Description", _MAX_DESCRIPTION_LENGTH)


def _check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_key(key, "Tag") for key in keys)


def _check_source(source: str) -> str:
    """A location, as text; whether whoever asks may name a local one is for the entrance to say, which knows the run."""
    if not source.strip():
        raise InvalidRequest("Invalid model version source: it is empty; name where the model lies")
    return _check_location(source)


def _check_location(location: str) -> str:
    check_text(location, "Model version source", _MAX_SOURCE_LENGTH)
    decoded = unquote(unquote(location))
    if ".." in decoded.replace("\\", "/").split("/") or "\x00" in decoded:
        raise InvalidRequest(f"Invalid model version source: {location!r} must not contain '..' or NUL")
    return location


def _already_exists(name: str, *, prompt: bool, taken_by_prompt: bool) -> InvalidRequest:
    """Prompts are kept as registered models: they share their names."""
    what, taken_by = ("prompt" if one else "registered model" for one in (prompt, taken_by_prompt))
    if what == taken_by:
        message = f"{'Prompt' if prompt else 'Registered Model'} (name={name}) already exists."
    else:
        message = (
            f"Tried to create a {what} with name {name!r}, but the name is already taken by a {taken_by}. MLflow does not allow "
            "creating a model and a prompt with the same name."
        )
    return InvalidRequest(message, "RESOURCE_ALREADY_EXISTS")


DECISIONS: dict[type, Decision] = {
    CreateRegisteredModel: create_registered_model,
    UpdateRegisteredModel: update_registered_model,
    RenameRegisteredModel: rename_registered_model,
    DeleteRegisteredModel: delete_registered_model,
    SetRegisteredModelTags: set_registered_model_tags,
    DeleteRegisteredModelTags: delete_registered_model_tags,
    RegisterModelVersion: register_model_version,
    UpdateModelVersion: update_model_version,
    DeleteModelVersion: delete_model_version,
    SetModelVersionTags: set_model_version_tags,
    DeleteModelVersionTags: delete_model_version_tags,
    SetAlias: set_alias,
    DeleteAlias: delete_alias,
    TransitionStage: transition_stage,
}
