"""A walk over the route table: whoever adds a route is held to the policy that it declares, for each kind of caller.

What answers behind the door is replaced, so that nothing but the door is tested: a route that lets somebody in says so.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import compile_path

from runtide_queries.server import app as app_module
from runtide_queries.server.app import ROUTES
from runtide_queries.server.policy import OPENED_BY, Policy, policy_of
from tests.gateway_access import OPENS, Callers, ask, filled, make_callers, named
from tests.unit.test_queries_routes import app_with

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
REFUSED = {"nobody": 401, "wrong": 401, "expired": 401, "revoked": 401, "read": 403, "log": 403, "static log": 403}
LET_IN = 299


async def let_in(request: Request) -> Response:
    return Response(status_code=LET_IN)


@pytest.fixture
def callers(tmp_path: Path) -> Callers:
    return make_callers(tmp_path)


@pytest.fixture
def app(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    monkeypatch.setattr(app_module, "ROUTES", tuple(replace(route, endpoint=let_in) for route in ROUTES))
    yield app_with(**callers.settings)


def test_the_table_is_what_is_served_and_each_route_declares_its_policy(app: FastAPI) -> None:
    served = {(*sorted(route.methods), route.path, policy_of(route)) for route in app.routes}  # type: ignore[attr-defined]  # all are of starlette's kinds with a path
    assert served == {(route.method, route.path, route.policy) for route in ROUTES}
    assert len(app.routes) == len(ROUTES), "no route is there twice"
    assert set(OPENS) == set(OPENED_BY) == set(Policy)


async def test_each_route_lets_in_whom_its_policy_says_and_nobody_else(app: FastAPI, callers: Callers) -> None:
    for name, route in named(ROUTES):
        for kind in callers.tokens:
            status, said = await ask(app, route.method, filled(route.path), callers.headers(kind))
            expected = LET_IN if kind in OPENS[route.policy] else REFUSED.get(kind)
            expected = 401 if route.policy is Policy.SIGNED else expected
            assert status == expected, f"{name}, {kind}: {said}"


async def test_what_changes_something_is_never_open_to_a_token_that_reads() -> None:
    """A GET changes nothing; what else is open to a read token is a question, and is listed here by hand."""
    questions = {
        "/api/runtide/v1/sql", "/runs/search", "/experiments/search", "/logged-models/search", "/datasets/search",
        "/registered-models/get-latest-versions", "/experiments/search-datasets", "/artifacts/presigned-download-url",
    }  # fmt: skip
    for name, route in named(ROUTES):
        if route.policy in (Policy.READ, Policy.READ_OR_LOG) and route.method not in ("GET", "HEAD"):
            assert route.path.endswith(tuple(questions)), f"{name} is {route.policy}: does it change nothing?"


async def test_other_methods_and_unknown_paths_are_refused_to_everyone_alike(app: FastAPI, callers: Callers) -> None:
    patterns = [(route.method, compile_path(route.path)[0]) for route in ROUTES]
    for path in sorted({filled(route.path) for route in ROUTES}):
        served = {method for method, pattern in patterns if pattern.match(path)}
        for method in set(METHODS) - served:
            for kind in ("nobody", "operate"):
                status, _ = await ask(app, method, path, callers.headers(kind))
                assert status == 405, f"{method} {path}, {kind}"
    for path in ("/nothing", "/api/runtide/v1", "/api/runtide/v2/runs", "/docs", "/.env", "/api/2.0/mlflow/x"):
        for kind in ("nobody", "revoked", "operate"):
            status, said = await ask(app, "GET", path, callers.headers(kind))
            assert (status, said["error_code"]) == (404, "ENDPOINT_NOT_FOUND"), path
