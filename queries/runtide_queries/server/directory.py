"""The short way to routes whose path has no parameters and whose handler takes the request as it is.

FastAPI tries one route after the other and works out what to call a handler with; of calls that cost less than that (MLflow's
logging calls) it would be most of the work. The route's policy is checked here as there, and errors are answered alike.
"""

import inspect
from collections.abc import Iterable

from fastapi import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from runtide_queries.server.policy import CheckedRoute, check, policy_of


class Directory:
    """ASGI application in front of the router."""

    def __init__(self, router: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._router = router
        self._known = {
            (method, route.path): (route, policy)
            for route in routes
            if isinstance(route, CheckedRoute) and (policy := policy_of(route)) is not None and _is_plain(route)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a known path, and leave all else to the router."""
        found = self._known.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self._router(scope, receive, send)
            return
        route, policy = found
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        request = Request(scope, receive, send)
        check(request, policy)
        response = await route.endpoint(request)
        await response(scope, receive, send)


def _is_plain(route: CheckedRoute) -> bool:
    parameters = list(inspect.signature(route.endpoint).parameters.values())
    alone = len(parameters) == 1 and parameters[0].annotation is Request
    return alone and "{" not in route.path and inspect.iscoroutinefunction(route.endpoint)
