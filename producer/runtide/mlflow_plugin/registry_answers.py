"""The gateway's registered models and the registrar's facts as MLflow's entities."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities.model_registry import (
    ModelVersion,
    ModelVersionTag,
    RegisteredModel,
    RegisteredModelAlias,
    RegisteredModelTag,
)

from runtide_schemas.events.catalog import ModelVersionRegistered, RegisteredModelCreated


def model_of(told: Mapping[str, Any]) -> RegisteredModel:
    """Return a registered model with the newest version of each stage, as the gateway tells of one."""
    model = told["model"]
    return RegisteredModel(
        name=model["name"],
        creation_timestamp=model["created_at"],
        last_updated_timestamp=model["updated_at"],
        description=model["description"] or "",
        latest_versions=list(newest_by_stage(versions_of(told)).values()),
        tags=[RegisteredModelTag(key, value) for key, value in told["tags"].items()],
        aliases=[RegisteredModelAlias(alias, str(version)) for alias, version in model["aliases"].items()],
    )


def versions_of(told: Mapping[str, Any]) -> list[ModelVersion]:
    """Return the versions of a registered model, the newest first."""
    aliases: dict[int, list[str]] = {}
    for alias, version in told["model"]["aliases"].items():
        aliases.setdefault(version, []).append(alias)
    return [
        ModelVersion(
            name=version["name"],
            version=str(version["version"]),
            creation_timestamp=version["created_at"],
            last_updated_timestamp=version["updated_at"],
            description=version["description"] or "",
            current_stage=version["stage"] or "None",
            source=version["source"],
            run_id=version["run_id"] or "",
            tags=[ModelVersionTag(key, value) for key, value in version["tags"].items()],
            aliases=aliases.get(version["version"], []),
            model_id=version["model_id"] or None,
        )
        for version in told["versions"]
    ]


def newest_by_stage(versions: list[ModelVersion]) -> dict[str, ModelVersion]:
    """Return the highest version of each stage; they come the newest first."""
    newest: dict[str, ModelVersion] = {}
    for version in versions:
        newest.setdefault(str(version.current_stage), version)
    return newest


def created_model(fact: RegisteredModelCreated) -> RegisteredModel:
    """Return the model that a fact says was made."""
    return RegisteredModel(
        name=fact.name,
        creation_timestamp=fact.at,
        last_updated_timestamp=fact.at,
        description=fact.description,
        latest_versions=[],
        tags=[RegisteredModelTag(key, value) for key, value in fact.tags.items()],
        aliases=[],
    )


def registered_version(fact: ModelVersionRegistered) -> ModelVersion:
    """Return the version that a fact says was registered."""
    return ModelVersion(
        name=fact.name,
        version=str(fact.version),
        creation_timestamp=fact.at,
        last_updated_timestamp=fact.at,
        description=fact.description,
        current_stage="None",
        source=fact.source,
        run_id=fact.run_id,
        tags=[ModelVersionTag(key, value) for key, value in fact.tags.items()],
        aliases=list(fact.aliases),
        model_id=fact.model_id or None,
    )
