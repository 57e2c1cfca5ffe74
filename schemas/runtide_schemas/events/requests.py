"""Requests for a decision of the registrar, published to runtide.requests.

What each field means stands in the Avro file of the same name under ``avro/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateExperiment:
    """Asks for an experiment of that name."""

    name: str
    artifact_location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    if_exists: str = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameExperiment:
    """Asks to rename an experiment."""

    experiment_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetExperimentTags:
    """Asks to set tags on an experiment."""

    experiment_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteExperimentTags:
    """Asks to delete tags of an experiment."""

    experiment_id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteExperiment:
    """Asks to delete an experiment (soft)."""

    experiment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreExperiment:
    """Asks to restore a deleted experiment."""

    experiment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRegisteredModel:
    """Asks for a registered model of that name."""

    name: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRegisteredModel:
    """Asks to change a registered model's description."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameRegisteredModel:
    """Asks to rename a registered model."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRegisteredModel:
    """Asks to delete a registered model with its versions."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRegisteredModelTags:
    """Asks to set tags on a registered model."""

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRegisteredModelTags:
    """Asks to delete tags of a registered model."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterModelVersion:
    """Asks for the next version of a registered model."""

    name: str
    source: str
    run_id: str = ""
    model_id: str = ""
    digest: str = ""
    flavors: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    create_model: bool = True
    run_link: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateModelVersion:
    """Asks to change a version's description."""

    name: str
    version: int
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteModelVersion:
    """Asks to delete a version."""

    name: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetModelVersionTags:
    """Asks to set tags on a version."""

    name: str
    version: int
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteModelVersionTags:
    """Asks to delete tags of a version."""

    name: str
    version: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAlias:
    """Asks to point an alias at a version."""

    name: str
    alias: str
    version: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAlias:
    """Asks to delete an alias."""

    name: str
    alias: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionStage:
    """Asks to move a version to a stage (MLflow's stages: None, Staging, Production, Archived)."""

    name: str
    version: int
    stage: str
    archive_existing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDeployment:
    """Asks that an endpoint serve a model from now on."""

    endpoint: str
    model: str
    follow: str = "latest"
    alias: str = ""
    version: int = 0
    target: str = "local"
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveDeployment:
    """Asks that an endpoint go away."""

    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWebhook:
    """Asks that an address be told of what happens in the model registry."""

    webhook_id: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: str = ""
    status: str = "ACTIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWebhook:
    """Asks to change a webhook; a null field is unchanged."""

    webhook_id: str
    name: str | None = None
    url: str | None = None
    events: tuple[str, ...] = ()
    description: str | None = None
    secret: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWebhook:
    """Asks that a webhook be told nothing more."""

    webhook_id: str
