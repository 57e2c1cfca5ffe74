"""What happened to an entity, and what that changed between two moments."""

from typing import Annotated

from fastapi import Query

from runtide_queries.past.differences import Differences, compare_moments
from runtide_queries.past.events import HistoryPage, Kind, list_history
from runtide_queries.past.positions import MAX_LENGTH
from runtide_queries.server.answers import Json
from runtide_queries.server.past import At, answer, past_of
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores, Stores
from runtide_schemas.limits import check_run_id

From = Annotated[
    str, Query(alias="from", min_length=1, max_length=MAX_LENGTH, description="The earlier moment, as at.")
]
To = Annotated[str, Query(alias="to", max_length=MAX_LENGTH, description="The later moment, as at; now when left out.")]
PageSize = Annotated[int, Query(ge=1, le=1000)]


async def run_history(
    stores: AskStores, run_id: str, at: At = "", page_size: PageSize = 100, page_token: str = ""
) -> Json:
    """List a run's events, metrics left out, with who and why, the newest first."""
    return await _history(stores, "run", check_run_id(run_id), at, page_size, page_token)


async def experiment_history(
    stores: AskStores, experiment_id: str, at: At = "", page_size: PageSize = 100, page_token: str = ""
) -> Json:
    """List an experiment's events with who and why, the newest first."""
    return await _history(stores, "experiment", experiment_id, at, page_size, page_token)


async def model_history(
    stores: AskStores, name: str, at: At = "", page_size: PageSize = 100, page_token: str = ""
) -> Json:
    """List a registered model's events with who and why, the newest first."""
    return await _history(stores, "model", name, at, page_size, page_token)


async def endpoint_history(
    stores: AskStores, name: str, at: At = "", page_size: PageSize = 100, page_token: str = ""
) -> Json:
    """List an endpoint's events, its deployments' too, with who and why, the newest first."""
    return await _history(stores, "endpoint", name, at, page_size, page_token)


async def run_diff(stores: AskStores, run_id: str, earlier: From, later: To = "now") -> Json:
    """Say what changed in a run between two moments, and which event did it."""
    return await _diff(stores, "run", check_run_id(run_id), earlier, later)


async def experiment_diff(stores: AskStores, experiment_id: str, earlier: From, later: To = "now") -> Json:
    """Say what changed in an experiment between two moments, and which event did it."""
    return await _diff(stores, "experiment", experiment_id, earlier, later)


async def model_diff(stores: AskStores, name: str, earlier: From, later: To = "now") -> Json:
    """Say what changed in a registered model between two moments, and which event did it."""
    return await _diff(stores, "model", name, earlier, later)


async def endpoint_diff(stores: AskStores, name: str, earlier: From, later: To = "now") -> Json:
    """Say what changed at an endpoint between two moments, and which event did it."""
    return await _diff(stores, "endpoint", name, earlier, later)


async def _history(stores: Stores, kind: Kind, entity: str, at: str, page_size: int, page_token: str) -> Json:
    past = await past_of(stores, at)
    return answer(await list_history(past, kind, entity, page_size=page_size, page_token=page_token), past)


async def _diff(stores: Stores, kind: Kind, entity: str, earlier: str, later: str) -> Json:
    run_id = entity if kind == "run" else ""
    before, after = await past_of(stores, earlier, run_id=run_id), await past_of(stores, later, run_id=run_id)
    return Json(await compare_moments(kind, entity, before, after))


_OF_RUN, _OF_EXPERIMENT = f"{API}/runs/{{run_id}}", f"{API}/experiments/{{experiment_id}}"
_OF_MODEL, _OF_ENDPOINT = f"{API}/models/{{name}}", f"{API}/endpoints/{{name}}"
ROUTES = (
    Route("GET", f"{_OF_RUN}/history", run_history, Policy.READ, "List a run's events", answer=HistoryPage),
    Route(
        "GET",
        f"{_OF_EXPERIMENT}/history",
        experiment_history,
        Policy.READ,
        "List an experiment's events",
        answer=HistoryPage,
    ),
    Route(
        "GET",
        f"{_OF_MODEL}/history",
        model_history,
        Policy.READ,
        "List a registered model's events",
        answer=HistoryPage,
    ),
    Route(
        "GET", f"{_OF_ENDPOINT}/history", endpoint_history, Policy.READ, "List an endpoint's events", answer=HistoryPage
    ),
    Route(
        "GET", f"{_OF_RUN}/diff", run_diff, Policy.READ, "What changed in a run between two moments", answer=Differences
    ),
    Route(
        "GET",
        f"{_OF_EXPERIMENT}/diff",
        experiment_diff,
        Policy.READ,
        "What changed in an experiment",
        answer=Differences,
    ),
    Route(
        "GET", f"{_OF_MODEL}/diff", model_diff, Policy.READ, "What changed in a registered model", answer=Differences
    ),
    Route("GET", f"{_OF_ENDPOINT}/diff", endpoint_diff, Policy.READ, "What changed at an endpoint", answer=Differences),
)
