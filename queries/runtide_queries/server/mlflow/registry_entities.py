"""Registered models and their versions as MLflow's API writes them: numbers of versions are text."""

from collections.abc import Mapping, Sequence
from typing import Any

from runtide_queries.models import ModelVersion, RegisteredModelDetail
from runtide_queries.server.mlflow.entities import given, tags_of
from runtide_schemas.events.catalog import ModelVersionRegistered, RegisteredModelCreated


def detail(found: RegisteredModelDetail) -> dict[str, Any]:
    """Return a registered model with its latest versions."""
    model = found.model
    times = (model.created_at or 0, model.updated_at or 0)
    return registered_model(model.name, model.description or "", times, found.tags, model.aliases, found.versions)


def registered_model(
    name: str,
    description: str,
    times: tuple[int, int],
    tags: Mapping[str, str],
    aliases: Mapping[str, int],
    latest: Sequence[ModelVersion],
) -> dict[str, Any]:
    """Return a registered model; ``times``: when it was made and last changed, Unix milliseconds."""
    created_at, updated_at = times
    return given(
        name=name,
        creation_timestamp=created_at,
        last_updated_timestamp=updated_at,
        description=description or None,
        latest_versions=[model_version(one) for one in latest],
        tags=tags_of(tags),
        aliases=[{"alias": alias, "version": str(version)} for alias, version in aliases.items()],
    )


def created_model(fact: RegisteredModelCreated) -> dict[str, Any]:
    """Return a registered model as it was made."""
    return registered_model(fact.name, fact.description, (fact.at, fact.at), fact.tags, {}, ())


def model_version(found: ModelVersion) -> dict[str, Any]:
    """Return a version with its tags and aliases."""
    return given(
        name=found.name,
        version=str(found.version),
        creation_timestamp=found.created_at or 0,
        last_updated_timestamp=found.updated_at or 0,
        description=found.description or "",
        current_stage=found.stage or "None",
        source=found.source or "",
        run_id=found.run_id or "",
        run_link=found.run_link or "",
        status="READY",
        tags=tags_of(found.tags),
        aliases=list(found.aliases),
    )


def created_version(fact: ModelVersionRegistered) -> dict[str, Any]:
    """Return a version as it was registered."""
    return model_version(
        ModelVersion(
            name=fact.name,
            version=fact.version,
            source=fact.source,
            run_id=fact.run_id,
            model_id=fact.model_id,
            digest=fact.digest,
            flavors=fact.flavors,
            description=fact.description,
            stage="None",
            created_at=fact.at,
            updated_at=fact.at,
            tags=fact.tags,
            run_link=fact.run_link,
            aliases=fact.aliases,
        )
    )
