"""Who may call what: every route is a row with a policy, and a route without one keeps the gateway from starting."""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from runtide_queries.api_tokens import Scope
from runtide_queries.server.access import Access, Caller
from runtide_queries.server.signed_urls import is_signed
from runtide_schemas.errors import FatalError

_POLICY = "x-runtide-policy"


class Policy(StrEnum):
    """What a caller needs. Without any token asked for (on loopback only), everyone has all of it."""

    OPEN = "open"
    """Nothing: it tells nothing about anyone's work (liveness, style sheet)."""
    READ = "read"
    """A token that may read; nothing is changed."""
    READ_OR_LOG = "read-or-log"
    """A token that may read or log: what a training job has to read as well; nothing is changed."""
    LOG = "log"
    """A token that may log: what a training job does."""
    OPERATE = "operate"
    """A token that may do everything: it changes what others will read."""
    SIGNED = "signed"
    """A URL that the gateway signed for this very method and path a while ago, for who showed a token then."""


OPENED_BY: dict[Policy, frozenset[Scope]] = {
    Policy.OPEN: frozenset(Scope),
    Policy.READ: frozenset({Scope.READ, Scope.OPERATE}),
    Policy.READ_OR_LOG: frozenset(Scope),
    Policy.LOG: frozenset({Scope.LOG, Scope.OPERATE}),
    Policy.OPERATE: frozenset({Scope.OPERATE}),
    Policy.SIGNED: frozenset(),
}
"""Scopes of tokens that open a route of each policy."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the gateway.

    Attributes:
        method, path: what it answers.
        endpoint: the handler.
        policy: who may call it.
        summary: for the API's description.
        most_body_bytes: largest request body; None is the setting ``max_body_bytes``.
        answer: type of the JSON that it answers, for the API's description.
        media: media type of an answer that is no JSON, or may be none.
        body: media type of a request body that the handler reads itself.
    """

    method: str
    path: str
    endpoint: Callable[..., Any]
    policy: Policy
    summary: str
    most_body_bytes: int | None = None
    answer: Any = None
    media: str = ""
    body: str = ""


def check(request: Request, policy: Policy) -> None:
    """Let a caller in, and remember who it is, or not.

    Raises:
        Unauthenticated: a token is needed, and none that is valid is shown.
        Forbidden: the token shown does not open the route.
    """
    if policy is Policy.OPEN:
        return
    access: Access = request.app.state.access
    if policy is Policy.SIGNED:
        if not is_signed(request):
            raise access.refuse_signature()
        return
    caller = access.caller(request)
    request.state.caller = caller
    if caller.scope not in OPENED_BY[policy]:
        raise access.refuse_scope(caller, " or ".join(sorted(OPENED_BY[policy])))


class CheckedRoute(APIRoute):
    """A route whose policy is checked before anything of the body is read.

    FastAPI reads a body before it runs dependencies: a check among those would let anyone fill the memory.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind the check of the policy that the route declares."""
        policy, answer = Policy((self.openapi_extra or {})[_POLICY]), super().get_route_handler()

        async def checked(request: Request) -> Response:
            check(request, policy)
            return await answer(request)

        return checked


def shows_full_token(request: Request) -> bool:
    """Say whether the caller of a checked route may do all that can be done, and not only what a scope opens."""
    caller: Caller = request.state.caller
    return caller.scope is Scope.OPERATE


def attach(app: FastAPI, routes: Iterable[Route]) -> None:
    """Add routes, each behind the check of its policy."""
    for route in routes:
        app.router.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            summary=route.summary,
            response_model=route.answer,
            response_class=Response if route.media and route.answer is None else JSONResponse,
            responses=_media(route),
            openapi_extra=_declared(route),
            route_class_override=CheckedRoute,
        )


def _media(route: Route) -> dict[int | str, dict[str, Any]] | None:
    if not route.media:
        return None
    return {200: {"description": route.summary, "content": {route.media: {"schema": {"type": "string"}}}}}


def _declared(route: Route) -> dict[str, Any]:
    if not route.body:
        return {_POLICY: route.policy.value}
    schema = {"type": "string", "contentMediaType": route.body}
    return {
        _POLICY: route.policy.value,
        "requestBody": {"required": True, "content": {route.body: {"schema": schema}}},
    }


def policy_of(route: BaseRoute) -> Policy | None:
    """Return the policy that a route of the app declares and is checked by, or None."""
    declared = (getattr(route, "openapi_extra", None) or {}).get(_POLICY)
    return Policy(declared) if declared is not None and isinstance(route, CheckedRoute) else None


def require_policies(app: FastAPI) -> None:
    """Refuse an app with a route that declares no policy.

    Raises:
        FatalError: it names the route.
    """
    for route in app.routes:
        if policy_of(route) is None:
            raise FatalError(f"route {getattr(route, 'path', route)!r} declares no policy; add it through attach()")
