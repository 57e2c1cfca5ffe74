"""The page that lists our own API, from its description."""

from typing import Any

from fastapi import Request
from starlette.responses import Response

from runtide_queries.server.pages.html import Markup, Node, element, join
from runtide_queries.server.pages.layout import page, section, table
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.routes.operations import described

_DESCRIPTION = f"{API}/openapi.json"


async def api_page(request: Request) -> Response:
    """List every call of the API, with its parameters and who may make it."""
    calls = [
        (method.upper(), path, operation)
        for path, operations in described(request.app)["paths"].items()
        for method, operation in operations.items()
    ]
    rows = [
        (
            element("code", f"{method} {path.removeprefix(API)}"),
            operation["summary"],
            _parameters(operation),
            operation["x-runtide-policy"],
        )
        for method, path, operation in calls
    ]
    told = element("a", "OpenAPI", href=_DESCRIPTION)
    return page(
        "API",
        "API",
        element("h1", "API"),
        element("p", join([f"Every call below {API}; described for programs as ", told, "."]), class_="sub"),
        section("Calls", table(("Call", "What it does", "Parameters", "Token"), rows, empty="None."), count=len(rows)),
    )


def _parameters(operation: dict[str, Any]) -> Markup:
    """Return the parameters that are no part of the path, with what is said of them on demand."""
    named = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
    parts: list[Node] = []
    for one in named:
        parts += [", " if parts else "", element("code", one["name"], title=one.get("description"))]
    if "requestBody" in operation:
        parts += [", " if parts else "", f"a body ({', '.join(operation['requestBody']['content'])})"]
    return element("div", *parts, class_="wide")


ROUTES = (Route("GET", "/api", api_page, Policy.READ, "Page: the API"),)
