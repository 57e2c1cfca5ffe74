"""What every request passes first, whatever its path: host, origin, path and size; and what every answer carries.

A page of another site can make a browser send requests to loopback (CSRF) or, by DNS rebinding, even read the answers; the
host allow-list and the origin check close both, on all paths alike (CVE-2025-14279 and CVE-2026-2611 were path lists).
"""

import asyncio
import logging
import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtide_queries.server.answers import Json, refusal
from runtide_schemas.errors import InvalidRequest

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_ADDED_HEADERS = [
    (name.encode(), value.encode()) for name, value in (SAFE_HEADERS | {"cache-control": "no-store"}).items()
]
_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\]")
_MAX_PATH_LENGTH = 4_096
_log = logging.getLogger(__name__)


class Safety:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], most_body_bytes: Callable[[Scope], int], body_gap_s: float
    ) -> None:
        """``most_body_bytes`` returns the largest body that a request may have; ``body_gap_s``: longest silence inside one."""
        self._app = app
        self._hosts = hosts
        self._most_body_bytes = most_body_bytes
        self._body_gap_s = body_gap_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what is not safe, pass on the rest, add the headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "no WebSocket is served here"})
            return
        answer, most = _Answer(send), self._most_body_bytes(scope)
        if refused := self._refused(scope, most):
            await refused(scope, receive, answer.send)
            return
        try:
            limited = _Limited(receive, most, self._body_gap_s)
            await self._app(scope, limited, answer.send)
        except Exception:  # the last line: whatever went wrong inside, the caller gets an answer without inner details
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.started:
                raise
            await refusal("INTERNAL_ERROR", "internal error; the gateway's log has the details")(
                scope, receive, answer.send
            )

    def _refused(self, scope: Scope, most: int) -> Json | None:
        headers = Headers(scope=scope)
        return (
            self._check_host(headers)
            or _check_site(headers, scope["method"])
            or _check_path(scope["path"])
            or _check_length(headers, most)
        )

    def _check_host(self, headers: Headers) -> Json | None:
        found = headers.getlist("host")
        if len(found) == 1 and _host_name(found[0]) in self._hosts:
            return None
        return refusal(
            "PERMISSION_DENIED",
            f"Host {', '.join(found)[:100]!r} is not served here; call us by localhost, or add the name to "
            "RUNTIDE_GATEWAY_ALLOWED_HOSTS",
        )


def _check_length(headers: Headers, most: int) -> Json | None:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) <= most:
        return None
    return refusal("INVALID_PARAMETER_VALUE", f"a body has at most {most} bytes", status=413)


def _check_site(headers: Headers, method: str) -> Json | None:
    """Refuse requests that another site's page made, except opening one of our pages by a link."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return refusal("PERMISSION_DENIED", f"requests from pages of {origin[:100]!r} are not accepted")
    site = headers.get("sec-fetch-site", "none")
    followed_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if site not in {"none", "same-origin"} and not followed_link:
        return refusal("PERMISSION_DENIED", "requests from pages of other sites are not accepted")
    return None


def _check_path(path: str) -> Json | None:
    """Refuse paths that could be read as another path. The server has decoded it, once; nobody decodes it again."""
    segments = path.split("/")[1:]
    if (
        len(path) > _MAX_PATH_LENGTH
        or not path.startswith("/")
        or _FORBIDDEN_IN_PATH.search(path)
        or any(segment in {".", ".."} for segment in segments)
        or "" in segments[:-1]
    ):
        return refusal(
            "INVALID_PARAMETER_VALUE", "Invalid path: no empty or dot segments, backslashes or control bytes"
        )
    return None


def _host_name(host: str) -> str:
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower()


class _Limited:
    """Counts a body as it comes in, as a chunked one has no length to look at beforehand; ends the wait for one that stops."""

    def __init__(self, receive: Receive, most: int, gap_s: float) -> None:
        self._receive, self._left, self._most = receive, most, most
        self._gap_s: float | None = gap_s

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout(self._gap_s):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(
                408, f"nothing came of the body for {self._gap_s:g} s", headers={"Connection": "close"}
            ) from error
        if not message.get("more_body", False):
            self._gap_s = None  # what is waited for from now on is the end of the connection
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise InvalidRequest(f"a body has at most {self._most} bytes")
        return message


class _Answer:
    """Adds the headers to an answer on its way out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = message["headers"]
            named = {name.lower() for name, _ in headers}
            message["headers"] = [*headers, *(one for one in _ADDED_HEADERS if one[0] not in named)]
        await self._send(message)
