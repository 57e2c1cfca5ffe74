"""The application: routes with their policies, errors, safety around everything."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from runtide.kafka import KafkaSettings
from runtide_queries.artifacts import ArtifactStorage
from runtide_queries.server import mlflow
from runtide_queries.server.access import Access, Forbidden, Unauthenticated
from runtide_queries.server.answers import error_answer, refusal
from runtide_queries.server.body_limits import body_limits
from runtide_queries.server.directory import Directory
from runtide_queries.server.measures import Measured, Measures
from runtide_queries.server.mlflow import unsupported
from runtide_queries.server.pages import ROUTES as PAGES
from runtide_queries.server.pages import failure_page, is_page
from runtide_queries.server.policy import attach, require_policies
from runtide_queries.server.routes import (
    artifacts,
    experiments,
    intake,
    logged_models,
    models,
    operations,
    past,
    quarantine,
    runs,
    sql,
    subscribe,
)
from runtide_queries.server.safety import Safety
from runtide_queries.server.settings import GatewaySettings
from runtide_queries.server.stores import open_stores
from runtide_schemas.errors import InvalidRequest, RuntideError

ROUTES = (
    *experiments.ROUTES,
    *runs.ROUTES,
    *logged_models.ROUTES,
    *models.ROUTES,
    *past.ROUTES,
    *subscribe.ROUTES,
    *operations.ROUTES,
    *quarantine.ROUTES,
    *sql.ROUTES,
    *intake.ROUTES,
    *artifacts.ROUTES,
    *mlflow.ROUTES,
    *PAGES,
)
_log = logging.getLogger(__name__)


def create_app(settings: GatewaySettings, kafka: KafkaSettings) -> FastAPI:
    """Return the gateway's application.

    Raises:
        FatalError: a setting is unsafe, or a route declares no policy.
    """
    settings.check()
    kept = ArtifactStorage(settings.artifacts, settings.artifact_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_stores(settings, kafka, kept) as stores:
            app.state.stores = stores
            yield

    app = FastAPI(
        title="Runtide",
        summary="Runs, metrics, models and deployments, read from the log's projections.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.measures = Measures()
    app.state.access = Access(settings, app.state.measures)
    attach(app, ROUTES)
    require_policies(app)
    app.router.middleware_stack = Directory(app.router.middleware_stack, app.routes)
    _answer_errors(app)
    app.add_middleware(Measured, measures=app.state.measures)
    app.add_middleware(
        Safety,
        hosts=settings.hosts,
        most_body_bytes=body_limits(ROUTES, settings.max_body_bytes),
        body_gap_s=settings.body_gap_seconds,
    )
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(RuntideError)
    async def ours(request: Request, error: RuntideError) -> Response:
        if not isinstance(error, InvalidRequest):
            _log.warning("%s %s: %s", request.method, request.url.path, error)
        return _answer(request, error_answer(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        place = ".".join(str(part) for part in found["loc"][1:]) or "body"
        message = f"Invalid value for parameter '{place}': {found['msg']}"
        return _answer(request, refusal("INVALID_PARAMETER_VALUE", message), message)

    @app.exception_handler(Unauthenticated)
    async def unauthenticated(request: Request, error: Unauthenticated) -> Response:
        headers = {"WWW-Authenticate": 'Basic realm="runtide"'}
        return _answer(request, refusal("UNAUTHENTICATED", str(error), headers=headers), str(error))

    @app.exception_handler(Forbidden)
    async def forbidden(request: Request, error: Forbidden) -> Response:
        return _answer(request, refusal("PERMISSION_DENIED", str(error)), str(error))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        known = {404: "ENDPOINT_NOT_FOUND", 405: "ENDPOINT_NOT_FOUND"}
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        if hint := unsupported.about(request.url.path):
            message += f". {hint}"
        code = known.get(error.status_code, "BAD_REQUEST")
        return _answer(request, refusal(code, message, status=error.status_code, headers=error.headers), message)


def _answer(request: Request, answer: Response, message: str) -> Response:
    """Return an error as a page where a person is looking."""
    if not is_page(request):
        return answer
    shown = failure_page(answer.status_code, message)
    if challenge := answer.headers.get("www-authenticate"):
        shown.headers["www-authenticate"] = challenge
    return shown
