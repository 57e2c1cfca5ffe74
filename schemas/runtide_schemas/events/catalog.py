"""The registrar's facts in runtide.catalog: what downstream services subscribe to.

What each field means stands in the Avro file of the same name under ``avro/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Which request this fact answers: exactly one fact per request."""

    request_id: str
    request_offset: int
    request_writer: str
    request_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentCreated:
    """An experiment exists."""

    answer: Answer
    experiment_id: str
    name: str
    artifact_location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResolved:
    """CreateExperiment with if_exists=resolve found the experiment."""

    answer: Answer
    experiment_id: str
    name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRenamed:
    """An experiment has a new name."""

    answer: Answer
    experiment_id: str
    name: str
    previous_name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentTagsSet:
    """Tags of an experiment were set."""

    answer: Answer
    experiment_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentTagsDeleted:
    """Tags of an experiment were deleted."""

    answer: Answer
    experiment_id: str
    keys: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDeleted:
    """An experiment was deleted (soft)."""

    answer: Answer
    experiment_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRestored:
    """A deleted experiment was restored."""

    answer: Answer
    experiment_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelCreated:
    """A registered model exists."""

    answer: Answer
    name: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelUpdated:
    """A registered model's description changed."""

    answer: Answer
    name: str
    description: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelRenamed:
    """A registered model has a new name; its versions and aliases keep their numbers."""

    answer: Answer
    name: str
    previous_name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelDeleted:
    """A registered model was deleted with its versions; their numbers are never reused."""

    answer: Answer
    name: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelTagsSet:
    """Tags of a registered model were set."""

    answer: Answer
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelTagsDeleted:
    """Tags of a registered model were deleted."""

    answer: Answer
    name: str
    keys: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionRegistered:
    """A model version exists. The event that downstream services subscribe to."""

    answer: Answer
    name: str
    version: int
    source: str
    run_id: str = ""
    model_id: str = ""
    digest: str = ""
    flavors: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    model_created: bool = False
    run_link: str = ""
    location: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionUpdated:
    """A version's description changed."""

    answer: Answer
    name: str
    version: int
    description: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionDeleted:
    """A version was deleted; aliases that pointed at it are gone."""

    answer: Answer
    name: str
    version: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionTagsSet:
    """Tags of a version were set."""

    answer: Answer
    name: str
    version: int
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionTagsDeleted:
    """Tags of a version were deleted."""

    answer: Answer
    name: str
    version: int
    keys: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMoved:
    """An alias points at a version."""

    answer: Answer
    name: str
    alias: str
    version: int
    previous_version: int | None = None
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasDeleted:
    """An alias is gone."""

    answer: Answer
    name: str
    alias: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTransitioned:
    """A version is in another stage."""

    answer: Answer
    name: str
    version: int
    stage: str
    previous_stage: str
    archived_versions: tuple[int, ...] = ()
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequested:
    """An endpoint is to serve a model from now on."""

    answer: Answer
    endpoint: str
    model: str
    follow: str = "latest"
    alias: str = ""
    version: int = 0
    target: str = "local"
    config: Mapping[str, str] = field(default_factory=dict)
    generation: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRemoved:
    """An endpoint is to go away."""

    answer: Answer
    endpoint: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookCreated:
    """An address is told of what happens in the model registry from now on."""

    answer: Answer
    webhook_id: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: str = ""
    status: str = "ACTIVE"
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookUpdated:
    """A webhook changed; this is all that it is now."""

    answer: Answer
    webhook_id: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: str = ""
    status: str = "ACTIVE"
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDeleted:
    """A webhook is told nothing more."""

    answer: Answer
    webhook_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected:
    """A request was refused; nothing changed."""

    answer: Answer
    request_type: str
    code: str
    message: str
    at: int
