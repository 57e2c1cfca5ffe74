"""The route table: each route declares a policy and is checked by it, and nothing else is served."""

import hashlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import SecretStr
from starlette.types import Message

from runtide.kafka import KafkaSettings
from runtide_queries.server.access import Access
from runtide_queries.server.app import ROUTES, create_app
from runtide_queries.server.body_limits import body_limits
from runtide_queries.server.measures import Measures
from runtide_queries.server.policy import (
    OPENED_BY,
    Policy,
    Route,
    attach,
    check,
    policy_of,
    require_policies,
    shows_full_token,
)
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import FatalError

TOKEN = "correct horse"
HEALTH = "/api/runtide/v1/health"


def app_with(**settings: object) -> FastAPI:
    given = {"dsn": SecretStr("postgresql://127.0.0.1:1/none"), **settings}
    return create_app(GatewaySettings.model_validate(given), KafkaSettings(bootstrap="127.0.0.1:1"))


@pytest.fixture(scope="module")
def guarded() -> FastAPI:
    """An app with a token; making one takes a while, with so many routes."""
    return app_with(token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())


@pytest.fixture
async def client(guarded: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(guarded)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5050") as client:
        yield client


def test_every_route_declares_its_policy() -> None:
    app = app_with()
    assert {(route.path, policy_of(route)) for route in app.routes} == {(route.path, route.policy) for route in ROUTES}  # type: ignore[attr-defined]  # all are of starlette's kinds with a path
    assert set(OPENED_BY) == set(Policy)


def test_what_is_open_tells_nothing_of_anyones_work() -> None:
    opened = {route.path for route in ROUTES if route.policy is Policy.OPEN}
    about_the_server = {"/version", "/health", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"}
    assert opened - about_the_server == {
        HEALTH,
        "/static/style.css",
        "/static/icon.svg",
    }


def test_an_undeclared_route_keeps_the_gateway_from_starting() -> None:
    app = FastAPI(openapi_url=None)
    attach(app, ROUTES[:1])
    require_policies(app)
    app.add_api_route("/secret", lambda: "x")
    with pytest.raises(FatalError, match="/secret"):
        require_policies(app)


def test_a_declaration_without_its_check_is_none() -> None:
    app = FastAPI(openapi_url=None)
    app.add_api_route("/secret", lambda: "x", openapi_extra={"x-runtide-policy": "read"})
    with pytest.raises(FatalError, match="/secret"):
        require_policies(app)


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.policy is not Policy.OPEN],
    ids=lambda route: f"{route.method} {route.path}",
)
async def test_no_byte_of_a_body_is_read_before_the_token_is_seen(guarded: FastAPI, route: Route) -> None:
    path = re.sub(r"{\w+}", "0" * 64, route.path.replace(":path", ""))
    scope: dict[str, object] = {
        "type": "http", "http_version": "1.1", "method": route.method, "path": path, "query_string": b"", "root_path": "",
        "scheme": "http", "server": ("localhost", 5050), "client": ("127.0.0.1", 9),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"900")],
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    await guarded(scope, receive, send)
    assert statuses[0] == 401


async def test_who_shows_the_full_token() -> None:
    token, log_token = (hashlib.sha256(text.encode()).hexdigest() for text in (TOKEN, "log"))
    for settings, full in (
        (GatewaySettings(), {"wrong", "log", TOKEN}),
        (GatewaySettings(token_sha256=token, log_token_sha256=log_token), {TOKEN}),
    ):
        app = FastAPI()
        app.state.access = Access(settings, Measures())
        for shown in ("log", TOKEN):
            header = (b"authorization", f"Bearer {shown}".encode())
            request = Request({"type": "http", "app": app, "headers": [header]})
            check(request, Policy.LOG)
            assert shows_full_token(request) == (shown in full)


def test_beyond_loopback_a_token_is_required() -> None:
    with pytest.raises(FatalError, match="RUNTIDE_GATEWAY_TOKEN_SHA256"):
        app_with(host="0.0.0.0")
    app_with(host="0.0.0.0", token_sha256="0" * 64)
    for loopback in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        app_with(host=loopback)


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/api/2.0/mlflow/runs/none", "/runs/", "/nothing", "/static/../x"]
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert reply.status_code == 404
    assert reply.json()["error_code"] == "ENDPOINT_NOT_FOUND"


@pytest.mark.parametrize(("path", "told"), [("/api/3.0/mlflow/scorers/list", True), ("/api/runtide/v1/scorers", False)])
async def test_what_of_mlflows_api_is_not_there_is_told_with_what_is(
    client: httpx.AsyncClient, path: str, told: bool
) -> None:
    reply = await client.get(path)
    assert (reply.status_code, "logged models, the registry" in reply.json()["message"]) == (404, told)


async def test_another_method_is_refused_with_a_reason(client: httpx.AsyncClient) -> None:
    reply = await client.delete(HEALTH)
    assert reply.status_code == 405
    assert "Method Not Allowed" in reply.json()["message"]


async def test_a_route_may_take_larger_bodies_than_others() -> None:
    limit_of = body_limits([Route("PUT", "/files/{path:path}", lambda: "x", Policy.LOG, "", most_body_bytes=99)], 7)
    asked = [("PUT", "/files/a/b"), ("GET", "/files/a/b"), ("PUT", "/other")]
    assert [limit_of({"method": method, "path": path}) for method, path in asked] == [99, 7, 7]
