"""What an operator looks at: alive, ready, lag, metrics."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from runtide_queries.server.answers import Json
from runtide_queries.server.description import describe
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.readiness import Readiness, get_readiness
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import Health
from runtide_queries.server.stores import AskStores


async def health() -> Json:
    """Say that the process answers. Whether it can answer questions is /ready's matter."""
    return Json({"status": "ok"})


async def ready(stores: AskStores) -> Json:
    """Say how far behind each projection is; 503 with the reasons while a store or the log is away."""
    found = await get_readiness(stores)
    return Json(found, status_code=200 if found.ready else 503)


async def metrics(request: Request, stores: AskStores) -> Response:
    """Give the gateway's own metrics, with the projections' lag, in Prometheus' text format."""
    return Response(*await request.app.state.measures.exposition(stores))


async def openapi(request: Request) -> Json:
    """Describe this API (OpenAPI 3.1)."""
    return Json(described(request.app))


def described(app: FastAPI) -> dict[str, Any]:
    """Return the API's description, made at the first call."""
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


PROMETHEUS = "text/plain"
ROUTES = (
    Route("GET", f"{API}/health", health, Policy.OPEN, "Is the process alive?", answer=Health),
    Route(
        "GET",
        f"{API}/ready",
        ready,
        Policy.READ,
        "Can it answer, and how far behind is each projection?",
        answer=Readiness,
    ),
    Route("GET", "/metrics", metrics, Policy.READ, "Metrics for Prometheus", media=PROMETHEUS),
    Route("GET", f"{API}/metrics", metrics, Policy.READ, "Metrics for Prometheus", media=PROMETHEUS),
    Route("GET", f"{API}/openapi.json", openapi, Policy.READ, "This description", answer=dict[str, Any]),
)
