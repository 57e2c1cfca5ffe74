"""What other processes of ours may ask of the file's owner, over HTTP: queries, snapshots, health; halt and exchange of
the file, which are a rebuild's."""

import contextlib
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtide_consumers.counters import Counters
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.queries import AnswerTooLarge, Queries, QueryTimeout
from runtide_consumers.duckdb.snapshots import Snapshots
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError, InvalidRequest, RuntideError, TransientError

ARROW_STREAM = "application/vnd.apache.arrow.stream"
POSITIONS_HEADER = "X-Runtide-Positions"
MAX_BODY_BYTES = 1024 * 1024
LONGEST_HALT_S = 60.0
_STATUSES: tuple[tuple[type[RuntideError], int], ...] = (
    (AnswerTooLarge, 413),
    (QueryTimeout, 504),
    (InvalidRequest, 400),
    (TransientError, 503),
)

Positions = Mapping[TopicPartition, int]
Endpoint = Callable[[Request], Awaitable[Response]]


class QueryBody(BaseModel):
    """Body of ``POST /query``: one SELECT with ``$name`` parameters."""

    model_config = ConfigDict(extra="forbid")

    sql: str
    parameters: dict[str, Any] = {}


class HaltBody(BaseModel):
    """Body of ``POST /halt``: let the fold wait for so many seconds, or until the file is exchanged."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(gt=0, le=LONGEST_HALT_S)


class ExchangeBody(BaseModel):
    """Body of ``POST /exchange``: go on with another file of the store, by its name; ``behind``: it may lack events."""

    model_config = ConfigDict(extra="forbid")

    file: str
    behind: bool = False


def build_app(
    token: str,
    queries: Queries,
    snapshots: Snapshots,
    projection: DuckdbProjection,
    counters: Counters,
    served_hosts: frozenset[str],
    code: str,
) -> ASGIApp:
    """Return the application: every route behind the check of the host (``served_hosts``) and of the bearer token.

    ``code`` is the hash of the code that this process folds by.
    """

    async def query(request: Request) -> Response:
        body = QueryBody.model_validate_json(await request.body())
        answer = await queries.answer(body.sql, body.parameters)
        return Response(answer.body, media_type=ARROW_STREAM, headers=_headers(answer.positions))

    async def snapshot(_request: Request) -> Response:
        taken = await snapshots.take()
        found = {"path": str(taken.path.absolute()), "positions": positions_json(taken.positions)}
        return JSONResponse(found, headers=_headers(taken.positions))

    async def health(_request: Request) -> Response:
        reached = await projection.stands()
        version = projection.layout.format.version
        found = {"positions": positions_json(reached), "lag": positions_json(counters.lag), "format": version}
        return JSONResponse({**found, "code": code}, headers=_headers(reached))

    async def halt(request: Request) -> Response:
        body = HaltBody.model_validate_json(await request.body())
        reached = await projection.halt(body.seconds)
        return JSONResponse({"positions": positions_json(reached)}, headers=_headers(reached))

    async def exchange(request: Request) -> Response:
        body = ExchangeBody.model_validate_json(await request.body())
        await projection.exchange(body.file, behind=body.behind)
        reached = await projection.stands()
        return JSONResponse({"positions": positions_json(reached)}, headers=_headers(reached))

    routes = [
        Route("/query", _answering(query), methods=["POST"]),
        Route("/snapshot", _answering(snapshot), methods=["POST"]),
        Route("/health", _answering(health), methods=["GET"]),
        Route("/halt", _answering(halt), methods=["POST"]),
        Route("/exchange", _answering(exchange), methods=["POST"]),
    ]
    return _Guard(Starlette(routes=routes), token, served_hosts)


def positions_json(positions: Positions) -> dict[str, dict[str, int]]:
    """Return positions as ``{"topic": {"partition": offset}}``."""
    found: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in sorted(positions.items()):
        found.setdefault(topic, {})[str(partition)] = offset
    return found


def read_or_make_token(path: Path | None) -> str:
    """Return the token in a file; when there is none, make one and write it (mode 0600).

    Raises:
        FatalError: the file is empty.
    """
    token = secrets.token_urlsafe(32)
    if path is None:
        return token
    if path.exists():
        token = path.read_text(encoding="ascii").strip()
        if not token:
            raise FatalError(f"the token file {path} is empty; delete it to have a new token made")
        return token
    path.touch(mode=0o600)
    path.write_text(token, encoding="ascii")
    return token


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        FatalError: the port is in use, or the address is not of this machine.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise FatalError(
            f"cannot listen on {host}:{port}: {error.strerror}; change --query-host or --query-port"
        ) from error
    return sock


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the process has one owner of its end."""

    def __init__(self, app: ASGIApp) -> None:
        """Serve ``app``; stop by ``should_exit``."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=2,
                limit_concurrency=200,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class _Guard:
    """Refuses, before anything else, foreign hosts (DNS rebinding), callers without the token, and large bodies."""

    def __init__(self, app: ASGIApp, token: str, served_hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = served_hosts
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if refused := self._refusal(dict(scope["headers"])):
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Mapping[bytes, bytes]) -> Response | None:
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].lower()
        if host not in self._hosts:
            return _error(403, f"host {host[:100]!r} is not served here; add it to --query-names")
        if not secrets.compare_digest(headers.get(b"authorization", b""), self._expected):
            return _error(401, "the bearer token is missing or wrong; it is in the file of --token-file")
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length[:12]) > MAX_BODY_BYTES:
            return _error(413, f"a body needs a length of at most {MAX_BODY_BYTES} bytes")
        return None


def _answering(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ValidationError as error:
            return _error(400, f"the body is not as expected: {error}")
        except RuntideError as error:
            return _error(next((status for kind, status in _STATUSES if isinstance(error, kind)), 500), str(error))

    return answer


def _headers(positions: Positions) -> dict[str, str]:
    return {POSITIONS_HEADER: json.dumps(positions_json(positions), separators=(",", ":"))}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
