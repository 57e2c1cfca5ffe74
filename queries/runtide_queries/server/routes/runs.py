"""Runs: search, one run, its curves, its completeness, its events, and several side by side."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

from runtide_queries import comparison, completeness, experiments, history, runs
from runtide_queries.search import RunPage, RunSearch, search_runs
from runtide_queries.server.answers import Json
from runtide_queries.server.events import event_json
from runtide_queries.server.past import At, answer, known, state_of
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import MetricHistory, RunEvents
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.limits import check_run_id

MAX_EVENTS = 10_000


async def search(
    stores: AskStores,
    experiment: str = "",
    experiment_ids: Annotated[Sequence[str], Query()] = (),
    status: str = "",
    name: str = "",
    id_prefix: str = "",
    filter: str = "",  # noqa: A002  # MLflow's name of the parameter
    order_by: Annotated[Sequence[str], Query()] = (),
    lifecycle: Literal["active", "deleted", "purged", "all"] = "active",
    models: bool = False,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: str = "",
    at: At = "",
) -> Json:
    """Search runs; ``experiment`` is an id or a name, ``order_by`` may be repeated; with ``models`` come those they took and made."""
    state = await state_of(stores, at)
    ids = tuple(experiment_ids)
    if experiment:
        ids += ((await experiments.find_experiment(state, experiment)).experiment_id,)
    asked = RunSearch(
        experiment_ids=ids,
        status=status,
        name=name,
        id_prefix=id_prefix,
        filter=filter,
        order_by=tuple(term for term in order_by if term),
        lifecycle=lifecycle,
        with_models=models,
        page_size=page_size,
        page_token=page_token,
    )
    return answer(await search_runs(state, asked), state)


async def get_run(stores: AskStores, run_id: str, at: At = "") -> Json:
    """Get a run with params, tags, metric summaries, inputs, artifacts, models and writers."""
    state = await state_of(stores, at, run_id=check_run_id(run_id))
    return answer(await known("run", run_id, state, runs.get_run(state, run_id)), state)


async def get_metric(
    stores: AskStores,
    run_id: str,
    key: str,
    points: Annotated[int, Query(ge=0, le=history.MAX_BUCKETS)] = 0,
    by: Literal["run", "writer"] = "run",
) -> Json:
    """Get a curve: every point, or with ``points`` that many spans of steps with minimum, maximum, mean and last.

    ``by=writer`` gives a curve for each writer, with its rank and host, of 100 spans unless ``points`` says otherwise.
    """
    check_run_id(run_id)
    found: dict[str, Any]
    if by == "writer":
        each = await history.writer_curves(stores.history, run_id, key, buckets=points or 100)
        total = sum(bucket.points for curve in each for bucket in curve.buckets)
        found = {"run_id": run_id, "key": key, "total": total, "writers": each}
    elif points:
        buckets = await history.curve(stores.history, run_id, key, buckets=points)
        total = sum(bucket.points for bucket in buckets)
        found = {"run_id": run_id, "key": key, "total": total, "buckets": buckets}
    else:
        every = await history.metric_history(stores.history, run_id, key)
        found = {"run_id": run_id, "key": key, "total": len(every), "points": every}
    if not found["total"]:
        await runs.get_run(stores.postgres, run_id)
    return Json(found)


async def get_completeness(stores: AskStores, run_id: str) -> Json:
    """Say whether everything of a run is here, per writer and topic."""
    return Json(await completeness.get_completeness(stores.postgres, stores.history, check_run_id(run_id)))


async def get_events(
    stores: AskStores,
    run_id: str,
    metrics: bool = True,
    most: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 1000,
) -> Json:
    """Read the first events of a run from the log, in time order."""
    found, truncated = await stores.log.first_events(check_run_id(run_id), most, metrics=metrics)
    if not found:
        raise runs.unknown_run(run_id)
    return Json({"run_id": run_id, "events": [event_json(event) for event in found], "truncated": truncated})


async def compare(
    stores: AskStores,
    runs: str = "",
    keys: str = "",
    points: Annotated[int, Query(ge=1, le=history.MAX_BUCKETS)] = 100,
) -> Json:
    """Compare runs side by side; ``runs`` and ``keys`` (metrics whose curves are wanted) are comma-separated."""
    if not (run_ids := [check_run_id(run_id) for run_id in runs.split(",") if run_id]):
        raise InvalidRequest("Missing value for required parameter 'runs': give run ids, separated by commas")
    wanted = [key for key in keys.split(",") if key]
    return Json(await comparison.compare(stores.history, run_ids, keys=wanted, points=points))


ROUTES = (
    Route("GET", f"{API}/runs", search, Policy.READ, "Search runs", answer=RunPage),
    Route("GET", f"{API}/runs/{{run_id}}", get_run, Policy.READ, "Get a run", answer=runs.RunDetail),
    Route(
        "GET",
        f"{API}/runs/{{run_id}}/metrics/{{key:path}}",
        get_metric,
        Policy.READ,
        "Get a metric's history",
        answer=MetricHistory,
    ),
    Route(
        "GET",
        f"{API}/runs/{{run_id}}/completeness",
        get_completeness,
        Policy.READ,
        "Is the run all here?",
        answer=completeness.Completeness,
    ),
    Route(
        "GET",
        f"{API}/runs/{{run_id}}/events",
        get_events,
        Policy.READ,
        "Get a run's events from the log",
        answer=RunEvents,
    ),
    Route("GET", f"{API}/compare", compare, Policy.READ, "Compare runs", answer=comparison.Comparison),
)
