"""One question to the gateway after another, over one connection, asked again while nobody answers."""

import http.client
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtide.gateway.access import TLS_CA, TOKEN, GatewayAccess
from runtide.gateway.calls import GatewayAway, _refusal
from runtide.http_exchange import Response, parse_endpoint
from runtide.http_proxy import proxy_before
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound, TransientError

PATIENCE_S = 30.0
"""How long a question is asked again before it counts as failed."""
TIMEOUT_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_DRAIN_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Question:
    """A request that may be sent any number of times: asking twice does what asking once does.

    Attributes:
        method, target: what is asked; the target is quoted and begins with a slash.
        headers: besides those that show the token.
        body: makes the body, anew for each attempt.
        length: of the body in bytes.
        seconds: to wait for the answer, from the last byte sent or received.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: Callable[[], Iterable[bytes]] | None = None
    length: int = 0
    seconds: float = TIMEOUT_S


Answered = Callable[[http.client.HTTPResponse], Any]
"""Reads an answer while the connection is open."""


class Asking:
    """A conversation with one gateway; one thread at a time. It connects when it is first used, and may go on after ``close``."""

    def __init__(self, access: GatewayAccess) -> None:
        self._access = access
        self._server = parse_endpoint(access.url, "the gateway's URL", TOKEN)
        self._connection: http.client.HTTPConnection | None = None

    def json(self, question: Question) -> dict[str, Any]:
        """Return the JSON object that answers a question; see ``ask``."""
        found = json.loads(self.ask(question, lambda reply: reply.read()) or b"{}")
        return found if isinstance(found, dict) else {}

    def ask(self, question: Question, answered: Answered) -> Any:
        """Return what ``answered`` makes of the answer. It is called again when the answer broke off.

        Raises:
            NotFound: there is nothing of this name.
            TooLarge: the body is too large for it.
            InvalidRequest: the gateway refuses for another reason, which the message and ``code`` are.
            FatalError: it does not let us in, is no gateway, or is not whom we trust.
            TransientError: nobody answered for ``PATIENCE_S``, or only that it cannot for the moment.
        """
        deadline, pause = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            was_open = self._connection is not None
            try:
                return self._once(question, answered)
            except GatewayAway as error:
                if time.monotonic() > deadline:
                    raise
                was_open, least = False, error.retry_after
            except (OSError, http.client.HTTPException) as error:
                self.close()
                self._check_trust(error)
                if time.monotonic() > deadline:
                    raise TransientError(f"the gateway {self._access.url} did not answer: {error}") from error
                least = 0.0
            except (
                BaseException
            ):  # what was sent of the request, or left of the answer, would be taken for the next one's
                self.close()
                raise
            if was_open:  # it may just have been idle for too long
                continue
            spread = pause * random.uniform(0.5, 1)  # noqa: S311 - so that many clients do not come back at once
            time.sleep(max(0.0, min(least + spread, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _once(self, question: Question, answered: Answered) -> Any:
        connection = self._connection = self._connection or self._connect()
        if connection.sock is not None:
            connection.sock.settimeout(question.seconds)
        connection.timeout = question.seconds
        headers = {**self._access.headers, **question.headers, "Content-Length": str(question.length)}
        target = self._server.prefix + question.target
        if not self._server.secure and (proxy := proxy_before(self._server)) is not None:
            target, headers = f"{self._access.url}{question.target}", headers | proxy.headers
        try:
            body = question.body() if question.body else None
            connection.request(question.method, target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock is None:
                raise
            # It may have refused before it had read all: then its answer is there to read.
            reply = connection.response_class(connection.sock, method=question.method)
            reply.begin()
        else:
            reply = connection.getresponse()
        if reply.status >= 300:
            self._refused(f"{question.method} {question.target.partition('?')[0]}", reply)
        result = answered(reply)
        if reply.read(_DRAIN_BYTES) or reply.will_close:
            self.close()
        return result

    def _connect(self) -> http.client.HTTPConnection:
        server, context = self._server, self._access.tls_context()
        proxy = proxy_before(server)
        host, port = (server.host, server.port) if proxy is None else (proxy.host, proxy.port)
        if context is None:
            return http.client.HTTPConnection(host, port)
        connection = http.client.HTTPSConnection(host, port, context=context)
        if proxy is not None:
            connection.set_tunnel(server.host, server.port, proxy.headers)
        return connection

    def _refused(self, what: str, reply: http.client.HTTPResponse) -> None:
        headers = {name.lower(): value for name, value in reply.getheaders()}
        response = Response(reply.status, reply.read(_DRAIN_BYTES), headers)
        self.close()
        message, code = _said(response.body)
        if reply.status == 404 and code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(message)
        if reply.status == 501:  # it will never do this, unlike what else it says from 500 on
            raise InvalidRequest(
                f"the gateway {self._access.url} refuses: {message or reply.reason}", code or "NOT_IMPLEMENTED"
            )
        error = _refusal(self._access.url, what, response)
        raise InvalidRequest(str(error), code or "BAD_REQUEST") if type(error) is InvalidRequest else error

    def _check_trust(self, error: Exception) -> None:
        if type(error).__name__ == "SSLCertVerificationError":  # by name: plain HTTP does without the module
            raise FatalError(
                f"the gateway {self._access.url} shows a certificate that is not trusted: {error}; set {TLS_CA}"
            ) from error


def _said(body: bytes) -> tuple[str, str]:
    """Return message and code of a refusal; both are empty when it is not in the gateway's form."""
    try:
        said = json.loads(body)
        return str(said["message"]), str(said["error_code"])
    except (ValueError, KeyError, TypeError):
        return "", ""
