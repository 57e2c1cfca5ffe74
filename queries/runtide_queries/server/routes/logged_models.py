"""Logged models: search, and one with its tags, params and metrics."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from runtide_queries.logged_models import LoggedModelDetail, get_logged_model
from runtide_queries.search import LoggedModelPage, LoggedModelSearch, search_logged_models
from runtide_queries.server.answers import Json
from runtide_queries.server.past import At, answer, state_of
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores


async def search(
    stores: AskStores,
    experiment_ids: Annotated[Sequence[str], Query()] = (),
    filter: str = "",  # noqa: A002  # MLflow's name of the parameter
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: str = "",
    at: At = "",
) -> Json:
    """Search logged models that are announced and not deleted, the newest first."""
    asked = LoggedModelSearch(
        experiment_ids=tuple(experiment_ids), filter=filter, page_size=page_size, page_token=page_token
    )
    state = await state_of(stores, at)
    return answer(await search_logged_models(state, asked), state)


async def get(stores: AskStores, model_id: str, deleted: bool = False, at: At = "") -> Json:
    """Get a logged model; a deleted one only when ``deleted`` is set."""
    state = await state_of(stores, at)
    return answer(await get_logged_model(state, model_id, allow_deleted=deleted), state)


ROUTES = (
    Route("GET", f"{API}/logged-models", search, Policy.READ, "Search logged models", answer=LoggedModelPage),
    Route(
        "GET",
        f"{API}/logged-models/{{model_id}}",
        get,
        Policy.READ,
        "Get a logged model",
        answer=LoggedModelDetail,
    ),
)
