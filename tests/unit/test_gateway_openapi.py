"""The description of our own API: valid, whole, and true to the route table."""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from runtide_queries.server.app import ROUTES
from runtide_queries.server.description import describe
from runtide_queries.server.policy import OPENED_BY, Policy
from runtide_queries.server.routes import API
from tests.openapi_answers import Described
from tests.unit.test_queries_routes import app_with

OWN = [route for route in ROUTES if route.path.startswith(f"{API}/")]


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return describe(app_with())


def operation_of(description: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = description["paths"][path.replace(":path", "")][method.lower()]
    return found


def test_it_is_valid_openapi(description: dict[str, Any]) -> None:
    validate(description)
    assert description["openapi"].startswith("3.1")


def test_each_route_of_ours_is_described_with_its_policy_and_nothing_else_is(description: dict[str, Any]) -> None:
    described = {
        (method.upper(), path, operation["x-runtide-policy"])
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    }
    assert described == {(route.method, route.path.replace(":path", ""), route.policy.value) for route in OWN}


@pytest.mark.parametrize("route", OWN, ids=lambda route: f"{route.method} {route.path}")
def test_answers_bodies_errors_and_access_are_said(description: dict[str, Any], route: Any) -> None:
    operation = operation_of(description, route.method, route.path)
    content = operation["responses"]["200"]["content"]
    schemas = [told.get("schema") for told in content.values()]
    assert schemas
    assert all(schemas), "an answer without a schema says nothing: give the route its answer, or media"
    assert (route.answer is not None) == ("application/json" in content)
    assert operation["summary"]
    assert operation["description"]
    assert {"400", "403", "default"} <= operation["responses"].keys()
    assert "422" not in operation["responses"]
    assert ("404" in operation["responses"]) == ("{" in route.path)
    assert ("401" in operation["responses"]) == (route.policy is not Policy.OPEN)
    assert bool(operation["security"]) == (route.policy not in (Policy.OPEN, Policy.SIGNED))
    assert ("requestBody" in operation) == (route.method in {"POST", "PUT"})
    for scope in OPENED_BY[route.policy] if route.policy is not Policy.OPEN else ():
        assert scope.value in operation["description"].rpartition("scopes: ")[2]
    for parameter in operation.get("parameters", ()):
        assert parameter["schema"]


def test_no_schema_is_told_that_nothing_refers_to(description: dict[str, Any]) -> None:
    text = json.dumps(description)
    for name in description["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name
    assert "422" not in text


def test_floats_of_answers_may_be_no_numbers_and_those_of_requests_may_not(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    assert {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]} in schemas["Point"]["properties"]["value"][
        "anyOf"
    ]
    assert schemas["Retry"]["properties"]["wait"]["type"] == "number"


def test_what_judges_answers_finds_what_is_wrong(description: dict[str, Any]) -> None:
    described, json_type = Described(description), "application/json"

    def faults(status: int, media: str, body: Any) -> list[str]:
        return described.faults("GET", f"{API}/health", status, media, body)

    assert faults(200, json_type, {"status": "ok"}) == []
    assert faults(200, json_type, {}) != []
    assert faults(200, json_type, {"status": 1}) != []
    assert faults(200, json_type, {"status": "ok", "more": 1}) != []
    assert faults(201, json_type, {"status": "ok"}) == ["status 201 is not described"]
    assert faults(200, "text/html", "") != []
    assert faults(400, json_type, {"error_code": "X"}) != []
    assert faults(418, json_type, {"error_code": "X", "message": "y"}) == []
