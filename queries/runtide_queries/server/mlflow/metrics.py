"""Histories of metrics, from DuckDB: each distinct point once, in MLflow's order."""

from typing import Any

from runtide_queries.metric_points import Sampled, bulk_points, history_page, sampled_points
from runtide_queries.pages import decode_token, encode_token
from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.mlflow.entities import given, points
from runtide_queries.server.mlflow.validation import is_run_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest

MOST_RUNS = 100
_BULK = "GetMetricHistoryBulk request"
MOST_BULK = 25_000
MOST_SAMPLED = 2_500
MOST_IN_A_PAGE = 1_000_000


async def get_history(call: Call) -> Any:
    """Give a metric's points by timestamp, step and value: all, or a page of them."""
    run_id = call.run_id()
    key = call.text("metric_key", required=True)
    most = call.optional_integer("max_results")
    if most is not None and most <= 0:
        raise InvalidRequest(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer."
        )
    if not is_run_id(run_id):
        return {}
    token = call.text("page_token")
    after = decode_token(_scope(run_id, key), token, [int, int, str]) if token else None
    await call.stores.fresh_history.points()
    page = await history_page(call.stores.history, run_id, key, after, min(most or MOST_IN_A_PAGE, MOST_IN_A_PAGE))
    return given(
        metrics=points(key, page.points) if page.points.values else None,
        next_page_token=encode_token(_scope(run_id, key), page.next_after) if page.next_after else None,
    )


async def get_history_bulk(call: Call) -> Any:
    """Give the points of one metric of several runs."""
    run_ids = _runs(call, "run_id", f"{_BULK} cannot specify more than")
    if not run_ids:
        raise InvalidRequest(f"{_BULK} must specify at least one run_id.")
    key = call.text("metric_key")
    if not key:
        raise InvalidRequest(f"{_BULK} must specify a metric_key.")
    if (most := min(call.integer("max_results", default=MOST_BULK), MOST_BULK)) < 0:
        raise call.wrong("max_results", "It must not be negative.")
    await call.stores.fresh_history.points()
    return {"metrics": points(key, await bulk_points(call.stores.history, run_ids, key, most))}


async def get_history_bulk_interval(call: Call) -> Any:
    """Give evenly spaced points of one metric of several runs, with the first and last of each."""
    run_ids = _runs(call, "run_ids", "GetMetricHistoryBulkInterval request must specify at most", required=True)
    key = call.text("metric_key", required=True)
    most = call.integer("max_results", default=MOST_SAMPLED)
    if not 1 <= most <= MOST_SAMPLED:
        raise InvalidRequest(f"max_results must be between 1 and {MOST_SAMPLED}.")
    start, end = call.optional_integer("start_step"), call.optional_integer("end_step")
    if (start is None) != (end is None):
        raise InvalidRequest("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise InvalidRequest(f"end_step must be greater than start_step. Found start_step={start} and end_step={end}.")
    await call.stores.fresh_history.points()
    asked = Sampled(run_ids=run_ids, key=key, start=start, end=end, most=most)
    found = await sampled_points(call.stores.history, asked)
    return given(metrics=points(key, found) if found.values else None)


def _runs(call: Call, name: str, limit: str, *, required: bool = False) -> list[str]:
    """Return the runs that are asked about; ``limit``: MLflow's words for how many that may be."""
    found = call.texts(name, required=required)
    if len(found) > MOST_RUNS:
        raise InvalidRequest(f"{limit} {MOST_RUNS} run_ids. Received {len(found)} run_ids.")
    return found


def _scope(run_id: str, key: str) -> str:
    return f"points {run_id} {key}"


ROUTES = (
    *call_routes("GET", "metrics/get-history", get_history, Policy.READ_OR_LOG, "Give a metric's points"),
    *call_routes(
        "GET", "metrics/get-history-bulk", get_history_bulk, Policy.READ, "Give a metric's points in several runs"
    ),
    *call_routes(
        "GET", "metrics/get-history-bulk-interval", get_history_bulk_interval, Policy.READ, "Give evenly spaced points"
    ),
)
