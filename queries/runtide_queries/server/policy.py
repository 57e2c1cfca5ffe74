"""Who may call what: every route is a row with a policy, and a route without one keeps the gateway from starting."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import Depends, FastAPI, Request
from starlette.routing import BaseRoute

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


def _require_one_of(request: Request, *digests: str) -> None:
    if not any(digests):
        return
    shown = hashlib.sha256(_token(request)).hexdigest()
    matches = [hmac.compare_digest(shown, digest) for digest in digests if digest]
    if not any(matches):
        raise Unauthenticated


CHECKS: dict[Policy, Callable[[Request], None]] = {
    Policy.OPEN: _allow,
    Policy.READ: _require_token,
    Policy.LOG: _require_token_or_log_token,
    Policy.OPERATE: _require_token,
}


def attach(app: FastAPI, routes: Iterable[Route]) -> None:
    """Add routes, each behind the check of its policy."""
    for route in routes:
        app.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            summary=route.summary,
            dependencies=[Depends(CHECKS[route.policy])],
            response_model=None,
            openapi_extra={_POLICY: route.policy.value},
        )


def policy_of(route: BaseRoute) -> Policy | None:
    """Return the policy that a route of the app declares and is checked by, or None."""
    declared = (getattr(route, "openapi_extra", None) or {}).get(_POLICY)
    if declared is None:
        return None
    policy = Policy(declared)
    checks = {dependency.dependency for dependency in getattr(route, "dependencies", [])}
    return policy if CHECKS[policy] in checks else None


def require_policies(app: FastAPI) -> None:
    """Refuse an app with a route that declares no policy.

    Raises:
        FatalError: it names the route.
    """
    for route in app.routes:
        if policy_of(route) is None:
            raise FatalError(f"route {getattr(route, 'path', route)!r} declares no policy; add it through attach()")


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
