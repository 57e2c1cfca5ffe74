"""Versions of registered models: the registrar numbers them and decides about each write."""

import json
from typing import Any

from runtide_queries.logged_models import LoggedModelInfo
from runtide_queries.models import ModelVersion, get_model_version, list_versions_of_logged_model
from runtide_queries.search.model_versions import MAX_MODEL_VERSIONS, ModelVersionSearch, search_model_versions
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.entities import given
from runtide_queries.server.mlflow.registry_entities import created_version, model_version
from runtide_queries.server.mlflow.registry_names import checked_tags, model_name, rows_of_page, tag_key, version_number
from runtide_queries.server.mlflow.version_sources import PROMPT_TAG, check_prompt_source, checked_source
from runtide_queries.server.policy import Policy
from runtide_schemas.events.logged_models import LoggedModelTagsSet
from runtide_schemas.events.requests import (
    DeleteModelVersion,
    DeleteModelVersionTags,
    RegisterModelVersion,
    SetModelVersionTags,
    TransitionStage,
    UpdateModelVersion,
)
from runtide_schemas.identity import now_ms

_VERSIONS_TAG = "mlflow.modelVersions"


async def create(call: Call) -> Any:
    """Register the next version of a model."""
    name, uri, tags = model_name(call), call.text("source", required=True), checked_tags(call.pairs("tags"))
    is_prompt = tags.get(PROMPT_TAG, "false").lower() == "true"
    source = check_prompt_source(uri) if is_prompt else await checked_source(call, uri)
    request = RegisterModelVersion(
        name=name,
        source=source.uri,
        run_id=source.run_id,
        model_id=source.model_id,
        digest=source.digest,
        flavors=source.flavors,
        description=call.text("description"),
        tags=tags,
        create_model=False,
        run_link=call.text("run_link"),
        location=source.location,
    )
    fact = await call.stores.commands.ask(request, actor=call.actor)
    if source.model is not None:
        await _tag_model(call, source.model.info)
    return {"model_version": created_version(fact)}


async def get(call: Call) -> Any:
    """Give a version."""
    return {"model_version": model_version(await _known(call))}


async def update(call: Call) -> Any:
    """Describe a version anew."""
    request = UpdateModelVersion(
        name=model_name(call), version=version_number(call), description=call.text("description")
    )
    await call.stores.commands.ask(request, actor=call.actor)
    return {"model_version": model_version(await _known(call))}


async def delete(call: Call) -> Any:
    """Delete a version; its aliases go with it, and its number is never used again."""
    request = DeleteModelVersion(name=model_name(call), version=version_number(call))
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def transition_stage(call: Call) -> Any:
    """Move a version to a stage, and those that are there to the archive when that is asked for."""
    request = TransitionStage(
        name=model_name(call),
        version=version_number(call),
        stage=call.text("stage", required=True),
        archive_existing=call.flag("archive_existing_versions"),
    )
    await call.stores.commands.ask(request, actor=call.actor)
    return {"model_version": model_version(await _known(call))}


async def download_uri(call: Call) -> Any:
    """Say where a version's files lie."""
    return {"artifact_uri": (await _known(call)).files}


async def set_tag(call: Call) -> Any:
    """Set a tag of a version."""
    tags = checked_tags({call.text("key", required=True): call.text("value")})
    request = SetModelVersionTags(name=model_name(call), version=version_number(call), tags=tags)
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def delete_tag(call: Call) -> Any:
    """Delete a tag of a version; one that is not there is no error."""
    request = DeleteModelVersionTags(name=model_name(call), version=version_number(call), keys=(tag_key(call),))
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def search(call: Call) -> Any:
    """Search for versions."""
    wanted = ModelVersionSearch(
        filter=call.text("filter"),
        order_by=tuple(call.texts("order_by")),
        page_size=rows_of_page(call, MAX_MODEL_VERSIONS, MAX_MODEL_VERSIONS),
        page_token=call.text("page_token"),
    )
    await call.stores.fresh.catalogue()
    page = await search_model_versions(call.stores.postgres, wanted)
    versions = [model_version(one) for one in page.versions]
    return given(model_versions=versions, next_page_token=page.next_page_token or None)


async def _tag_model(call: Call, model: LoggedModelInfo) -> None:
    """List on a logged model what it was registered as, where MLflow's pages look for it."""
    await call.stores.fresh.catalogue()
    found = await list_versions_of_logged_model(call.stores.postgres, model.model_id)
    tags = {_VERSIONS_TAG: json.dumps([{"name": name, "version": version} for name, version in found])}
    body = LoggedModelTagsSet(run_id=model.run_id, model_id=model.model_id, tags=tags, at=now_ms())
    await call.stores.commands.state(body, actor=call.actor)


async def _known(call: Call) -> ModelVersion:
    """Return the version that a call is about as it is by now.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    name, version = model_name(call), version_number(call)
    await call.stores.fresh.catalogue()
    return await get_model_version(call.stores.postgres, name, version)


_STAGE = "model-versions/transition-stage"
ROUTES = (
    *call_routes("GET", "model-versions/search", search, Policy.READ, "Search for versions"),
    *call_routes("POST", "model-versions/create", create, Policy.LOG, "Register the next version of a model"),
    *call_routes("GET", "model-versions/get", get, Policy.READ_OR_LOG, "Give a version"),
    *call_routes("PATCH", "model-versions/update", update, Policy.LOG, "Describe a version anew"),
    *call_routes("DELETE", "model-versions/delete", delete, Policy.OPERATE, "Delete a version"),
    *call_routes("POST", _STAGE, transition_stage, Policy.OPERATE, "Move a version to a stage"),
    *call_routes(
        "GET", "model-versions/get-download-uri", download_uri, Policy.READ_OR_LOG, "Say where a version's files lie"
    ),
    *call_routes("POST", "model-versions/set-tag", set_tag, Policy.LOG, "Tag a version"),
    *call_routes("DELETE", "model-versions/delete-tag", delete_tag, Policy.OPERATE, "Delete a version's tag"),
)
