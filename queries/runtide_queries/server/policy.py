"""Who may call what: every route is a row with a policy, and a route without one keeps the gateway from starting."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute

from runtide_queries.server.signed_urls import is_signed
from runtide_schemas.errors import FatalError

_POLICY = "x-runtide-policy"


class Policy(StrEnum):
    """What a caller needs."""

    OPEN = "open"
    """Nothing: it tells nothing about anyone's work (liveness, style sheet)."""
    READ = "read"
    """The gateway's token, when one is set."""
    LOG = "log"
    """The gateway's token or the log token, when one is set: what a training job does."""
    OPERATE = "operate"
    """The gateway's token, when one is set: it changes what others will read."""
    SIGNED = "signed"
    """A URL that the gateway signed for this very method and path a while ago, for who showed a token then."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the gateway.

    Attributes:
        method, path: what it answers.
        endpoint: the handler.
        policy: who may call it.
        summary: for the API's description.
        most_body_bytes: largest request body; None is the setting ``max_body_bytes``.
    """

    method: str
    path: str
    endpoint: Callable[..., Any]
    policy: Policy
    summary: str
    most_body_bytes: int | None = None


class Unauthenticated(Exception):
    """The caller has to show a token that opens the route."""


def _allow(_request: Request) -> None:
    """Let everyone in."""


def _require_token(request: Request) -> None:
    settings = request.app.state.settings
    _require_one_of(request, settings.token_sha256)


def _require_token_or_log_token(request: Request) -> None:
    settings = request.app.state.settings
    _require_one_of(request, settings.token_sha256, settings.log_token_sha256)


def _require_signature(request: Request) -> None:
    if not is_signed(request):
        raise Unauthenticated


def _require_one_of(request: Request, *digests: str) -> None:
    if not _shows_one_of(request, *digests):
        raise Unauthenticated


CHECKS: dict[Policy, Callable[[Request], None]] = {
    Policy.OPEN: _allow,
    Policy.READ: _require_token,
    Policy.LOG: _require_token_or_log_token,
    Policy.OPERATE: _require_token,
    Policy.SIGNED: _require_signature,
}


class CheckedRoute(APIRoute):
    """A route whose policy is checked before anything of the body is read.

    FastAPI reads a body before it runs dependencies: a check among those would let anyone fill the memory.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind the check of the policy that the route declares."""
        check, answer = CHECKS[Policy((self.openapi_extra or {})[_POLICY])], super().get_route_handler()

        async def checked(request: Request) -> Response:
            check(request)
            return await answer(request)

        return checked


def shows_full_token(request: Request) -> bool:
    """Say whether the caller may do all that the gateway's token opens, and not only what the log token does.

    Everyone may where no token is set.
    """
    return _shows_one_of(request, request.app.state.settings.token_sha256)


def attach(app: FastAPI, routes: Iterable[Route]) -> None:
    """Add routes, each behind the check of its policy."""
    for route in routes:
        app.router.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            summary=route.summary,
            response_model=None,
            openapi_extra={_POLICY: route.policy.value},
            route_class_override=CheckedRoute,
        )


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


def _shows_one_of(request: Request, *digests: str) -> bool:
    """Compare with all, always, so that the time tells nothing; nothing is asked for where no digest is set."""
    shown = hashlib.sha256(_token(request)).hexdigest()
    matches = [hmac.compare_digest(shown, digest) for digest in digests if digest]
    return any(matches) or not matches


def _token(request: Request) -> bytes:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
