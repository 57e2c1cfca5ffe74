"""Registered models and endpoints."""

from typing import Annotated

from fastapi import Query

from runtide_queries import deployments, models
from runtide_queries.server.answers import Json
from runtide_queries.server.past import At, answer, known, state_of
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import Endpoints
from runtide_queries.server.stores import AskStores


async def list_models(
    stores: AskStores,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: str = "",
    prompts: bool = False,
    at: At = "",
) -> Json:
    """List registered models by name, with their aliases; with ``prompts`` MLflow's prompts, too, which lie among them."""
    state = await state_of(stores, at)
    page = await models.list_registered_models(state, page_size=page_size, page_token=page_token, prompts=prompts)
    return answer(page, state)


async def get_model(stores: AskStores, name: str, at: At = "") -> Json:
    """Get a registered model with its versions."""
    state = await state_of(stores, at)
    return answer(await known("model", name, state, models.get_registered_model(state, name)), state)


async def list_endpoints(stores: AskStores, at: At = "") -> Json:
    """List the endpoints that are wanted, each with its deployments, the newest first."""
    state = await state_of(stores, at)
    return answer({"endpoints": await deployments.list_endpoints(state)}, state)


ROUTES = (
    Route(
        "GET", f"{API}/models", list_models, Policy.READ, "List registered models", answer=models.RegisteredModelPage
    ),
    Route(
        "GET",
        f"{API}/models/{{name}}",
        get_model,
        Policy.READ,
        "Get a registered model",
        answer=models.RegisteredModelDetail,
    ),
    Route("GET", f"{API}/endpoints", list_endpoints, Policy.READ, "List endpoints and deployments", answer=Endpoints),
)
