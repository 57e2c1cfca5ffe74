"""``apply(state, fact)``: what a fact changes. Deterministic, no I/O; the state belongs to whoever folds."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from runtide_consumers.answers import is_news
from runtide_consumers.registrar.state import PROMPT_TAG, Catalogue, Endpoint, Experiment, Model, Version, is_prompt
from runtide_consumers.sequences import Sequence, admit
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

Fold = Callable[[Catalogue, Any], None]


def apply(state: Catalogue, fact: Any) -> bool:
    """Fold a fact and return True; a fact that answers what has been answered is ignored: False."""
    if not is_news(fact, state.last_request_offset):
        return False
    FOLDS[type(fact)](state, fact)
    answer = fact.answer
    state.last_request_offset = answer.request_offset
    before = state.writers.get(answer.request_writer, Sequence())
    state.writers[answer.request_writer], _ = admit(before, answer.request_seq)
    return True


def experiment_created(state: Catalogue, fact: ExperimentCreated) -> None:
    """Its name is taken from now on."""
    state.experiments[fact.experiment_id] = Experiment(fact.experiment_id, fact.name, tag_keys=set(fact.tags))
    state.experiment_ids[fact.name] = fact.experiment_id


def experiment_renamed(state: Catalogue, fact: ExperimentRenamed) -> None:
    """The old name is free."""
    state.experiment_ids.pop(fact.previous_name, None)
    state.experiment_ids[fact.name] = fact.experiment_id
    state.experiments[fact.experiment_id].name = fact.name


def experiment_deleted(state: Catalogue, fact: ExperimentDeleted) -> None:
    """Its name stays taken."""
    state.experiments[fact.experiment_id].active = False


def experiment_restored(state: Catalogue, fact: ExperimentRestored) -> None:
    """Active again."""
    state.experiments[fact.experiment_id].active = True


def experiment_tags_set(state: Catalogue, fact: ExperimentTagsSet) -> None:
    """Only the keys matter to decisions."""
    state.experiments[fact.experiment_id].tag_keys |= set(fact.tags)


def experiment_tags_deleted(state: Catalogue, fact: ExperimentTagsDeleted) -> None:
    """Only the keys matter to decisions."""
    state.experiments[fact.experiment_id].tag_keys -= set(fact.keys)


def registered_model_created(state: Catalogue, fact: RegisteredModelCreated) -> None:
    """A new model, perhaps under the name of a former one."""
    _create_model(state, fact.name)
    state.models[fact.name].prompt = is_prompt(fact.tags)


def registered_model_tags_set(state: Catalogue, fact: RegisteredModelTagsSet) -> None:
    """One tag makes a prompt of it."""
    if PROMPT_TAG in fact.tags:
        state.models[fact.name].prompt = is_prompt(fact.tags)


def registered_model_tags_deleted(state: Catalogue, fact: RegisteredModelTagsDeleted) -> None:
    """A prompt no longer, when that tag is among them."""
    if PROMPT_TAG in fact.keys:
        state.models[fact.name].prompt = False


def registered_model_renamed(state: Catalogue, fact: RegisteredModelRenamed) -> None:
    """Its numbers are taken under both names for ever."""
    model = state.models.pop(fact.previous_name)
    state.models[fact.name] = model
    state.issued.setdefault(fact.name, {}).update(dict.fromkeys(model.issued, model.number))


def registered_model_deleted(state: Catalogue, fact: RegisteredModelDeleted) -> None:
    """The name is free, its numbers are not."""
    del state.models[fact.name]


def model_version_registered(state: Catalogue, fact: ModelVersionRegistered) -> None:
    """A number is taken; aliases of the request point at it."""
    if fact.model_created:
        _create_model(state, fact.name)
    model = state.models[fact.name]
    model.versions[fact.version] = Version()
    model.issued.add(fact.version)
    state.issued.setdefault(fact.name, {})[fact.version] = model.number
    model.aliases |= dict.fromkeys(fact.aliases, fact.version)


def model_version_deleted(state: Catalogue, fact: ModelVersionDeleted) -> None:
    """Aliases that pointed at it are gone."""
    model = state.models[fact.name]
    del model.versions[fact.version]
    model.aliases = {alias: version for alias, version in model.aliases.items() if version != fact.version}


def alias_moved(state: Catalogue, fact: AliasMoved) -> None:
    """It points at a version."""
    state.models[fact.name].aliases[fact.alias] = fact.version


def alias_deleted(state: Catalogue, fact: AliasDeleted) -> None:
    """It points nowhere."""
    state.models[fact.name].aliases.pop(fact.alias, None)


def stage_transitioned(state: Catalogue, fact: StageTransitioned) -> None:
    """One version into its stage, others into the archive."""
    versions = state.models[fact.name].versions
    for number in fact.archived_versions:
        versions[number].stage = "Archived"
    versions[fact.version].stage = fact.stage


def deployment_requested(state: Catalogue, fact: DeploymentRequested) -> None:
    """The endpoint is wanted."""
    state.endpoints[fact.endpoint] = Endpoint(fact.generation)


def deployment_removed(state: Catalogue, fact: DeploymentRemoved) -> None:
    """The endpoint is not wanted; its generations go on when it is again."""
    state.endpoints[fact.endpoint].removed = True


def webhook_stated(state: Catalogue, fact: WebhookCreated | WebhookUpdated) -> None:
    """It is what the fact says."""
    state.webhooks[fact.webhook_id] = WebhookUpdated(**{one.name: getattr(fact, one.name) for one in fields(fact)})


def webhook_deleted(state: Catalogue, fact: WebhookDeleted) -> None:
    """It is gone."""
    del state.webhooks[fact.webhook_id]


def nothing(state: Catalogue, fact: Any) -> None:
    """No decision depends on it."""


def _create_model(state: Catalogue, name: str) -> None:
    state.models_created += 1
    state.models[name] = Model(number=state.models_created)


FOLDS: dict[type, Fold] = {
    ExperimentCreated: experiment_created,
    ExperimentResolved: nothing,
    ExperimentRenamed: experiment_renamed,
    ExperimentDeleted: experiment_deleted,
    ExperimentRestored: experiment_restored,
    ExperimentTagsSet: experiment_tags_set,
    ExperimentTagsDeleted: experiment_tags_deleted,
    RegisteredModelCreated: registered_model_created,
    RegisteredModelUpdated: nothing,
    RegisteredModelRenamed: registered_model_renamed,
    RegisteredModelDeleted: registered_model_deleted,
    RegisteredModelTagsSet: registered_model_tags_set,
    RegisteredModelTagsDeleted: registered_model_tags_deleted,
    ModelVersionRegistered: model_version_registered,
    ModelVersionUpdated: nothing,
    ModelVersionDeleted: model_version_deleted,
    ModelVersionTagsSet: nothing,
    ModelVersionTagsDeleted: nothing,
    AliasMoved: alias_moved,
    AliasDeleted: alias_deleted,
    StageTransitioned: stage_transitioned,
    DeploymentRequested: deployment_requested,
    DeploymentRemoved: deployment_removed,
    WebhookCreated: webhook_stated,
    WebhookUpdated: webhook_stated,
    WebhookDeleted: webhook_deleted,
    RequestRejected: nothing,
}
