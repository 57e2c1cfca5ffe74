"""Experiments."""

from typing import Annotated

from fastapi import Query

from runtide_queries import experiments
from runtide_queries.server.answers import Json
from runtide_queries.server.past import At, answer, known, state_of
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores


async def list_experiments(
    stores: AskStores,
    name: str = "",
    include_deleted: bool = False,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 1000,
    page_token: str = "",
    at: At = "",
) -> Json:
    """List experiments by id, or the one named ``name``."""
    state = await state_of(stores, at)
    if name:
        found = await experiments.get_experiment_by_name(state, name)
        return answer(experiments.ExperimentPage(experiments=(found,), next_page_token=""), state)
    stages = experiments.ALL_STAGES if include_deleted else experiments.ACTIVE
    page = await experiments.list_experiments(
        state, lifecycle_stages=stages, page_size=page_size, page_token=page_token
    )
    return answer(page, state)


async def get_experiment(stores: AskStores, experiment_id: str, at: At = "") -> Json:
    """Get an experiment with its tags."""
    state = await state_of(stores, at)
    found = await known("experiment", experiment_id, state, experiments.get_experiment(state, experiment_id))
    return answer(found, state)


ROUTES = (
    Route(
        "GET",
        f"{API}/experiments",
        list_experiments,
        Policy.READ,
        "List experiments",
        answer=experiments.ExperimentPage,
    ),
    Route(
        "GET",
        f"{API}/experiments/{{experiment_id}}",
        get_experiment,
        Policy.READ,
        "Get an experiment",
        answer=experiments.ExperimentDetail,
    ),
)
