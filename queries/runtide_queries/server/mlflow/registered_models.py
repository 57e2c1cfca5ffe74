"""Registered models and their aliases: the registrar decides about each write."""

from typing import Any

from runtide_queries.models import (
    RegisteredModelDetail,
    get_model_version_by_alias,
    get_model_with_latest,
)
from runtide_queries.search.registered_models import (
    MAX_REGISTERED_MODELS,
    RegisteredModelSearch,
    search_registered_models,
)
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.entities import given
from runtide_queries.server.mlflow.registry_entities import created_model, detail, model_version, registered_model
from runtide_queries.server.mlflow.registry_names import (
    checked_tags,
    known_alias,
    model_name,
    new_alias,
    rows_of_page,
    stage_of,
    tag_key,
    version_number,
)
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.requests import (
    CreateRegisteredModel,
    DeleteAlias,
    DeleteRegisteredModel,
    DeleteRegisteredModelTags,
    RenameRegisteredModel,
    SetAlias,
    SetRegisteredModelTags,
    UpdateRegisteredModel,
)


async def create(call: Call) -> Any:
    """Make a registered model under a free name."""
    request = CreateRegisteredModel(
        name=model_name(call), tags=checked_tags(call.pairs("tags")), description=call.text("description")
    )
    fact = await call.stores.commands.ask(request, actor=call.actor)
    return {"registered_model": created_model(fact)}


async def get(call: Call) -> Any:
    """Give a registered model."""
    return {"registered_model": detail(await known_model(call, model_name(call)))}


async def update(call: Call) -> Any:
    """Describe a registered model anew."""
    name = model_name(call)
    await call.stores.commands.ask(
        UpdateRegisteredModel(name=name, description=call.text("description")), actor=call.actor
    )
    return {"registered_model": detail(await known_model(call, name))}


async def rename(call: Call) -> Any:
    """Rename a registered model; its versions, tags and aliases go with it."""
    name, new_name = model_name(call), model_name(call, "new_name")
    await call.stores.commands.ask(RenameRegisteredModel(name=name, new_name=new_name), actor=call.actor)
    return {"registered_model": detail(await known_model(call, new_name))}


async def delete(call: Call) -> Any:
    """Delete a registered model with its versions."""
    await call.stores.commands.ask(DeleteRegisteredModel(name=model_name(call)), actor=call.actor)
    return {}


async def set_tag(call: Call) -> Any:
    """Set a tag of a registered model."""
    tags = checked_tags({call.text("key", required=True): call.text("value")})
    await call.stores.commands.ask(SetRegisteredModelTags(name=model_name(call), tags=tags), actor=call.actor)
    return {}


async def delete_tag(call: Call) -> Any:
    """Delete a tag of a registered model; one that is not there is no error."""
    request = DeleteRegisteredModelTags(name=model_name(call), keys=(tag_key(call),))
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def latest_versions(call: Call) -> Any:
    """Give the latest version of each stage, or of those asked for."""
    name, wanted = model_name(call), {stage_of(stage) for stage in call.texts("stages")}
    found = (await known_model(call, name)).versions
    versions = [model_version(one) for one in found if not wanted or one.stage in wanted]
    return {"model_versions": versions} if versions else {}


async def set_alias(call: Call) -> Any:
    """Point an alias at a version."""
    request = SetAlias(name=model_name(call), alias=new_alias(call), version=version_number(call))
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def delete_alias(call: Call) -> Any:
    """Delete an alias; one that is not there is no error."""
    request = DeleteAlias(name=model_name(call), alias=known_alias(call))
    await call.stores.commands.ask(request, actor=call.actor)
    return {}


async def get_by_alias(call: Call) -> Any:
    """Give the version that an alias points at; ``latest`` is the one with the greatest number."""
    name, alias = model_name(call), known_alias(call)
    await call.stores.fresh.catalogue()
    found = await get_model_version_by_alias(call.stores.postgres, name, alias)
    if found is None:
        versions = (await get_model_with_latest(call.stores.postgres, name)).versions
        if alias.lower() != "latest":
            raise InvalidRequest(f"Registered model alias {alias} not found.")
        if not versions:
            raise NotFound(f"Latest version not found for model {name}.")
        found = max(versions, key=lambda one: one.version)
    return {"model_version": model_version(found)}


async def search(call: Call) -> Any:
    """Search for registered models."""
    wanted = RegisteredModelSearch(
        filter=call.text("filter"),
        order_by=tuple(call.texts("order_by")),
        page_size=rows_of_page(call, 100, MAX_REGISTERED_MODELS),
        page_token=call.text("page_token"),
    )
    await call.stores.fresh.catalogue()
    page = await search_registered_models(call.stores.postgres, wanted)
    models = [
        registered_model(
            one.name, one.description, (one.created_at, one.updated_at), one.tags, one.aliases, one.latest_versions
        )
        for one in page.models
    ]
    return given(registered_models=models, next_page_token=page.next_page_token or None)


async def known_model(call: Call, name: str) -> RegisteredModelDetail:
    """Return a registered model as it is by now.

    Raises:
        NotFound: there is none of that name.
    """
    await call.stores.fresh.catalogue()
    return await get_model_with_latest(call.stores.postgres, name)


_ALIAS = "registered-models/alias"
ROUTES = (
    *call_routes("GET", "registered-models/search", search, Policy.READ, "Search for registered models"),
    *call_routes("POST", "registered-models/create", create, Policy.LOG, "Make a registered model"),
    *call_routes("GET", "registered-models/get", get, Policy.READ_OR_LOG, "Give a registered model"),
    *call_routes("PATCH", "registered-models/update", update, Policy.LOG, "Describe a registered model anew"),
    *call_routes("POST", "registered-models/rename", rename, Policy.OPERATE, "Rename a registered model"),
    *call_routes("DELETE", "registered-models/delete", delete, Policy.OPERATE, "Delete a registered model"),
    *call_routes("POST", "registered-models/set-tag", set_tag, Policy.LOG, "Tag a registered model"),
    *call_routes(
        "DELETE", "registered-models/delete-tag", delete_tag, Policy.OPERATE, "Delete a registered model's tag"
    ),
    *call_routes(
        "GET",
        "registered-models/get-latest-versions",
        latest_versions,
        Policy.READ_OR_LOG,
        "Give each stage's latest version",
    ),
    *call_routes(
        "POST",
        "registered-models/get-latest-versions",
        latest_versions,
        Policy.READ_OR_LOG,
        "Give each stage's latest version",
    ),
    *call_routes("GET", _ALIAS, get_by_alias, Policy.READ_OR_LOG, "Give the version that an alias points at"),
    *call_routes("POST", _ALIAS, set_alias, Policy.OPERATE, "Point an alias at a version"),
    *call_routes("DELETE", _ALIAS, delete_alias, Policy.OPERATE, "Delete an alias"),
)
