"""What an operator looks at: alive, ready, lag, metrics."""

from fastapi import Request
from starlette.responses import Response

from runtide_queries.server.answers import Json
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.readiness import get_readiness
from runtide_queries.server.routes import API
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
    return Json(request.app.openapi())


ROUTES = (
    Route("GET", f"{API}/health", health, Policy.OPEN, "Is the process alive?"),
    Route("GET", f"{API}/ready", ready, Policy.READ, "Can it answer, and how far behind is each projection?"),
    Route("GET", "/metrics", metrics, Policy.READ, "Metrics for Prometheus"),
    Route("GET", f"{API}/metrics", metrics, Policy.READ, "Metrics for Prometheus"),
    Route("GET", f"{API}/openapi.json", openapi, Policy.READ, "This description"),
)
