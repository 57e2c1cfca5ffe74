"""A schema registry for tests, as Confluent's REST contract describes one, with faults to order.

Compatibility is judged by Apache Avro's checker, not by ours. ``conformance/test_schema_registry.py`` runs the same tests
against this double and against a real registry, so that the double is held to what a real one does.
"""

import base64
import json
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

LEVELS = {"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error_code": code, "message": message}


@dataclass(slots=True)
class Contents:
    """What the registry holds; it outlives the server, as a registry's storage does."""

    schemas: list[str] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Rules:
    """How it behaves towards clients.

    Attributes:
        authorization: the header that it wants; empty: none.
        read_only: whether it forbids registering and setting compatibility.
        faults: raw responses to give instead, one per request; None answers nothing and closes the connection.
        delay_s: how long it takes to answer.
    """

    authorization: str = ""
    read_only: bool = False
    faults: deque[bytes | None] = field(default_factory=deque)
    delay_s: float = 0.0


class SchemaRegistryDouble:
    """A server on a loopback port that may be stopped and started again; it keeps its port and contents."""

    def __init__(self, tls: ssl.SSLContext | None = None, contents: Contents | None = None) -> None:
        self.contents, self.rules = contents or Contents(), Rules()
        self.requests: list[tuple[str, str]] = []
        self._tls = tls
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on the port that it had before, if any."""
        double = self

        class Handler(_Handler):
            registry = double

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """End it, as a crash would: nobody answers on the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def asked(self, method: str, part: str = "") -> int:
        """Return how many requests of a method had ``part`` in their path."""
        return sum(one == method and part in path for one, path in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that do not trust us, or go away, are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    registry: SchemaRegistryDouble
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gave it
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that the base class looks for

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rules = self.registry.rules
        self.registry.requests.append((self.command, self.path))
        time.sleep(rules.delay_s)
        if rules.faults:
            fault = rules.faults.popleft()
            self.wfile.write(fault or b"")
            self.close_connection = True
            return
        try:
            status, answer = 200, self._answer(body)
        except Refused as refused:
            status, answer = refused.status, refused.body
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: bytes) -> Any:
        rules = self.registry.rules
        if rules.authorization and self.headers.get("Authorization") != rules.authorization:
            raise Refused(401, 401, "Unauthorized")
        if rules.read_only and (self.command == "PUT" or self.path.endswith("/versions")):
            raise Refused(403, 40301, "User is denied operation Write on Subject")
        path = self.path.partition("?")[0]
        for method, pattern, handler in _ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                given = json.loads(body) if body else {}
                return handler(self.registry.contents, given, *map(unquote, match.groups()))
        raise Refused(404, 404, "HTTP 404 Not Found")


def _register(contents: Contents, given: Any, subject: str) -> Any:
    text = _canonical(given["schema"])
    versions = contents.subjects.get(subject, [])
    identifier = contents.schemas.index(text) + 1 if text in contents.schemas else 0
    if identifier not in versions:
        _check_compatible(contents, subject, text)
        if not identifier:
            contents.schemas.append(text)
            identifier = len(contents.schemas)
        contents.subjects.setdefault(subject, []).append(identifier)
    return {"id": identifier}


def _lookup(contents: Contents, given: Any, subject: str) -> Any:
    if subject not in contents.subjects:
        raise Refused(404, 40401, f"Subject '{subject}' not found.")
    text = _canonical(given["schema"])
    for version, identifier in enumerate(contents.subjects[subject], 1):
        if contents.schemas[identifier - 1] == text:
            return {"subject": subject, "id": identifier, "version": version, "schema": text}
    raise Refused(404, 40403, "Schema not found")


def _schema(contents: Contents, _: Any, identifier: str) -> Any:
    if not 0 < int(identifier) <= len(contents.schemas):
        raise Refused(404, 40403, f"Schema {identifier} not found")
    return {"schema": contents.schemas[int(identifier) - 1]}


def _subjects(contents: Contents, _: Any) -> Any:
    return list(contents.subjects)


def _level(contents: Contents, _: Any, subject: str) -> Any:
    if subject not in contents.levels:
        raise Refused(404, 40408, f"Subject '{subject}' does not have subject-level compatibility configured")
    return {"compatibilityLevel": contents.levels[subject]}


def _set_level(contents: Contents, given: Any, subject: str) -> Any:
    if given.get("compatibility") not in LEVELS:
        raise Refused(422, 42203, "Invalid compatibility level")
    contents.levels[subject] = given["compatibility"]
    return given


def _check_compatible(contents: Contents, subject: str, text: str) -> None:
    level = contents.levels.get(subject, "BACKWARD")
    earlier = [contents.schemas[one - 1] for one in contents.subjects.get(subject, [])]
    for other in earlier if level.endswith("TRANSITIVE") else earlier[-1:]:
        pairs = [(text, other)] * level.startswith(("BACKWARD", "FULL"))
        pairs += [(other, text)] * level.startswith(("FORWARD", "FULL"))
        for reader, writer in pairs:
            _check_reads(reader, writer, level)


def _check_reads(reader: str, writer: str, level: str) -> None:
    checker: Any = ReaderWriterCompatibilityChecker  # it has no types
    answer = checker().get_compatibility(avro.schema.parse(reader), avro.schema.parse(writer))
    if answer.compatibility is not SchemaCompatibilityType.compatible:
        why = "; ".join(sorted(answer.messages))
        raise Refused(409, 409, f"Schema being registered is incompatible with an earlier schema: {why} ({level})")


def _canonical(text: str) -> str:
    try:
        avro.schema.parse(text)
        return json.dumps(json.loads(text))
    except Exception as error:
        raise Refused(422, 42201, f"Invalid schema: {error}") from error


_ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "/subjects", _subjects),
    ("POST", "/subjects/([^/]+)/versions", _register),
    ("POST", "/subjects/([^/]+)", _lookup),
    ("GET", r"/schemas/ids/(\d+)", _schema),
    ("GET", "/config/([^/]+)", _level),
    ("PUT", "/config/([^/]+)", _set_level),
)


def basic(user: str, password: str) -> str:
    """Return the header of basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
