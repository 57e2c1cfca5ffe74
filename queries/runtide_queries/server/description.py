"""The description of our own API (OpenAPI 3.1): what FastAPI knows of the routes, and what it does not know of our answers.

Floats that are no numbers are text on our wire, errors have MLflow's form and come as 400 where FastAPI has 422, a moment is told where
one was asked for, and each route says its policy.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from runtide_queries.server.policy import OPENED_BY, Policy, policy_of
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import AsOf, Problem

_REFERENCE = "#/components/schemas/"
_NOT_FINITE = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}
_ERRORS = {
    "400": "The request cannot be; the message says why.",
    "401": "A token is needed, or the one shown is unknown, expired or revoked.",
    "403": "The token does not open this, or the request comes from another site or host name.",
    "404": "What the path names does not exist.",
    "413": "The body is too large.",
    "429": "Too many at a time.",
    "503": "A store or the log is away; try again.",
    "default": "Any other error.",
}
_ALSO: dict[str, dict[str, Any]] = {
    "/requests/{request_id}/answer": {"204": {"description": "There is no answer yet."}},
    "/ready": {
        "503": {
            "description": "Something is away; the answer says what.",
            "content": {"application/json": {"schema": {"$ref": f"{_REFERENCE}Readiness"}}},
        }
    },
}
"""What GETs of some paths answer besides."""
_ALWAYS = ("400", "403", "default")
_ABOUT = (
    "Runs, metrics, models and deployments, read from the projections of an event log, and the events themselves. MLflow's API is "
    "served beside this one, at /api/2.0/mlflow, and described by MLflow. Integers have 64 bits; NaN and infinities are text."
)


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of every route of ours."""
    routes = [route for route in app.routes if getattr(route, "path", "").startswith(f"{API}/")]
    found = get_openapi(title="Runtide", version=version("runtide"), description=_ABOUT, routes=routes)
    schemas: dict[str, Any] = found.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _add_schemas(schemas, (Problem, AsOf))
    found["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API token: `runtide token create`."},
        "basic": {"type": "http", "scheme": "basic", "description": "Any user name, and the token as password."},
    }
    found["components"]["responses"] = {
        name: {"description": text, "content": {"application/json": {"schema": {"$ref": f"{_REFERENCE}Problem"}}}}
        for name, text in _ERRORS.items()
    }
    for path, also in _ALSO.items():
        found["paths"][API + path]["get"]["responses"] |= also
    for route in routes:
        [method] = route.methods  # type: ignore[attr-defined]  # attach() makes no other
        _complete(found["paths"][route.path_format][method.lower()], policy_of(route) or Policy.OPERATE)  # type: ignore[attr-defined]
    for name in _answered(found, schemas):
        _admit_not_finite(schemas[name])
    return found


def _complete(operation: dict[str, Any], policy: Policy) -> None:
    """Say what an operation answers besides what it is for, and to whom."""
    answers = operation["responses"]
    answers.pop("422", None)
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    wanted = [*_ALWAYS]
    wanted += ["404"] if "path" in places else []
    wanted += ["413"] if "requestBody" in operation else []
    if policy is not Policy.OPEN:
        wanted += ["401", "503"]
        scopes = ", ".join(sorted(OPENED_BY[policy]))
        needs = f"Needs a token with one of the scopes: {scopes}." if scopes else "Needs a URL that the gateway signed."
        operation["description"] = f"{operation.get('description', '')}\n\n{needs}".strip()
    for name in sorted(wanted):
        answers.setdefault(name, {"$ref": f"#/components/responses/{name}"})
    operation["security"] = [] if policy in (Policy.OPEN, Policy.SIGNED) else [{"bearer": []}, {"basic": []}]
    if any(parameter["name"] == "at" for parameter in operation.get("parameters", ())):
        told = answers["200"]["content"]["application/json"]
        moment = {"type": "object", "properties": {"as_of": {"$ref": f"{_REFERENCE}AsOf"}}}
        told["schema"] = {"allOf": [told["schema"], moment]}


def _add_schemas(schemas: dict[str, Any], models: Iterable[type[BaseModel]]) -> None:
    for model in models:
        schemas[model.__name__] = model.model_json_schema(ref_template=f"{_REFERENCE}{{model}}")


def _answered(found: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of the schemas that answers are made of."""
    operations = (operation for path in found["paths"].values() for operation in path.values())
    pending = {name for operation in operations for name in _references(operation["responses"])} & schemas.keys()
    known: set[str] = set()
    while pending:
        name = pending.pop()
        known.add(name)
        pending |= {other for other in _references(schemas[name]) if other in schemas} - known
    return known


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.removeprefix(_REFERENCE)
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _admit_not_finite(node: Any) -> None:
    """Let every float of a schema be text where it is no number."""
    if isinstance(node, list):
        for child in node:
            _admit_not_finite(child)
    elif isinstance(node, dict):
        for child in node.values():
            _admit_not_finite(child)
        if node.get("type") == "number":
            del node["type"]
            node["anyOf"] = [{"type": "number"}, _NOT_FINITE]
