"""A server that speaks MLflow's REST API, and a plain HTTP client that sends exactly what a case says."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.mlflow_rest.case import Call

_SECONDS = 60
_TIMES_BUSY = 5


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class Server:
    """One server, and the entities on it that cases share. Threads may use it at once; each has a connection of its own."""

    def __init__(self, url: str) -> None:
        """``url``: where it listens, without a path."""
        self._netloc = urlsplit(url).netloc
        self._of_thread = threading.local()
        self._making = threading.RLock()
        self._shared: dict[str, str] = {}
        self._settings: dict[str, dict[str, str]] = {}

    def send(self, call: Call) -> Answer:
        """Send a call as it is: no header or escape is added. As MLflow's client does, ask again where the server is busy (503)."""
        for _ in range(_TIMES_BUSY):
            if (answer := self._sent(call)).status != 503:
                break
            time.sleep(1)
        return answer

    def _sent(self, call: Call) -> Answer:
        try:
            return self._exchanged(self._connection(), call)
        except (ConnectionError, HTTPException):
            # A server may close an idle connection at any time; what fails on a new one is the server's.
            self.close()
            return self._exchanged(self._connection(), call)

    def shared(self, name: str, make: Callable[[], str]) -> str:
        """Return the entity that is shared under a name; ``make`` makes it when it is first asked for."""
        with self._making:
            if name not in self._shared:
                self._shared[name] = make()
            return self._shared[name]

    def setting(self, name: str, make: Callable[[], dict[str, str]]) -> dict[str, str]:
        """Return what the calls of a setting saved; ``make`` performs them when it is first asked for."""
        with self._making:
            if name not in self._settings:
                self._settings[name] = make()
            return self._settings[name]

    def close(self) -> None:
        """Close this thread's connection."""
        self._connection().close()
        del self._of_thread.connection

    def _connection(self) -> HTTPConnection:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = HTTPConnection(self._netloc, timeout=_SECONDS)
        found: HTTPConnection = self._of_thread.connection
        return found

    def _exchanged(self, connection: HTTPConnection, call: Call) -> Answer:
        connection.request(call.verb, call.target, call.body, dict(call.sent_headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
